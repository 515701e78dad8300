"""A reader that goes and a stream that was closed before: what acts is done, what shows ends well, with no word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.runs.ledger import Ledger
from tests.limits import limit_s

from .stage import ENDLESS, FINISHED, Stage

CHATTERS = """
begin()
for number in range(100000):
    print("line", number, flush=True)
    time.sleep(0.01)
"""


def _typed(*arguments: str, folder: Path) -> tuple[int, str]:
    """Exit code and standard error of a command whose standard output nobody reads."""
    command = [sys.executable, "-m", "kaglaunch", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=limit_s(120), check=False
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr


def _in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    shell = f'set -o pipefail; kaglaunch() {{ {sys.executable} -m kaglaunch "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", shell], cwd=folder, capture_output=True, text=True, timeout=limit_s(120), check=False
    )


def test_a_push_whose_output_nobody_reads_pushes(stage: Stage, tmp_path: Path) -> None:
    known = {run.run_id for run in Ledger().runs()}
    code, said = _typed("push", "--quick", "--device", "cpu", "--waive", "speed", folder=tmp_path)
    assert code == 0, said
    (pushed,) = [run for run in Ledger().runs() if run.run_id not in known]
    assert stage.sessions(pushed)
    assert "Broken" not in said


def test_a_cancel_whose_output_nobody_reads_ends_the_session(stage: Stage) -> None:
    run = stage.begins(ENDLESS)
    code, said = _typed("cancel", run.run_id, "--yes", folder=stage.folder)
    assert (code, stage.sessions(run)) == (0, ["CANCEL_ACKNOWLEDGED"]), said


@pytest.mark.parametrize("verb", ["logs RUN", "report RUN", "runs", "runs --json", "push --help", "logs RUN --json"])
def test_a_listing_that_is_cut_short_ended_well(stage: Stage, verb: str) -> None:
    run = stage.begins(FINISHED)
    code, said = _typed(*verb.replace("RUN", run.run_id).split(), folder=stage.folder)
    assert (code, "rror" in said) == (0, False), said


@pytest.mark.parametrize("verb", ["logs --follow", "watch"])
def test_what_only_shows_ends_with_its_reader(stage: Stage, verb: str) -> None:
    run = stage.begins(CHATTERS)
    began = time.monotonic()
    done = _in_shell(f"kaglaunch {verb} {run.run_id} | head -2", stage.folder)
    assert (done.returncode, done.stderr.count("rror")) == (0, 0), done.stderr
    assert time.monotonic() - began < limit_s(60)
    assert stage.sessions(run) == ["RUNNING"], "looking on ends nothing"


INTERRUPTED = """
import signal, sys
from launcher import streams

class Heard(Exception): pass

def hear(*_):
    global writing
    if writing:
        writing = False
        raise Heard

writing = False
streams.prepare()
signal.signal(signal.SIGALRM, hear)
signal.setitimer(signal.ITIMER_REAL, 1e-3, 2e-4)
for number in range(20000):
    try:
        writing = True
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        writing = False
    except Heard:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
sys.stdout.write("over\\n")
"""


def test_a_command_that_is_interrupted_says_nothing_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=limit_s(120), check=False
    )
    said = done.stdout.split()
    assert (done.returncode, said[-1]) == (0, "over"), done.stderr
    assert sorted(set(said[:-1]), key=int) == said[:-1]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("kaglaunch logs {run} >&-", 0, ""),
        ("kaglaunch watch {run} >&-", 0, ""),
        ("kaglaunch report {run} 2>&-", 0, "Run "),
        ("kaglaunch cancel {run} <&-", 0, "is over already"),
    ],
)
def test_a_stream_that_is_closed_from_the_beginning_is_done_without(
    stage: Stage, line: str, code: int, says: str
) -> None:
    run = stage.begins(FINISHED)
    _in_shell(f"kaglaunch watch {run.run_id}", stage.folder)
    done = _in_shell(line.format(run=run.run_id), stage.folder)
    assert (done.returncode, "NoneType" in done.stderr) == (code, False), done.stderr
    assert says in done.stdout


def test_nobody_to_ask_is_said_where_standard_input_is_closed(stage: Stage) -> None:
    run = stage.begins(ENDLESS)
    done = _in_shell(f"kaglaunch cancel {run.run_id} <&-", stage.folder)
    assert (done.returncode, stage.sessions(run)) == (3, ["RUNNING"])
    assert "Nobody can be asked" in done.stderr
