"""The doctor finds what is wrong on a machine where it is wrong, says the fix, and shows no secret."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from kernel.contract.checks import Verdict
from launcher import paths, training_extra
from launcher.checks import machine
from launcher.checks.machine import clock_skew
from launcher.cli import main
from launcher.runs.ledger import Ledger
from launcher.targets import target
from tests.limits import limit_s

from .stage import Stage

DATE = "Mon, 23 Nov 2026 21:00:00 GMT"
AT = 1_795_467_600.0


class _Disk(NamedTuple):
    free: int


def _checks(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, dict[str, str]]:
    capsys.readouterr()
    assert main(["doctor", "--json", *arguments]) == code
    value = json.loads(capsys.readouterr().out)
    assert value["healthy"] is (code == 0)
    for check in value["checks"]:
        assert bool(check["fix"]) == (check["verdict"] != "PASS"), check
    return {check["name"]: check for check in value["checks"]}


@pytest.mark.trains
def test_a_healthy_machine_passes_and_its_target_knows_the_user(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger()
    checks = _checks(capsys, "--target", "local", code=0)
    assert {check["verdict"] for check in checks.values()} == {"PASS"}
    assert "knows this user as local" in checks["identity"]["found"]
    assert {"python", "disk", "ledger", "state folder", "target", "clock", "training extra"} <= set(checks)
    assert main(["doctor", "--target", "local"]) == 0
    assert capsys.readouterr().out.startswith("PASS  python: ")


def test_a_damaged_ledger_fails_and_is_left_as_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger()
    path = paths.state_dir() / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    damaged = path.read_bytes()[:4096] + b"\xff" * 5000
    path.write_bytes(damaged)
    checks = _checks(capsys, "--target", "local", code=1)
    assert checks["ledger"]["verdict"] == "FAIL"
    assert str(path) in checks["ledger"]["found"]
    assert path.read_bytes() == damaged


def test_no_credentials_names_the_ways_and_ends_with_1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = _checks(capsys, "--target", "kaggle", code=1)
    assert checks["credentials"]["verdict"] == "FAIL"
    assert "KAGGLE_API_TOKEN" in checks["credentials"]["fix"]


@pytest.mark.parametrize("problem", ["refused token", "no network"])
def test_a_token_that_does_not_work_is_never_shown(
    problem: str, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = stage.kaggle.ensure_running(timeout_s=limit_s(20))
    address = endpoint.url if problem == "refused token" else "http://127.0.0.1:9"
    monkeypatch.setattr(target, "KAGGLE_URL", address)
    monkeypatch.setattr(machine, "KAGGLE_URL", address)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_do_not_show_me")
    assert main(["doctor"]) == 1
    said = "".join(capsys.readouterr())
    assert "KGAT_do_not_show_me" not in said
    assert "found in the environment variable KAGGLE_API_TOKEN" in said
    assert ("FAIL  identity" if problem == "refused token" else "FAIL  target") in said
    assert "Traceback" not in said


@pytest.mark.trains
@pytest.mark.parametrize(("free", "code", "verdict"), [(10**9, 0, "WARN"), (10**6, 1, "FAIL")])
def test_a_full_disk_warns_before_it_fails(
    free: int,
    code: int,
    verdict: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: _Disk(free))
    assert _checks(capsys, "--target", "local", code=code)["disk"]["verdict"] == verdict


def test_a_missing_training_extra_matters_only_where_it_is_needed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_extra, "missing", lambda packages=(): ["no_such_package"])
    assert _checks(capsys, code=0)["training extra"]["verdict"] == "WARN"
    assert _checks(capsys, "--target", "local", code=1)["training extra"]["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("package", "least"), [("no-such-package", (1,)), ("typer", (99, 0))], ids=["missing", "too old"]
)
def test_a_package_that_is_missing_or_too_old_fails_with_its_command(
    package: str,
    least: tuple[int, ...],
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "PACKAGES", {package: least})
    check = _checks(capsys, "--target", "local", code=1)[f"package {package}"]
    assert check["verdict"] == "FAIL"
    assert "pip install" in check["fix"]


@pytest.mark.parametrize(
    ("date", "now", "verdict", "found"),
    [
        (DATE, AT + 30, Verdict.PASS, "30 s ahead of"),
        (DATE, AT - 3_600, Verdict.WARN, "3600 s behind"),
        ("", AT, Verdict.WARN, "no date"),
        ("no date at all", AT, Verdict.WARN, "no date"),
    ],
)
def test_the_clock_is_held_against_the_targets_date(date: str, now: float, verdict: Verdict, found: str) -> None:
    check = clock_skew(date, now)
    assert check.verdict is verdict
    assert found in check.evidence
