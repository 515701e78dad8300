"""Launching needs no POSIX: every verb against kaggle.com works where Windows would have nothing to offer.

Played on Linux: `without_posix` takes away and forbids; kaggle.com is an embedded Kaggle of another, whole process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract.checks import Verdict
from launcher.checks.machine import system_fit

from .local_kaggle.callers import reaches
from .stage import FINISHED, Stage

CUT = 'begin()\nsay("training", num_timesteps=0, total_timesteps=100)\nraise SystemExit(1)\n'
LOUD = "for step in range(1000):\n    print('step', step)\n"


class Console:
    """A command line without POSIX."""

    def __init__(self, stage: Stage, folder: Path, **variables: str) -> None:
        endpoint = stage.kaggle.ensure_running()
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path(os.environ["REAL_HOME"]) / ".cache")
        environ = {**os.environ, "KAGGLE_API_TOKEN": endpoint.token, "XDG_CACHE_HOME": cache, "PYTHONUTF8": "0"}
        environ |= variables
        script = Path(__file__).with_name("without_posix.py")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "warn_default_encoding", str(script), endpoint.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environ,
            text=True,
            encoding="utf-8",
        )
        self.folder = folder

    def types(self, *arguments: str, code: int = 0) -> str:
        """What the command says, after its exit code was checked; never that it met a defect."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        both = answer["said"] + answer["told"]
        assert answer["code"] == code, f"{arguments}: {both}"
        assert "Traceback" not in both
        assert "defect" not in both
        return str(answer["told" if code else "said"])

    def close(self) -> None:
        """No more commands."""
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def console(stage: Stage) -> Iterator[Console]:
    folder = stage.folder / "project"
    folder.mkdir()
    made = Console(stage, folder)
    yield made
    made.close()


def test_every_module_that_launches_can_be_imported(console: Console) -> None:
    assert int(console.types("import everything").split()[0]) > 50


def test_a_first_run_is_written_checked_pushed_and_cancelled(console: Console) -> None:
    console.types("init")
    assert (console.folder / "kaglaunch.toml").is_file()
    checked = json.loads(console.types("preflight", "--quick", "--device", "cpu", "--json"))
    (trial,) = [check for check in checked["checks"] if "needs POSIX" in check["evidence"]]
    assert (trial["verdict"], checked["blocked"]) == ("WARN", False)
    said = console.types("push", "--quick", "--device", "cpu")
    assert "Pushed session 1" in said
    run_id = said.rpartition("kaglaunch watch ")[2].split()[0].strip("`.")
    assert run_id in console.types("runs")
    assert "Kept:" in console.types("cancel", run_id, "--yes")


def test_a_run_is_watched_and_told_of_and_its_checkpoint_fetched(console: Console, stage: Stage) -> None:
    run = stage.begins(FINISHED, target="kaggle")
    stage.publish(run, 100)
    console.types("watch", run.run_id)
    assert "100 of 100" in console.types("report", run.run_id)
    assert "COMPLETE" in console.types("status", run.run_id)
    assert '"num_timesteps": 100' in console.types("logs", run.run_id, "--raw")
    assert run.run_id in console.types("runs")
    console.types("runs", "--remote")
    console.types("quota")
    console.types("fetch-checkpoints", run.run_id)
    assert stage.verified(run) == [100]


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(console: Console, stage: Stage) -> None:
    run = stage.begins(CUT, target="kaggle")
    stage.publish(run, 50)
    reaches(stage.call, run.slug(1).partition("/")[2] or run.slug(1), "ERROR")
    assert "t50" in console.types("resume", run.run_id, "--device", "cpu", "--no-watch")
    console.types("cancel", run.run_id, "--yes")


def test_prints_are_rewritten_and_restored_byte_for_byte(console: Console) -> None:
    source = console.folder / "loud.py"
    source.write_bytes(LOUD.replace("\n", "\r\n").encode())
    console.types("debug-prints", "--fix", "loud.py")
    assert source.read_bytes() != LOUD.replace("\n", "\r\n").encode()
    console.types("debug-prints", "--restore")
    assert source.read_bytes() == LOUD.replace("\n", "\r\n").encode()


def test_the_doctor_judges_the_system_and_lets_it_launch(console: Console) -> None:
    checks = {check["name"]: check for check in json.loads(console.types("doctor", "--json"))["checks"]}
    assert checks["system"]["verdict"] == "WARN"
    assert "Windows" in checks["system"]["found"]
    assert "resume --here" in checks["system"]["fix"]
    assert not re.search("embedded Kaggle|resume --here|can train|To train", str(checks["training extra"]))
    assert checks["identity"]["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (("push", "--quick", "--target", "local"), "--target kaggle"),
        (("demo",), "--target kaggle"),
        (("resume", "--here"), "--device cpu"),
    ],
)
def test_what_runs_on_this_machine_is_refused_in_words_that_help(
    command: tuple[str, ...], instead: str, console: Console, stage: Stage
) -> None:
    if command[0] == "resume":
        command = (command[0], stage.begins(CUT, target="kaggle").run_id, *command[1:])
    said = console.types(*command, code=1)
    assert "Linux" in said
    assert instead in said


def test_the_embedded_kaggle_does_not_start(stage: Stage, tmp_path: Path) -> None:
    alone = Console(stage, tmp_path, XDG_STATE_HOME=str(tmp_path))
    assert "--target kaggle" in alone.types("local", "start", code=1)
    alone.close()


@pytest.mark.parametrize(
    ("name", "has_posix", "trains_here", "verdict"),
    [
        ("Linux", True, True, Verdict.PASS),
        ("Darwin", True, True, Verdict.WARN),
        ("Windows", False, False, Verdict.WARN),
        ("Windows", False, True, Verdict.FAIL),
    ],
)
def test_a_system_passes_only_where_everything_was_tried(
    name: str, has_posix: bool, trains_here: bool, verdict: Verdict
) -> None:
    check = system_fit(name, has_posix=has_posix, trains_here=trains_here)
    assert check.verdict is verdict
    assert bool(check.fix) == (verdict is not Verdict.PASS)
    assert ("macOS" if name == "Darwin" else name) in check.evidence
