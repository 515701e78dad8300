"""Locks that end with the process that holds them, whatever ends it: a kill and a power cut leave none behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kernel.contract.files import write_aside
from launcher.errors import LauncherError

if TYPE_CHECKING:
    from filelock import FileLock  # loaded where a lock is taken: a look around takes none

PATIENCE_S = 10.0
"""How long a lock is waited for that nobody says to hold who lives here: a look after a kill takes it for an instant,
which may be long on a busy machine; a process of another container keeps it."""
TURN_S = 30.0
"""How long an instant may last that several processes have one after the other."""
POLL_S = 0.01


@contextlib.contextmanager
def hold(path: Path, refusal: LauncherError) -> Iterator[None]:
    """Hold the lock at `path`, our process id beside it; raises `refusal` when another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, until = _lock(path), time.monotonic() + PATIENCE_S
    while not _taken(lock):
        if _lives(_named(path)) or time.monotonic() > until:
            raise refusal
        time.sleep(POLL_S)
    try:
        write_aside(_process(path), str(os.getpid()).encode())
        yield
    finally:
        _forget(path)
        lock.release()


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock at `path` for an instant, once it is free.

    Raises
    ------
    TimeoutError
        Whoever holds it does not let go: it was stopped in that instant.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path).acquire(timeout=TURN_S, poll_interval=POLL_S):
        yield


@contextlib.contextmanager
def after_others(path: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Hold the lock at `path` once whoever has it is done, however long that takes; `waits` is called where it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    if not _taken(lock):
        waits()
        lock.acquire(poll_interval=POLL_S)
    try:
        yield
    finally:
        lock.release()


def holder(path: Path) -> int | None:
    """The process that says it holds the lock at `path`, and does; or None.

    The lock itself is tried only where a process has said so: whoever looks is in nobody's way.
    """
    until = time.monotonic() + PATIENCE_S
    while (process := _named(path)) is not None:
        lock = _lock(path)
        if _taken(lock):
            _forget(path)  # it was killed
            lock.release()
            return None
        if _lives(process) or time.monotonic() > until:
            return process
        time.sleep(POLL_S)
    return None


def _lock(path: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(path)


def _taken(lock: FileLock) -> bool:
    """Take the lock, if nobody has it."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _named(path: Path) -> int | None:
    """The process that said that it holds the lock, and has not said that it is done."""
    try:
        return int(_process(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _forget(path: Path) -> None:
    """Take back who holds the lock; only whoever has it may. A name that stays is harmless: the lock is tried."""
    with contextlib.suppress(OSError):  # Windows removes nothing that is being read
        _process(path).unlink()


def _lives(process: int | None) -> bool:
    if process is None:
        return False
    import psutil

    return psutil.pid_exists(process)


def _process(path: Path) -> Path:
    """Where the process id is: Windows lets nobody else read a locked file."""
    return path.with_suffix(".pid")
