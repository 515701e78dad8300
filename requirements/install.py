"""`pip install`, told by what is downloaded and installed; what is there already needs no line.

    python requirements/install.py -r requirements/development.txt

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

THERE = "Requirement already satisfied"
EVERY_S = 10.0
"""A line at least so often, while it goes on."""


def run(command: Sequence[str], say: Callable[[str], object] = print, every_s: float = EVERY_S) -> int:
    """Run `command` and say its lines, without those of THERE; its exit status."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    began = said = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=max(0.0, said + every_s - time.monotonic()))
        except queue.Empty:
            line = f"  … {time.monotonic() - began:.0f} s"
        if line is None:
            return process.wait()
        if not line.startswith(THERE):
            say(line)
            said = time.monotonic()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *sys.argv[1:]]))
