"""A command at a real terminal: what it writes there, and what a person answers."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path


def at_a_terminal(arguments: list[str], folder: Path, *, columns: int = 80, answer: str = "") -> tuple[int, str]:
    """Exit code and screen of `kaglaunch ARGUMENTS`; `answer` is typed as soon as a question stands there."""
    above, below = pty.openpty()
    environ = os.environ | {"COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "kaglaunch", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=below, stderr=below, stdin=below)
    os.close(below)
    screen, waiting = b"", answer
    try:
        while piece := os.read(above, 65_536):
            screen += piece
            if waiting and b"[y/N]" in screen:
                os.write(above, f"{waiting}\n".encode())
                waiting = ""
    except OSError:
        pass  # the command has closed its end
    os.close(above)
    return process.wait(), screen.decode()
