"""The folders of this user that kaglaunch writes to; each honours the XDG variables."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "kaglaunch"


def state_dir() -> Path:
    """Ledger and embedded Kaggle."""
    return platformdirs.user_state_path(_APP, appauthor=False)


def cache_dir() -> Path:
    """What can be made again: wheels, what trials found, compiled kernels."""
    return platformdirs.user_cache_path(_APP, appauthor=False)


def compiled_kernels() -> dict[str, str]:
    """The variable that has a training on this machine find the kernels which another one compiled (see arz_model).

    Where the user has set it, that folder.
    """
    name = "ARZ_MODEL_CACHE_DIR"
    return {name: os.environ.get(name) or str(cache_dir() / "compiled")}
