"""The processes of sessions: start a runner, see whether it lives, kill everything that a session started."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from launcher.local_kaggle import runner
from launcher.local_kaggle.workspace import base_environment

START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Exit:
    """How a script ended, as its runner saw it."""

    returncode: int
    timed_out: bool
    at: float
    """When [s since the epoch, the machine's time]."""


class Processes:
    """Runners by session id; those of an earlier server are found again by pid and time of birth."""

    def __init__(self) -> None:
        self._own: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, session_id: int, folder: Path) -> tuple[int, float]:
        """Start the runner of the session prepared in `folder`; (pid, birth [s since the epoch]).

        Returns once the script is running. Raises OSError if it does not start.
        """
        with (folder / "runner.err").open("wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-P", runner.__file__, str(folder)],
                cwd=folder,
                env=base_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self._own[session_id] = child
        born = psutil.Process(child.pid).create_time()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (folder / "started.json").exists():
            if child.poll() is not None or time.monotonic() > deadline:
                self.kill(session_id, child.pid, born, folder)
                raise OSError(
                    (folder / "runner.err").read_text("utf-8", errors="replace")[-500:] or "the runner did not start"
                )
            time.sleep(0.005)
        return child.pid, born

    def is_alive(self, session_id: int, pid: int, born: float) -> bool:
        own = self._own.get(session_id)
        if own is not None:
            return own.poll() is None
        try:
            process = psutil.Process(pid)
            return abs(process.create_time() - born) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def kill(self, session_id: int, pid: int | None, born: float | None, folder: Path) -> None:
        """SIGKILL everything the session started, then wait for its runner, which records the end."""
        if pid is not None and born is not None and self.is_alive(session_id, pid, born):
            runner.kill_descendants(pid, _script_pid(folder))
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                self._wait(session_id, pid, timeout=5)
        self.kill_strays(folder)

    def kill_runner(self, session_id: int, pid: int) -> None:
        """SIGKILL the runner itself, as when a machine is lost: nothing records an end."""
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
            self._wait(session_id, pid, timeout=5)

    def kill_strays(self, folder: Path) -> None:
        """SIGKILL processes of the session in `folder` whose runner is gone, known by the root that they inherited.

        Session ids would not do: another installation on this machine gives out the same ones.
        """
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                root = process.environ().get("KAGLAUNCH_SESSION_ROOT")
                if root is not None and Path(root).is_relative_to(folder):
                    process.kill()

    def _wait(self, session_id: int, pid: int, timeout: float) -> None:
        own = self._own.pop(session_id, None)
        if own is not None:
            try:
                own.wait(timeout)
            except subprocess.TimeoutExpired:
                own.kill()
                own.wait()
        else:
            psutil.Process(pid).wait(timeout)


def read_exit(folder: Path) -> Exit | None:
    """How the script in `folder` ended; None while it runs, or if nothing could record it."""
    path = folder / "exit.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Exit(int(record["returncode"]), bool(record["timed_out"]), path.stat().st_mtime)
    except FileNotFoundError:
        return None


def _script_pid(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / "started.json").read_text("utf-8"))["script_pid"])
    except FileNotFoundError:
        return None
