"""Parent of one session's script: reads its output, keeps the log, records how it ended.

Started by the server as a process of its own, so that session, log and exit status outlive the server.
Its folder holds `spec.json` (in), `log.jsonl` (one event a line), `started.json` and `exit.json` (out).
The server enforces limits by its own clock; the runner holds only the real-time limit, for when no server is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

from kernel.contract.files import write_aside

PR_SET_CHILD_SUBREAPER = 36
LONGEST_LINE = 1 << 20
"""Bytes of a line without an end after which it becomes an event as it is."""
GRACE_S = 5.0
"""What the server gets beyond the limit before the runner acts itself."""

CONVERSION = (
    "[NbConvertApp] Converting notebook __notebook__.ipynb to html\n",
    "[NbConvertApp] Writing 299012 bytes to __results__.html\n",
)
"""What Kaggle itself appends to the log of a finished script."""


def main(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _adopt_orphans()
    started = time.monotonic()
    script = subprocess.Popen(
        spec["argv"],
        cwd=spec["cwd"],
        env=spec["env"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    write_aside(folder / "started.json", json.dumps({"runner_pid": os.getpid(), "script_pid": script.pid}).encode())
    assert script.stdout is not None
    assert script.stderr is not None
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        recorder = Recorder(log, started)
        deadline = started + spec["limit_s"] + GRACE_S
        timed_out = recorder.follow(script, {script.stdout: "stdout", script.stderr: "stderr"}, deadline)
        returncode = script.wait()
        if returncode == 0:
            for line in CONVERSION:
                recorder.event("stderr", line)
    elapsed = time.monotonic() - started
    write_aside(
        folder / "exit.json",
        json.dumps({"returncode": returncode, "timed_out": timed_out, "seconds": round(elapsed, 3)}).encode(),
    )


class Recorder:
    """Turns two pipes into log events `{"stream_name", "time", "data"}`; time in seconds since the start."""

    def __init__(self, log: IO[str], started: float) -> None:
        self._log = log
        self._started = started
        self._partial = {"stdout": b"", "stderr": b""}

    def event(self, stream: str, data: str) -> None:
        seconds = round(time.monotonic() - self._started, 6)
        self._log.write(json.dumps({"stream_name": stream, "time": seconds, "data": data}) + "\n")

    def follow(self, script: subprocess.Popen[bytes], pipes: dict[IO[bytes], str], deadline: float) -> bool:
        """Record until both pipes are at their end. True if the script had to be killed at `deadline`.

        What the script leaves behind when it exits is killed: on Kaggle the container goes with it.
        """
        timed_out = False
        with selectors.DefaultSelector() as selector:
            for pipe, stream in pipes.items():
                selector.register(pipe, selectors.EVENT_READ, stream)
            while selector.get_map():
                for key, _ in selector.select(timeout=0.1):
                    chunk = os.read(key.fd, 65_536)
                    if chunk:
                        self._lines(key.data, chunk)
                    else:
                        self._rest(key.data)
                        selector.unregister(key.fileobj)
                self._log.flush()
                if time.monotonic() > deadline and not timed_out:
                    timed_out = True
                    kill_descendants(os.getpid(), script.pid)
                if script.poll() is not None:
                    kill_descendants(os.getpid(), script.pid)
        self._log.flush()
        return timed_out

    def _lines(self, stream: str, chunk: bytes) -> None:
        *lines, rest = (self._partial[stream] + chunk).split(b"\n")
        for line in lines:
            self.event(stream, line.decode("utf-8", "replace") + "\n")
        self._partial[stream] = rest
        if len(rest) > LONGEST_LINE:
            self._rest(stream)

    def _rest(self, stream: str) -> None:
        rest, self._partial[stream] = self._partial[stream], b""
        if rest:
            self.event(stream, rest.decode("utf-8", "replace"))


def kill_descendants(pid: int, group: int | None = None) -> None:
    """SIGKILL the process group `group` and every descendant of `pid`, until none is left.

    On Linux the runner adopts orphans, so that also processes which left the group are descendants.
    """
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(200):
        alive = _living_descendants(pid)
        if not alive:
            return
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.005)


def _living_descendants(pid: int) -> list[psutil.Process]:
    living = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    living.append(child)
    return living


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
