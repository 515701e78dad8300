"""Something done in a copy of this process, so that nothing of it stays in this one: globals, signals, memory."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from kernel import signals


def in_a_copy(do: Callable[[], bytes]) -> tuple[int, bytes]:
    """What `do` returned in a copy of this process, after its exit code: 0, 1 where it raised, -N after signal N.

    What it raised is printed there. No device may be in use yet: a copy cannot share it.
    """
    with tempfile.TemporaryDirectory(prefix="kaglaunch-copy-") as folder:
        told = Path(folder, "told")
        _flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _be_the_copy(do, told, parent)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), told.read_bytes() if told.exists() else b""


def _be_the_copy(do: Callable[[], bytes], told: Path, parent: int) -> None:
    code = 1
    try:
        os.environ["KAGLAUNCH_PARENT"] = str(parent)
        signals.die_with_parent()
        told.write_bytes(do())
        code = 0
    except BaseException:  # noqa: BLE001  the process ends here, and none but its parent goes on
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
