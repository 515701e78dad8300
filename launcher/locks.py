"""Locks that end with the process that holds them, whatever ends it: a kill and a power cut leave none behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from kernel.contract.files import write_aside
from launcher.errors import LauncherError

LOOK_S = 1.0
"""Whoever only looks holds a lock for an instant; whoever works holds it for longer than this."""
GLANCE_S = 0.1
"""How long a look waits for another look to be over."""
POLL_S = 0.01


@contextlib.contextmanager
def hold(path: Path, refusal: LauncherError) -> Iterator[None]:
    """Hold the lock at `path`, our process id beside it; raises `refusal` when another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOOK_S, poll_interval=POLL_S)
    except Timeout:
        raise refusal from None
    try:
        write_aside(_process(path), str(os.getpid()).encode())
        yield
    finally:
        lock.release()


def holder(path: Path) -> int | None:
    """The process that holds the lock at `path`, or None; 0 where it has not said who it is."""
    if not path.exists():
        return None
    try:
        with FileLock(path).acquire(timeout=GLANCE_S, poll_interval=POLL_S):
            return None
    except Timeout:
        pass
    try:
        return int(_process(path).read_text("utf-8"))
    except (OSError, ValueError):
        return 0


def _process(path: Path) -> Path:
    """Where the process id is: Windows lets nobody else read a locked file."""
    return path.with_suffix(".pid")
