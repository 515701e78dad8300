"""The processes of this machine, as the system tells them, and those that bear a mark in their environment.

    python processes.py VARIABLE MARK     a guard: when its input ends, kills what has MARK in that variable

Linux has all of this; elsewhere there are none to be seen. Standard library only, and alone in its file: a guard is
started by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KILL_SECONDS = 5.0
"""How long killed processes are waited for: one in the midst of a device's work ends after it."""
LOOK_SECONDS = 0.02
ZOMBIE = "Z"
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process, as the system tells it: its number may be given to another one later, with its start it is not."""

    pid: int
    parent: int
    group: int
    started: int
    """Clock ticks after the machine's start."""
    state: str

    @property
    def key(self) -> tuple[int, int]:
        """What no other process ever has."""
        return self.pid, self.started


def processes() -> dict[int, Process]:
    """All processes by number; none where the system does not tell."""
    found = (_process(int(name)) for name in names(PROC) if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def below(roots: Iterable[int], among: dict[int, Process], without: Iterable[int] = ()) -> set[int]:
    """Descendants of `roots`, which are none themselves; those of `without`, and they, left out."""
    children: dict[int, list[int]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process.pid)
    left_out, found, looked_at = set(without), set(), list(roots)
    while looked_at:
        for pid in children.get(looked_at.pop(), ()):
            if pid not in left_out and pid not in found:
                found.add(pid)
                looked_at.append(pid)
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send it a signal, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def marked(variable: str, mark: str) -> set[int]:
    """Processes that have `mark` in that variable of the environment that they began with."""
    wanted, found = f"{variable}={mark}".encode(), set()
    for name in names(PROC):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (PROC / name / "environ").read_bytes().split(b"\0"):
                    found.add(int(name))
    return found


def kill_marked(variable: str, mark: str) -> None:
    """Kill them and their descendants, until none is left or KILL_SECONDS are over."""
    until = time.monotonic() + KILL_SECONDS
    while (roots := marked(variable, mark)) and time.monotonic() < until:
        for pid in roots | below(roots, processes()):
            send(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def _process(pid: int) -> Process | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return Process(pid, int(fields[1]), int(fields[2]), int(fields[19]), fields[0])
    except (OSError, ValueError, IndexError):
        return None  # it is gone


def names(folder: Path) -> list[str]:
    """What is in a folder of the system's; nothing where there is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdin.buffer.read()
    kill_marked(*sys.argv[1:3])
