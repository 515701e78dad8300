"""Ends what a test process leaves behind when it is killed: `reaper.py FOLDER PID`, its input held by that process.

Servers, sessions and trainers have sessions and parents of their own, so no group and no parent ends them. All of them
name the folder of the tests that started them, in their environment or their command.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import psutil

ROUNDS = 20
"""Looks at most, since what is ended may have started another process just before."""


def processes_of(folder: str) -> list[psutil.Process]:
    """Processes that name `folder` or what lies in it, this one left out."""
    named = re.compile(re.escape(folder) + r"(?![\w.-])")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != psutil.Process().pid and any(named.search(word) for word in words):
                found.append(process)
    return found


def main(folder: str, pid: str) -> None:
    """Wait for the end of the input, then kill."""
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        if not (left := [process for process in processes_of(folder) if process.status() != psutil.STATUS_ZOMBIE]):
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
    for group in Path("/sys/fs/cgroup").glob(f"**/kaglaunch-test-{pid}"):
        with contextlib.suppress(OSError):
            group.rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
