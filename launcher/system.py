"""What the system can do: launching on kaggle.com asks for nothing special, sessions on this machine for POSIX."""

from __future__ import annotations

import importlib.util
import os
import platform

from launcher.errors import TrainingMissing

NEEDED = ("killpg", "setsid", "fork")
WHY = "process groups, and locks that outlive the command that took them"
"""What a session on this machine stands on, and only POSIX has."""


def has_posix() -> bool:
    """Whether sessions can run on this machine."""
    return all(hasattr(os, name) for name in NEEDED) and importlib.util.find_spec("fcntl") is not None


def require_posix(asked: str, otherwise: str) -> None:
    """Raise TrainingMissing where `asked` cannot be: sessions on this machine need POSIX. `otherwise` says what can."""
    if not has_posix():
        raise TrainingMissing(f"{asked} needs Linux or macOS ({WHY}), and this is {platform.system()}.\n{otherwise}")
