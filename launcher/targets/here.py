"""Sessions of one run on this machine: processes that outlive the command that started them.

A session runs the script that a push would send, in the run's folder. Its output goes to a file and its process holds
a lock for as long as it lives, so any command finds out whether it runs, reads it from the first line, or ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kernel.contract.files import write_aside
from launcher import paths
from launcher.errors import BackendError, NotFound
from launcher.runs.records import Run
from launcher.targets.base import Kernel, LogLine, SessionState, Status

POLL_S = 0.1
LOCK_WAIT_S = 2.0
_SAID = re.compile(r"(WARNING|ERROR|CRITICAL) \S+: |kaglaunch: ")


class HereBusy(BackendError):
    """Raised when a session of the run is alive on this machine already."""


class HereBackend:
    """`Compute` for the sessions of `run` on this machine."""

    def __init__(self, run: Run, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._run, self._sleep = run, sleep

    @contextlib.contextmanager
    def claim(self) -> Iterator[IO[str]]:
        """Hold the only place that a session of this run has on this machine; `start` hands it to a process.

        Raises
        ------
        HereBusy
            One is alive.
        """
        self._run.folder.mkdir(parents=True, exist_ok=True)
        with self._run.here_lock.open("a+", encoding="utf-8") as lock:
            until = time.monotonic() + LOCK_WAIT_S
            while not _try_lock(lock):
                # Whoever only looks holds it for an instant; a session holds it to its end.
                if time.monotonic() > until:
                    raise HereBusy(
                        f"A session of run {self._run.run_id} runs on this machine already.\n"
                        f"Follow it with `kaglaunch watch {self._run.run_id}`, or end it with "
                        f"`kaglaunch cancel {self._run.run_id}`."
                    )
                self._sleep(0.02)
            lock.truncate(0)
            yield lock

    def push(self, kernel: Kernel) -> str:
        """Start the session in a process that outlives this one; returns the file that takes its output.

        Raises
        ------
        HereBusy
            A session of the run is alive here.
        """
        number = self._number(kernel.slug)
        with self.claim() as lock:
            shutil.rmtree(self._run.temporary, ignore_errors=True)
            self._run.temporary.mkdir(parents=True)
            write_aside(self._run.script(number), kernel.script)
            self.start(lock, number, environment(self._run.temporary))
        return str(self._run.output(number))

    def session_id(self, slug: str) -> int | None:
        """The process of that session, while it lives."""
        return self.alive(self._number(slug))

    def start(self, lock: IO[str], number: int, environ: Mapping[str, str]) -> int:
        """Start session `number` in a process group of its own, which keeps `lock`; its process id."""
        output = self._run.output(number)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            process = subprocess.Popen(
                [sys.executable, str(self._run.script(number))],
                cwd=self._run.folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps({"session": number, "pid": process.pid}))
        lock.flush()
        return process.pid

    def alive(self, number: int | None = None) -> int | None:
        """The process of the session that is alive (of session `number`), or None."""
        holder = self._holder() or {}
        return int(holder["pid"]) if holder and number in (None, holder["session"]) else None

    def state(self, slug: str) -> SessionState:
        """RUNNING while its process holds the lock; then what its result says."""
        number, holder = self._number(slug), self._holder()
        if holder == {}:
            return SessionState(Status.QUEUED)
        if holder is not None and holder["session"] == number:
            return SessionState(Status.RUNNING)
        if self._result().get("session") == number:
            return SessionState(Status.COMPLETE)
        if not self._run.output(number).exists():
            return SessionState(Status.ERROR, "It was never started.")
        return SessionState(Status.ERROR, "Its process is gone and left no result.")

    def result(self, number: int) -> str:
        """What session `number` says of its own end; empty where it says nothing."""
        found = self._result()
        return str(found.get("status", "")) if found.get("session") == number else ""

    def log_lines(self, slug: str, skip: int = 0) -> Iterator[LogLine]:
        """Its output, followed while its process lives."""
        from kernel.contract import events  # every event's class: for who reads a log

        number = self._number(slug)
        path = self._run.output(number)
        if not path.exists():
            raise NotFound(f"Session {number} of run {self._run.run_id} left no output in {path}.")
        when, count = 0.0, 0
        with path.open("r", encoding="utf-8", errors="replace", newline="\n") as file:
            for text in self._texts(file, number):
                event = events.parse(text)
                when = max(when, event.time or 0.0) if event is not None else when
                count += 1
                if count > skip:
                    stream = "stderr" if event is None and _SAID.match(text) else "stdout"
                    yield LogLine(when, stream, text)

    def cancel(self, session_id: int) -> None:
        """Ask the process `session_id` to write a last checkpoint and to end; asked twice it ends now."""
        if self.alive() != session_id:
            raise NotFound(f"No session of run {self._run.run_id} with process {session_id} is alive here.")
        os.kill(session_id, signal.SIGTERM)

    def delete(self, slug: str) -> None:
        """Kill whatever is left of the session; its files stay."""
        pid = self.alive(self._number(slug))
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def say(self, number: int, text: str) -> None:
        """Add a line of ours to the output of session `number`: whoever follows it reads it."""
        with self._run.output(number).open("ab") as output:
            output.write(f"kaglaunch: {text}\n".encode())

    def _texts(self, file: IO[str], number: int) -> Iterator[str]:
        """Whole lines; the last one may lack its end once nobody writes any more."""
        torn = ""
        while True:
            alive = self.alive(number) is not None
            while chunk := file.readline():
                torn += chunk
                if torn.endswith("\n"):
                    yield torn.rstrip("\n")
                    torn = ""
            if not alive:
                if torn:
                    yield torn
                return
            self._sleep(POLL_S)

    def _holder(self) -> dict[str, Any] | None:
        """Who holds the lock: session and process, {} while it is being started, None when nobody does."""
        try:
            with self._run.here_lock.open("r", encoding="utf-8") as lock:
                return None if _try_lock(lock, shared=True) else dict(json.loads(lock.read() or "{}"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}  # half written

    def _result(self) -> dict[str, Any]:
        try:
            found = json.loads(self._run.result.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _number(self, slug: str) -> int:
        return int(slug.rpartition("-s")[2])


def _try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Lock an open file if nobody else holds it; a shared lock only looks.

    Of `fcntl` itself: the session inherits the lock with the open file and holds it when this process is gone, which
    no library of locks does.
    """
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def environment(temporary: Path) -> dict[str, str]:
    """This machine's environment for a session: no Kaggle credentials, temporary files in a folder of the run.

    Compiled kernels are those of all trainings on this machine.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KAGLAUNCH_"))}
    return environ | {"TMPDIR": str(temporary)} | paths.compiled_kernels()
