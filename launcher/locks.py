"""Locks that end with the process that holds them, whatever ends it: a kill and a power cut leave none behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from launcher.errors import LauncherError

LOOK_S = 1.0
"""Whoever only looks holds a lock for an instant; whoever works holds it for longer than this."""


def try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Lock an open file if nobody else holds it; a shared lock only looks."""
    try:
        import fcntl
    except ImportError:
        raise LauncherError("Sessions on this machine and relays need Linux or macOS.") from None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def hold(path: Path, refusal: LauncherError) -> Iterator[None]:
    """Hold the lock at `path`, our process id in it; raises `refusal` when another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        until = time.monotonic() + LOOK_S
        while not try_lock(file):
            if time.monotonic() > until:
                raise refusal
            time.sleep(0.02)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(path: Path) -> int | None:
    """The process that holds the lock at `path`, or None."""
    try:
        with path.open("r", encoding="utf-8") as file:
            return None if try_lock(file, shared=True) else int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        return None
