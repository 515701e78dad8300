"""What `--json` really prints is what docs/json.md says, and a shell completes the names of real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from launcher import documents
from launcher.cli import main
from launcher.runs.records import Run

from .stage import FINISHED, Stage

EVENTS = ("watch", "state", "session", "training", "progress", "result")


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
    schema = documents.json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    lines = documents.DOCUMENTS[name].shape == "lines"
    values = [json.loads(line) for line in out.splitlines()] if lines else [json.loads(out)]
    assert values
    assert values != [[]]
    for value in values:
        jsonschema.validate(value, schema)
    if name == "watch":
        assert set(EVENTS) <= {value["event"] for value in values}


@pytest.mark.parametrize("verb", ["cancel", "resume"])
def test_a_verb_that_acts_prints_the_report_alone(
    verb: str, finished: Run, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    code = main([verb, finished.run_id, "--json"])
    seen = capsys.readouterr()
    assert code == 0, seen.err
    jsonschema.validate(report := json.loads(seen.out), documents.json_schema("report"))
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
    jsonschema.validate(json.loads(capsys.readouterr().out), documents.json_schema("local-status"))


def test_a_schema_refuses_what_lacks_a_field_or_has_one_too_many() -> None:
    row = {"schema": 1, "time": 0.5, "stream": "stdout", "text": "x"}
    schema = documents.json_schema("logs")
    jsonschema.validate(row, schema)
    for wrong in ({**row, "more": 1}, {**row, "time": "0.5"}, {k: v for k, v in row.items() if k != "schema"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_every_document_stands_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    for document in documents.DOCUMENTS.values():
        assert f"`{document.command}`" in page


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
