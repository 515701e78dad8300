"""The processes of a session's environments: whatever a trainer starts, and what that starts, ends with it.

The parent becomes the reaper of its orphans (`PR_SET_CHILD_SUBREAPER`), so that a process which left the trainer's
group, or whose own parent is gone, is a descendant of the parent still. All of these are the trainer's but for what
the parent started for itself. Nothing else on the machine is ever touched.

A guard (`kernel/processes.py`) is for a parent that is killed and can end nothing any more. Linux has all of this;
elsewhere only the trainer's own process group is ended. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel import processes as all_processes
from kernel.processes import KILL_SECONDS, LOOK_SECONDS, PROC, ZOMBIE, Process, below, names, processes, send

logger = logging.getLogger(__name__)

MARK = "KAGLAUNCH_TREE"
"""Variable of the trainer, inherited by what it starts, by which a guard knows them."""
GRACE_SECONDS = 2.0
"""What a process has after SIGTERM, before it is killed."""
REAP_SECONDS = 10.0
_PR_SET_CHILD_SUBREAPER = 36


def threads(pid: int) -> list[str]:
    """Number, name, state and place in the system of each thread of a process: what a dump of its own cannot show."""
    found = []
    for name in sorted(names(PROC / str(pid) / "task"), key=int):
        task = PROC / str(pid) / "task" / name
        with contextlib.suppress(OSError, IndexError):
            state = (task / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
            place = (task / "wchan").read_text("utf-8", "replace").strip()
            called = (task / "comm").read_text("utf-8", "replace").strip()
            found.append(" ".join([name, called, state, *([place] if place != "0" else [])]))
    return found


class ProcessTree:
    """What this process started, itself and through its trainers."""

    def __init__(self) -> None:
        self.why_not_whole = "its parent does not adopt orphans"
        """Why a process that left the trainer's group may be missed; empty where none is."""
        self.mark = secrets.token_hex(16)
        self._before = {process.key for process in processes().values() if process.parent == os.getpid()}
        self._own: list[subprocess.Popen[Any]] = []
        self._trainer: subprocess.Popen[Any] | None = None
        self._starting = threading.Lock()
        self._reaped_at = float("-inf")

    def adopt_orphans(self) -> None:
        """Become the parent of every descendant whose own parent ends; `why_not_whole` says where that is not so."""
        try:
            done = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        except (OSError, AttributeError):
            done = False
        self.why_not_whole = "" if done and processes() else f"{sys.platform} has no way to find it"
        if self.why_not_whole:
            logger.info("What leaves the trainer's process group is not ended with it: %s.", self.why_not_whole)

    def guard(self) -> None:
        """Have everything marked killed when this process is gone, in whatever way."""
        command = [sys.executable, "-I", "-S", str(Path(all_processes.__file__).resolve()), MARK, self.mark]
        try:
            self.start_own(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            logger.warning("No guard could be started (%s): what the environments start may outlive this.", error)

    def start_own(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process of the parent's own, which no trainer's end concerns; `options` as of `Popen`."""
        with self._starting:  # a look at the tree in between would not know it yet
            process = subprocess.Popen(command, **options)
            self._own.append(process)
        return process

    def start_trainer(self, command: list[str], environment: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a trainer in a process group of its own."""
        environment = {**environment, MARK: self.mark}
        self._trainer = subprocess.Popen(command, env=environment, process_group=0, **options)
        return self._trainer

    def reap(self, now: float) -> None:
        """Take the exit status of adopted processes that ended by themselves: a long run would collect zombies."""
        if now - self._reaped_at < REAP_SECONDS:
            return
        self._reaped_at = now
        with self._starting:
            known = processes()
            adopted = {pid for pid in self._theirs(known) if known[pid].parent == os.getpid()}
            waited_for = (
                {self._trainer.pid} if self._trainer is not None and self._trainer.returncode is None else set()
            )
        for pid in adopted - waited_for:
            if known[pid].state == ZOMBIE:
                _reap(pid)

    def end(self, grace_s: float = GRACE_SECONDS) -> int:
        """End the trainer's tree, which is asked for `grace_s` and then killed; how many processes that were.

        All of them are reaped when this returns, but for one that the system itself holds: that is logged.
        """
        trainer = self._trainer
        group = None if trainer is None else trainer.pid
        if not processes():
            self._end_group(group, grace_s)
            return 0
        asked: dict[tuple[int, int], Process] = {}
        began = time.monotonic()
        while alive := self._alive(group, asked):
            group = None  # its number may belong to others as soon as its last member is gone
            waited = time.monotonic() - began
            if waited > grace_s + KILL_SECONDS:
                numbers = ", ".join(f"{process.pid} ({process.state})" for process in alive)
                logger.warning("Processes that the trainer left cannot be ended: %s.", numbers)
                break
            for process in alive:
                if waited >= grace_s:
                    send(process.pid, signal.SIGKILL)
                elif process.key not in asked:
                    send(process.pid, signal.SIGTERM)
                    send(process.pid, signal.SIGCONT)  # a stopped one would hear of nothing
                asked[process.key] = process
            time.sleep(LOOK_SECONDS)
        self._trainer = None
        return len(asked)

    def _alive(self, group: int | None, asked: dict[tuple[int, int], Process]) -> list[Process]:
        """Processes of the trainer's that are there, with those `asked` before; zombies among them are reaped."""
        with self._starting:
            known = processes()
            roots = self._theirs(known)
        roots |= {p.pid for p in known.values() if p.key in asked or p.group == group}
        found = [known[pid] for pid in roots | below(roots, known)]
        for process in found:
            if process.state == ZOMBIE and process.parent == os.getpid():
                _reap(process.pid)
        if self._trainer is not None:
            self._trainer.poll()
        return [process for process in found if process.state != ZOMBIE]

    def _theirs(self, known: dict[int, Process]) -> set[int]:
        """Descendants of this process that are no own ones, nor came from those."""
        own = {process.pid for process in self._own if process.returncode is None}
        own |= {process.pid for process in known.values() if process.key in self._before}
        return below([os.getpid()], known, own)

    def _end_group(self, group: int | None, grace_s: float) -> None:
        """All that can be ended where the system does not tell of processes."""
        if group is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            until = time.monotonic() + grace_s
            while time.monotonic() < until:
                os.killpg(group, 0)  # raises when the last one is gone
                time.sleep(LOOK_SECONDS)
            os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def ended_after() -> Iterator[None]:
    """End at last what this process starts inside: for one that trains without a parent."""
    tree = ProcessTree()
    tree.adopt_orphans()
    tree.guard()
    os.environ[MARK] = tree.mark
    try:
        yield
    finally:
        del os.environ[MARK]
        tree.end()


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
