"""The folders of this user that kaglaunch writes to; each honours the XDG variables."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_APP = "kaglaunch"


def state_dir() -> Path:
    """Ledger and embedded Kaggle."""
    return platformdirs.user_state_path(_APP, appauthor=False)


def cache_dir() -> Path:
    """What can be fetched again: wheels."""
    return platformdirs.user_cache_path(_APP, appauthor=False)
