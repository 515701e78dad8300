"""Processes of this machine, as tests look at them."""

from __future__ import annotations

import psutil


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie: those of a parent that was killed are init's to reap, in its time."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
