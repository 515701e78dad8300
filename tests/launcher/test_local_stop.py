"""`local stop` ends no session without a word: it names what is alive, asks, and spares other folders' in a script."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract.config import RunConfig
from launcher.cli import main
from launcher.runs.records import Run, new_run
from tests.limits import limit_s, until

from .local_kaggle.callers import Caller
from .stage import FINISHED, Stage, staged
from .terminal import at_a_terminal

RISKY = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
say("published", num_timesteps=40)
say("progress", num_timesteps=70, total_timesteps=100, steps_per_s=50.0)
time.sleep(600)
"""
KILLED = ["CANCEL_ACKNOWLEDGED"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        yield made


def _begins(stage: Stage, name: str, folder: Path, script: str = RISKY) -> Run:
    run = new_run(name, "local", "local", RunConfig(name, 100, 10), folder)
    stage.start(run, script)
    if script == RISKY:
        next(line for line in stage.backend().log_lines(run.slug(1)) if '"num_timesteps": 70' in line.text)
    else:
        until(lambda: stage.sessions(run) == ["COMPLETE"])
    return run


def _afterwards(stage: Stage, run: Run) -> list[str]:
    stage.kaggle.ensure_running(timeout_s=limit_s(20))
    return stage.sessions(run)


def test_where_nothing_is_alive_nobody_is_asked(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    _begins(stage, "over-aaaaaa", stage.folder / "elsewhere", FINISHED)
    code, screen = at_a_terminal(["local", "stop"], stage.folder)
    assert (code, screen.strip()) == (0, "The embedded Kaggle was stopped.")
    assert main(["local", "stop"]) == 0
    assert capsys.readouterr().out == "The embedded Kaggle did not run.\n"


def test_a_script_stops_what_is_of_its_own_folder_and_is_told_what_was_killed(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _begins(stage, "mine-aaaaaa", stage.folder)
    assert main(["local", "stop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "The embedded Kaggle was stopped.",
        "Killed with it:",
        f"  session 1 of run mine-aaaaaa of {stage.folder}: 70 of 100 timesteps done, 30 at risk",
    ]
    assert _afterwards(stage, run) == KILLED


def test_a_script_spares_another_folder_unless_it_says_yes(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    mine = _begins(stage, "mine-aaaaaa", stage.folder)
    other = _begins(stage, "other-bbbbbb", stage.folder / "elsewhere")
    assert main(["local", "stop"]) == 3
    said = capsys.readouterr().err
    assert "2 sessions in the embedded Kaggle are alive, and stopping it kills what runs in it:\n" in said
    assert f"  session 1 of run other-bbbbbb of {stage.folder / 'elsewhere'}: 70 of 100 timesteps done, 30 at" in said
    assert "standard input or standard error is no terminal" in said
    assert "`kaglaunch local stop --yes`" in said
    assert (stage.sessions(mine), stage.sessions(other)) == (["RUNNING"], ["RUNNING"])
    assert main(["local", "stop", "--yes"]) == 0
    assert "Killed with it:" in capsys.readouterr().out
    assert (_afterwards(stage, mine), _afterwards(stage, other)) == (KILLED, KILLED)


def test_a_kernel_of_no_known_run_is_spared_too(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Caller(stage.kaggle).push("holiday-pictures")
    until(lambda: stage.kaggle.status()["sessions"][0]["state"] == "RUNNING")
    assert main(["local", "stop"]) == 3
    assert "1 session in the embedded Kaggle is alive" in (said := capsys.readouterr().err)
    assert "  holiday-pictures, of no run that is known here\n" in said
    assert stage.kaggle.status()["sessions"][0]["state"] == "RUNNING"


def test_at_a_terminal_only_yes_stops_it(stage: Stage) -> None:
    run = _begins(stage, "asked-aaaaaa", stage.folder)
    code, screen = at_a_terminal(["local", "stop"], stage.folder, answer="n")
    assert code == 3
    assert "Stop it? [y/N]" in screen
    assert "70 of 100 timesteps done, 30 at risk" in " ".join(screen.split())
    assert stage.sessions(run) == ["RUNNING"]
    code, screen = at_a_terminal(["local", "stop"], stage.folder, answer="y")
    assert code == 0, screen
    assert _afterwards(stage, run) == KILLED


def test_a_question_that_nobody_would_see_is_not_asked(stage: Stage) -> None:
    Caller(stage.kaggle).push("holiday-pictures")
    above, below = pty.openpty()
    command = [sys.executable, "-m", "kaglaunch", "local", "stop"]
    done = subprocess.run(command, stdin=below, capture_output=True, text=True, timeout=limit_s(60), check=False)
    for end in (above, below):
        os.close(end)
    assert done.returncode == 3
    assert "Nobody can be asked" in done.stderr


def test_sessions_that_outlived_their_server_are_spared_as_well(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _begins(stage, "other-bbbbbb", stage.folder / "elsewhere")
    os.kill(stage.kaggle.ensure_running().pid, signal.SIGKILL)
    until(lambda: stage.kaggle.find() is None)
    assert main(["local", "stop"]) == 3
    assert "of run other-bbbbbb of" in capsys.readouterr().err
    assert _afterwards(stage, other) == ["RUNNING"]
