"""What a user reads and what a script gets when something is wrong: a message, an exit code, no traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kernel.contract.config import RunConfig
from launcher import training_extra
from launcher.cli import main
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run


def _fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(list(arguments)) == code
    err = capsys.readouterr().err
    assert err.strip()
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    "arguments",
    [
        ["push", "--no-such-flag"],
        ["resume", "--device", "quantum"],
        ["push", "--target", "moon"],
        ["push", "--timesteps", "many"],
        ["fetch-checkpoints", "--all", "--step", "3"],
        ["no-such-verb"],
    ],
)
def test_wrong_usage_is_exit_code_2(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    said = _fails(capsys, 2, *arguments)
    assert any(word in said for word in arguments[1:] or arguments), "the message names what is wrong"


@pytest.mark.parametrize("verb", ["watch", "fetch-checkpoints", "resume", "report"])
def test_an_unknown_run_is_named_and_says_what_to_type(
    home: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    said = _fails(capsys, 2, verb, "no-such-run")
    assert "no-such-run" in said
    assert "kaglaunch push --quick" in said


def test_target_kaggle_without_credentials_names_three_ways(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _fails(capsys, 1, "push", "--quick", "--target", "kaggle")
    assert all(way in said for way in ("access_token", "KAGGLE_API_TOKEN", "kaggle.json"))


def test_an_unknown_key_in_the_file_is_refused_before_anything_starts(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "kaglaunch.toml").write_text("[run]\ntimestep = 5\n")
    said = _fails(capsys, 2, "push", "--quick", "--dry-run")
    assert "'timestep'" in said
    assert "timesteps" in said
    assert not (home / "state").exists()


def test_the_embedded_target_without_the_training_extra_says_how_to_install_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_extra, "missing", lambda packages=(): ["torch"])
    said = _fails(capsys, 1, "push", "--quick")
    assert "torch cannot be imported here" in said
    assert training_extra.how() in said
    assert not (home / "state").exists()


def test_a_demo_without_the_training_extra_says_so_once_and_sets_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_extra, "missing", lambda packages=(): ["torch"])
    assert main(["demo"]) == 1
    seen = capsys.readouterr()
    assert "`kaglaunch demo` trains on this machine, and torch cannot be imported here." in " ".join(seen.err.split())
    assert seen.err.count("error:") == 1
    assert seen.out == ""


def test_a_resume_here_without_the_training_extra_says_how_to_install_it_and_how_to_do_without(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run("quick-abcdef", "local", "local", RunConfig("quick-abcdef", 100, 10), home)
    Ledger().add_run(run)
    monkeypatch.setattr(training_extra, "missing", lambda packages=(): ["torch"])
    said = _fails(capsys, 1, "resume", "--here")
    assert "torch cannot be imported here" in said
    assert training_extra.how() in said
    assert "kaglaunch resume quick-abcdef --device cpu" in said


def test_a_port_in_use_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = _fails(capsys, 1, "local", "start", "--port", str(port))
    assert str(port) in said
    assert "kaglaunch local start --port" in said


def test_a_state_folder_that_cannot_be_is_a_clear_error(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
    assert "file" in _fails(capsys, 1, "report")


def test_dry_run_shows_what_would_be_pushed_and_pushes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["push", "--quick", "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert "Nothing was pushed" in said
        assert '"total_timesteps": 100' in said
        assert "kernel/session/supervisor.py" in said
        assert main(["report"]) == 2
        assert main(["local", "status", "--json"]) == 0
        assert '"sessions": []' in capsys.readouterr().out
    finally:
        main(["local", "stop"])
