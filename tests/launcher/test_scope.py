"""A verb acts on the run that is meant: of this folder alone, named before anything happens, ended only when agreed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract.config import RunConfig
from launcher import Kaglaunch
from launcher.cli import main
from launcher.errors import AmbiguousRun, UnknownRun
from launcher.runs.records import Run, new_run

from .local_kaggle.callers import until
from .stage import ENDLESS, FINISHED, Stage
from .terminal import at_a_terminal

RISKY = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
say("progress", num_timesteps=60, total_timesteps=100, steps_per_s=50.0, reward=1.0)
say("published", num_timesteps=40, bytes=1, files=1, seconds=0.1, version=1)
say("progress", num_timesteps=70, total_timesteps=100, steps_per_s=50.0, reward=1.0)
time.sleep(600)
"""
VERBS = ("status", "report", "logs", "watch", "cancel", "resume", "relay", "fetch-checkpoints", "note")


@pytest.fixture
def folder(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, the present one; what still runs at the end is ended."""
    monkeypatch.chdir(tmp_path)
    before = {run.run_id for run in stage.book.runs()}
    yield tmp_path
    for run in stage.book.runs():
        if run.run_id not in before and set(stage.sessions(run)) & {"RUNNING", "QUEUED"}:
            assert main(["cancel", run.run_id, "--yes"]) == 0


def _begins(stage: Stage, name: str, folder: Path, script: str = ENDLESS) -> Run:
    run = new_run(name, "local", "local", RunConfig(name, 100, 10), folder)
    stage.start(run, script)
    until(lambda: stage.sessions(run) == ["RUNNING" if script != FINISHED else "COMPLETE"])
    return run


def test_a_bare_cancel_ends_the_run_of_this_folder_and_of_no_other(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = _begins(stage, "mine-aaaaaa", folder)
    others = [_begins(stage, f"other-{at}bbbbb", place) for at, place in enumerate((folder / "below", folder.parent))]
    assert main(["cancel"]) == 3
    seen = capsys.readouterr()
    assert seen.out.startswith("Run mine-aaaaaa (the newest of this folder).\n")
    assert "End session 1 of run mine-aaaaaa on local?" in seen.err
    assert "`kaglaunch cancel mine-aaaaaa --yes`" in seen.err
    assert stage.sessions(mine) == ["RUNNING"]
    assert main(["cancel", "--yes"]) == 0
    assert stage.sessions(mine) == ["CANCEL_ACKNOWLEDGED"]
    assert [stage.sessions(run) for run in others] == [["RUNNING"], ["RUNNING"]]


def test_a_bare_cancel_of_a_folder_with_two_alive_lists_them_and_ends_none(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _begins(stage, "over-aaaaaa", folder, FINISHED)
    runs = [_begins(stage, f"alive-{at}aaaaa", folder) for at in range(2)]
    assert main(["cancel", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "2 runs of this folder are alive" in said
    assert all(f"  kaglaunch cancel {run.run_id}\n" in said for run in runs)
    assert "over-aaaaaa" not in said
    with pytest.raises(AmbiguousRun, match="2 runs of this folder are alive"):
        Kaglaunch().cancel()
    assert [stage.sessions(run) for run in runs] == [["RUNNING"], ["RUNNING"]]
    assert main(["cancel", "alive-0", "--yes"]) == 0
    assert [stage.sessions(run) for run in runs] == [["CANCEL_ACKNOWLEDGED"], ["RUNNING"]]
    assert Kaglaunch().cancel()["run_id"] == "alive-1aaaaa"
    assert stage.sessions(runs[1]) == ["CANCEL_ACKNOWLEDGED"]


def test_at_a_terminal_the_question_tells_what_is_at_risk_and_only_yes_ends_it(stage: Stage, folder: Path) -> None:
    run = _begins(stage, "asked-aaaaaa", folder, RISKY)
    next(line for line in stage.backend().log_lines(run.slug(1)) if '"num_timesteps": 70' in line.text)
    for answer in ("n", "\n"):
        code, screen = at_a_terminal(["cancel"], folder, answer=answer)
        assert code == 3, screen
        assert "[y/N]" in screen
        assert stage.sessions(run) == ["RUNNING"]
    assert "70 of 100 timesteps are done, 30 not published yet" in " ".join(screen.split())
    code, screen = at_a_terminal(["cancel"], folder, answer="y")
    assert code == 0
    assert stage.sessions(run) == ["CANCEL_ACKNOWLEDGED"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_without_runs_has_none_that_is_meant(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    stage.book.add_run(new_run(f"far-{verb[:5]}a", "local", "local", RunConfig("far-aaaaaa", 100, 10), folder / "far"))
    assert main([verb]) == 2
    said = capsys.readouterr().err
    assert f"No run was pushed from this folder, {folder}" in said
    assert f"far-{verb[:5]}a  of {folder / 'far'}" in said
    assert "Traceback" not in said
    with pytest.raises(UnknownRun):
        Kaglaunch().report()


@pytest.mark.parametrize("verb", ["status", "report", "logs", "note", "cancel", "watch"])
def test_the_run_that_is_meant_is_said_first(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    _begins(stage, f"said-{verb}", folder, FINISHED)
    for typed, first in (
        ([], f"Run said-{verb} (the newest of this folder)."),
        ([f"said-{verb[:-1]}"], f"Run said-{verb}."),
    ):
        capsys.readouterr()
        assert main([verb, *typed]) == 0
        seen = capsys.readouterr()
        assert (seen.err if verb == "logs" else seen.out).splitlines()[0] == first
    capsys.readouterr()
    assert main([verb, f"said-{verb}"]) == 0
    assert "(the newest" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "report", "cancel"])
def test_with_json_the_name_goes_to_standard_error(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    _begins(stage, f"json-{verb}", folder, FINISHED)
    capsys.readouterr()
    assert main([verb, "--json"]) == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out)["run_id"] == f"json-{verb}"
    assert seen.err.startswith(f"Run json-{verb} (the newest of this folder).\n")


def test_a_log_is_read_as_sentences_its_end_alone_raw_or_to_its_end(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _begins(stage, "logged-aaaaaa", folder, FINISHED.replace('say("published"', "print('own line')\nsay(\"published\""))
    capsys.readouterr()
    assert main(["logs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "0:00:00  own line" in lines
    assert "0:00:00  Training begins from scratch of 100: ? on ?." in lines
    assert not [line for line in lines if "@kaglaunch" in line]
    assert main(["logs", "--tail", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[-2:]
    assert main(["logs", "--follow"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["logs", "--raw", "--tail", "1"]) == 0
    assert re.fullmatch(r"\d+\.\d{3} std\w+ .*\n", capsys.readouterr().out)


def test_ctrl_c_while_a_log_is_followed_is_no_error(stage: Stage, folder: Path) -> None:
    _begins(stage, "stopped-aaaaaa", folder, RISKY)
    command = [sys.executable, "-m", "kaglaunch", "logs", "--follow"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "At t70 of 100" in line:
                process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Stopped following; session 1 of run stopped-aaaaaa is as it was." in said
    assert "error:" not in said


def test_the_log_of_a_session_that_runs_is_printed_as_far_as_it_goes(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _begins(stage, "going-aaaaaa", folder, RISKY)
    capsys.readouterr()
    assert main(["logs", "--tail", "1"]) == 0
    assert "At t70 of 100" in capsys.readouterr().out


def test_notes_and_tags_are_shown_changed_and_filtered_by(
    stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run("noted-aaaaaa", "local", "local", RunConfig("noted-aaaaaa", 100, 10), folder, note="wide", tags=["a"])
    stage.book.add_run(run)
    assert main(["note", "noted", "--tag", "thesis", "--untag", "a", "--text", "wider"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["note  wider", "      in place of: wide", "tags  thesis"]
    assert main(["note", "noted", "--text", "wider"]) == 0
    assert "in place of" not in capsys.readouterr().out
    assert main(["runs", "--tag", "thesis", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run_id"], row["note"], row["tags"]) == ("noted-aaaaaa", "wider", ["thesis"])
    assert main(["runs", "--tag", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tags"] == ["thesis"]
