"""`kaglaunch demo`: the main job from end to end, each step by the command that a user would type."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from launcher import system, training_extra
from launcher.commands.say import say
from launcher.errors import LauncherError

KILL_AT = 50
FAULT = f'session_limit_at_log="event": "checkpoint".*"num_timesteps": {KILL_AT}\\b'


class DemoFailed(LauncherError):
    """Raised when a step of the demo did not end as it should."""


def demo() -> None:
    """Push, be killed, watch, fetch, resume: in a folder and an embedded Kaggle of their own.

    Raises
    ------
    DemoFailed
        A step ended in another exit code than the promise says.
    TrainingMissing
        This system has no embedded Kaggle, or nothing to train with in it.
    """
    system.require_posix("`kaglaunch demo` runs an embedded Kaggle, which", "On kaggle.com: `push --target kaggle`.")
    training_extra.require("`kaglaunch demo` trains on this machine")
    with tempfile.TemporaryDirectory(prefix="kaglaunch-demo-") as folder:
        environ = _environment(Path(folder))
        try:
            _steps(Path(folder), environ)
        finally:
            _run(["local", "stop", "--yes"], folder, environ, quiet=True)


def _steps(folder: Path, environ: dict[str, str]) -> None:
    _say(f"0. A fault switch of the embedded Kaggle: the session's time is up when it has done {KILL_AT} timesteps.")
    _expect(0, ["local", "fault", FAULT], folder, environ)
    _say(
        "1. Pack solver, trainer and stable-baselines3 into one kernel; check; push. 100 timesteps, 10 to a checkpoint."
    )
    _expect(0, ["push", "--quick"], folder, environ)
    _say(
        "2. Watch it live. At its limit Kaggle kills with SIGKILL: outputs and log are gone (exit code 6 says cut off)."
    )
    _expect(6, ["watch"], folder, environ)
    _say("3. Bring back the last checkpoint that was published while it ran, and verify every byte.")
    _expect(0, ["fetch-checkpoints"], folder, environ)
    _run(["local", "fault", "--clear"], str(folder), environ, quiet=True)
    _say("4. Go on from there in a new session, on the CPU, and finish the run.")
    _expect(0, ["resume", "--device", "cpu"], folder, environ)
    _say("5. What the kill cost.")
    _expect(0, ["report"], folder, environ)


def _environment(folder: Path) -> dict[str, str]:
    """This machine's environment without credentials and with state of its own; wheels stay in the user's cache."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KAGLAUNCH_"))}
    cache = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = folder / "home"
    home.mkdir()
    return environ | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": cache}


def _expect(code: int, arguments: Sequence[str], folder: Path, environ: dict[str, str]) -> None:
    found = _run(arguments, str(folder), environ)
    if found != code:
        raise DemoFailed(f"`kaglaunch {' '.join(arguments)}` ended with exit code {found}; the promise is {code}.")


def _run(arguments: Sequence[str], folder: str, environ: dict[str, str], *, quiet: bool = False) -> int:
    if not quiet:
        typer.secho(f"$ kaglaunch {' '.join(arguments)}", bold=True)
    command = [sys.executable, "-m", "launcher", *arguments]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        command, cwd=folder, env=environ, stdout=output, stdin=subprocess.DEVNULL, check=False
    ).returncode


def _say(text: str) -> None:
    say(f"\n{text}")
