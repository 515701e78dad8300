"""The four signal settings that matter, in one place: what each process does with SIGTERM, SIGINT, a death, a hang.

Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

_PR_SET_PDEATHSIG = 1


class StopFlag:
    """Set by SIGTERM; a second SIGTERM ends the process at once."""

    def __init__(self) -> None:
        self._count = 0

    @classmethod
    def install(cls) -> StopFlag:
        """Catch SIGTERM from now on. The handler sets a flag and nothing else: it may run inside an update."""
        flag = cls()
        signal.signal(signal.SIGTERM, flag._handle)
        return flag

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(128 + number)

    def is_installed(self) -> bool:
        """Whether SIGTERM still reaches it."""
        return signal.getsignal(signal.SIGTERM) == self._handle

    def is_set(self) -> bool:
        """Whether the training is to stop at its next consistent point."""
        return self._count > 0


def prepare_trainer() -> None:
    """Die with the supervisor, leave Ctrl-C to it, and show every thread's stack when it ends a hang with SIGABRT."""
    die_with_parent()
    # The thread that writes checkpoints must not make the training wait for the usual 5 ms.
    sys.setswitchinterval(0.0005)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; nothing where the system has no such call."""
    parent = os.environ.get("KAGLAUNCH_PARENT")
    if parent is None or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(1)  # it died before the call


def on_terminate(handle: Callable[[int], None]) -> None:
    """Call `handle(n)` at the n-th SIGTERM or SIGINT of this process."""
    count = 0

    def received(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        handle(count)

    signal.signal(signal.SIGTERM, received)
    signal.signal(signal.SIGINT, received)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, with all that is in it, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ignore_terminate() -> None:
    """Let no SIGTERM and no SIGINT end this process any more, which is about to end.

    Python takes its handlers back while it shuts down, and the system's own would turn the exit code into a signal's.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
