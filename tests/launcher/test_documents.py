"""What `--json` really prints is what docs/json.md says, and a shell completes the names of real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernel.contract import typed
from kernel.contract.events import EVENTS
from launcher.cli import main
from launcher.commands import local
from launcher.documents import schema
from launcher.errors import BackendUnavailable
from launcher.runs.records import Run

from .stage import FINISHED, Stage

SEEN = {"watch", "state", "log", "session", "training", "progress", "result"}


@pytest.fixture(scope="module")
def finished(stage: Stage) -> Run:
    """A run that has been watched to its end, with one published checkpoint."""
    run = stage.new_run()
    stage.publish(run, 100)
    stage.start(run, "print('a plain line')\nprint('to stderr', file=sys.stderr)\n" + FINISHED)
    assert main(["watch", run.run_id]) == 0
    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["status", "RUN"],
        ["report", "RUN"],
        ["quota"],
        ["logs", "RUN"],
        ["watch", "RUN"],
        ["fetch-checkpoints", "RUN", "--all"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_is_printed_is_what_the_schema_says(
    arguments: list[str], finished: Run, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([word.replace("RUN", finished.run_id) for word in arguments] + ["--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    name = arguments[0]
    said = schema.json_schema(name)
    jsonschema.Draft202012Validator.check_schema(said)
    lines = schema.DOCUMENTS[name].shape == "lines"
    values = [json.loads(line) for line in out.splitlines()] if lines else [json.loads(out)]
    assert values
    assert values != [[]]
    for value in values:
        jsonschema.validate(value, said)
    if name == "watch":
        assert {value["event"] for value in values} >= SEEN


@pytest.mark.parametrize("verb", ["cancel", "resume"])
def test_a_verb_that_acts_prints_the_report_alone(
    verb: str, finished: Run, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    code = main([verb, finished.run_id, "--json"])
    seen = capsys.readouterr()
    assert code == 0, seen.err
    jsonschema.validate(report := json.loads(seen.out), schema.json_schema("report"))
    assert report["run_id"] == finished.run_id
    assert seen.err


def test_a_verb_that_fails_on_an_unknown_run_prints_no_json(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("cancel", "resume", "relay", "adopt"):
        assert main([verb, "no-such-run", "--json"]) == 2
        seen = capsys.readouterr()
        assert seen.out == ""
        assert "no-such-run" in seen.err


def test_the_bare_group_shows_what_runs(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["local"]) == 0
    assert f"The embedded Kaggle runs at {stage.kaggle.status()['url']}" in capsys.readouterr().out
    assert main(["local", "status", "--json"]) == 0
    jsonschema.validate(found := json.loads(capsys.readouterr().out), schema.json_schema("local-status"))
    assert found["url"] == stage.kaggle.status()["url"]


def test_a_server_of_another_version_is_named_with_what_to_type(stage: Stage) -> None:
    told = stage.kaggle.status()
    assert local.running(told).url == told["url"]
    for other in ({**told, "colour": "blue"}, {name: value for name, value in told.items() if name != "quota"}):
        with pytest.raises(BackendUnavailable, match=r"another version .*(colour|quota)[^`]*`kaglaunch local stop`"):
            local.running(other)


def test_an_embedded_kaggle_that_does_not_run_says_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["local", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"schema": 1, "running": False}
    jsonschema.validate(found, schema.json_schema("local-status"))


def test_a_schema_refuses_what_lacks_a_field_or_has_one_too_many() -> None:
    row = {"schema": 1, "time": 0.5, "stream": "stdout", "text": "x"}
    said = schema.json_schema("logs")
    jsonschema.validate(row, said)
    for wrong in ({**row, "more": 1}, {**row, "time": "0.5"}, {k: v for k, v in row.items() if k != "schema"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, said)


def test_every_document_stands_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    for document in schema.DOCUMENTS.values():
        assert f"`{document.command}`" in page
        for kind in document.kinds:
            assert all(f"| `{name}` |" in page for name in typed.hints_of(kind))


@pytest.mark.parametrize("name", schema.DOCUMENTS)
def test_every_field_however_deep_says_what_it_means(name: str) -> None:
    def undescribed(part: dict[str, Any]) -> Iterator[str]:
        for field, said in part.get("properties", {}).items():
            if field != "schema" and not said.get("description"):
                yield field
            yield from undescribed(said)
        for held in (part.get("items"), part.get("additionalProperties")):
            if isinstance(held, dict):
                yield from undescribed(held)

    kinds = [typed.json_schema(kind) for kind in schema.DOCUMENTS[name].kinds]
    assert [field for kind in kinds for field in undescribed(kind)] == []


WATCHED = {
    "watch": {"run_id": "run-abcdef", "session": 1, "target": "local"},
    "state": {"status": "RUNNING", "message": ""},
    "log": {"time": 0.5, "stream": "stdout", "text": "x"},
    "alert": {"level": "WARN", "rule": "silence", "message": "no line for 300 s"},
    "note": {"message": "Trying again."},
}


@pytest.mark.parametrize("name", WATCHED)
def test_what_a_watch_says_of_its_own_has_the_fields_of_its_kind_and_no_others(name: str) -> None:
    said = schema.json_schema("watch")
    line = {"schema": 1, "event": name, **WATCHED[name]}
    jsonschema.validate(line, said)
    lacking = [{field: value for field, value in line.items() if field != gone} for gone in line]
    for wrong in [*lacking, {**line, "more": 1}]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, said)


def test_events_of_a_session_stand_between_them_whatever_version_tells_them() -> None:
    said = schema.json_schema("watch")
    for name in [*EVENTS, "teleport"]:
        jsonschema.validate({"schema": 1, "event": name, "time": None, "where": ["x"]}, said)
    assert not WATCHED.keys() & EVENTS.keys()


def test_a_kept_log_is_printed_line_by_line_with_its_streams(
    finished: Run, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["logs", finished.run_id, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ("stdout", "a plain line") in {(row["stream"], row["text"]) for row in rows}
    assert ("stderr", "to stderr") in {(row["stream"], row["text"]) for row in rows}
    assert main(["logs", finished.run_id, "--raw"]) == 0
    assert capsys.readouterr().out == finished.log(1).read_text(encoding="utf-8")


def test_a_shell_completes_verbs_and_the_names_of_runs(finished: Run, stage: Stage) -> None:
    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['kaglaunch']; from launcher.cli import run; run()"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "_KAGLAUNCH_COMPLETE": "complete_bash",
                "COMP_WORDS": " ".join(["kaglaunch", *words]),
                "COMP_CWORD": str(len(words)),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    assert completed("fetch") == ["fetch-checkpoints"]
    assert finished.run_id in completed("watch", finished.run_id[:6])
    assert completed("watch", "no-such") == []
