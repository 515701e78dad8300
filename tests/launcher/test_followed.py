"""What is known of a session that was followed in part, or whose target does not answer, and how old that is."""

from __future__ import annotations

import io
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from launcher import screen
from launcher.cli import main
from launcher.commands import status
from launcher.config import WatchSettings
from launcher.documents.runs import Relay
from launcher.errors import LauncherError, SessionCut
from launcher.local_kaggle.service import ServiceError
from launcher.runs import look, report, standings
from launcher.runs.kept_log import Copy
from launcher.runs.records import Run
from launcher.runs.watch import Watch, outcome
from tests.limits import limit_s, until

from .stage import ENDLESS, FINISHED, Stage
from .test_watch import TRAINS

LASTS = TRAINS + "time.sleep(600)\n"


@contextmanager
def _watched(stage: Stage, run: Run, out: io.StringIO, every_s: float = 5.0) -> Iterator[threading.Thread]:
    """A watch of the first session of `run` in a thread of its own, which is over in the end."""
    (session,) = stage.book.sessions(run.run_id)
    watch = Watch(run, session, stage.backend(), stage.book, screen.PlainScreen(out, every_s), WatchSettings())

    def follow() -> None:
        try:
            watch.to_the_end()
        except LauncherError as error:
            out.write(str(error))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield thread
    thread.join(limit_s(60))
    assert not thread.is_alive()


def _kill(stage: Stage, run: Run) -> None:
    number = next(
        one["session_id"] for one in stage.kaggle.status()["sessions"] if one["kernel"] == f"local/{run.slug(1)}"
    )
    stage.backend().cancel(number)


def test_nothing_is_said_to_be_lost_of_a_killed_session_that_nobody_followed(stage: Stage) -> None:
    run = stage.begins(LASTS)
    until(lambda: stage.sessions(run) == ["RUNNING"])
    _kill(stage, run)
    until(lambda: stage.sessions(run) == ["CANCEL_ACKNOWLEDGED"])
    # An earlier look had seen this much of it.
    stage.book.update_session(run.run_id, 1, seen_timesteps=70, published_timesteps=40)
    out = io.StringIO()
    with _watched(stage, run, out):
        pass
    (session,) = stage.book.sessions(run.run_id)
    assert (session.status, session.log_complete) == ("CANCEL_ACKNOWLEDGED", 0)
    (row,) = report.report(run, stage.book).sessions
    assert (row.lost_timesteps, report.cost(row)) == (None, "unknown")
    with pytest.raises(SessionCut) as caught:
        outcome(run, session, stage.backend().state(run.slug(1)))
    assert "lost" not in str(caught.value).splitlines()[0]


def test_what_is_lost_of_a_killed_session_is_known_where_it_was_followed_to_that_moment(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = stage.begins(LASTS), io.StringIO()
    with _watched(stage, run, out):
        until(lambda: stage.book.sessions(run.run_id)[0].seen_timesteps == 70)
        _kill(stage, run)
    (row,) = report.report(run, stage.book).sessions
    assert row.lost_timesteps == 30
    assert main(["logs", run.run_id]) == 0
    assert "maybe not all" not in capsys.readouterr().err, "all of it was seen"


def test_a_late_watch_leaves_what_was_seen_and_logs_says_that_it_is_a_part(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.begins(LASTS)
    first = until(
        lambda: len(found := list(itertools.islice(stage.backend().log_lines(run.slug(1)), 2))) == 2 and found
    )
    with Copy(run, 1) as copy:  # a watch that was killed
        for line in first:
            copy.write(line)
    _kill(stage, run)
    until(lambda: stage.sessions(run) == ["CANCEL_ACKNOWLEDGED"])
    seen = run.log(1).read_bytes()
    with _watched(stage, run, io.StringIO()):
        pass
    assert run.log(1).read_bytes() == seen
    assert main(["logs", run.run_id, "--raw"]) == 0
    told = capsys.readouterr()
    assert told.out.encode() == seen
    assert "maybe not all of it: the target has it no more." in told.err
    (session,) = stage.book.sessions(run.run_id)
    assert not session.log_complete


def test_a_cancel_that_is_declined_freezes_no_log(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    run = stage.begins(TRAINS + "time.sleep(8)\nprint('later', flush=True)\ntime.sleep(600)\n")
    until(lambda: stage.sessions(run) == ["RUNNING"])
    assert main(["cancel", run.run_id]) == 3, "nobody can be asked"
    assert "later" not in run.log(1).read_text("utf-8")
    until(lambda: any(line.text == "later" for line in itertools.islice(stage.backend().log_lines(run.slug(1)), 5)))
    capsys.readouterr()
    assert main(["logs", run.run_id]) == 0
    assert "later" in capsys.readouterr().out
    _kill(stage, run)


def test_the_ledger_knows_what_a_watch_sees_and_when(stage: Stage) -> None:
    run, out = stage.begins("time.sleep(600)\n"), io.StringIO()
    with _watched(stage, run, out):
        until(lambda: stage.book.sessions(run.run_id)[0].status == "RUNNING")
        (session,) = stage.book.sessions(run.run_id)
        assert session.seen_at > session.pushed
        unanswered = look.Look(error=LauncherError("No answer."))
        told = report.report(run, stage.book, unanswered, now=lambda: session.seen_at + 61.0)
        assert (told.sessions[0].ended, told.seen_age_s) == ("running", 61)
        assert "1 min 01 s ago" in report.as_table(run, told)
        until(lambda: stage.book.sessions(run.run_id)[0].seen_at > session.seen_at, seconds=40.0)
        _kill(stage, run)


@pytest.mark.slow
@pytest.mark.parametrize("script", [LASTS, ""], ids=["a stream is open", "it is queued"])
def test_a_target_that_does_not_answer_is_told_with_the_age_of_its_last_answer(stage: Stage, script: str) -> None:
    if not script:
        stage.kaggle.change_settings(queue_s=600.0)
    run, out = stage.begins(script or ENDLESS), io.StringIO()
    server = stage.kaggle.status()["pid"]
    with _watched(stage, run, out, every_s=1.0):
        state = "RUNNING" if script else "QUEUED"
        until(lambda: f"[{state}]" in out.getvalue())
        if script:
            until(lambda: stage.book.sessions(run.run_id)[0].seen_timesteps == 70)
        os.kill(server, signal.SIGSTOP)
        try:
            until(lambda: out.getvalue().count(f"[{state}] no answer for ") > 1, seconds=60.0)
            at = out.getvalue().index("no answer")
        finally:
            os.kill(server, signal.SIGCONT)
        said = out.getvalue()[at:].splitlines()[0]
        assert said.endswith(" s ago")
        assert ", the last one " in said
        stage.kaggle.change_settings(queue_s=0.0)
        if script:
            _kill(stage, run)
        else:
            until(lambda: "[RUNNING]" in out.getvalue(), seconds=90.0)
            _kill(stage, run)


@pytest.mark.slow
def test_an_embedded_kaggle_that_does_not_answer_is_named_by_its_process(stage: Stage) -> None:
    server = stage.kaggle.status()["pid"]
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(ServiceError, match=rf"Another embedded Kaggle \(process {server}\) holds the state folder"):
            stage.kaggle.ensure_running(timeout_s=limit_s(20))
    finally:
        os.kill(server, signal.SIGCONT)


def test_a_relay_of_a_run_that_is_done_is_over_and_goes_on_no_more(stage: Stage) -> None:
    run = stage.begins(FINISHED)
    stage.book.begin_relay(run.run_id, device="cpu", accelerator="", max_hours=1.0, since=0)
    with _watched(stage, run, io.StringIO()):
        pass
    found, error = standings.asked(run.run_id)
    assert (error, found.relay) == (None, Relay("on", "", None))
    said = "\n".join(status.lines(found))
    assert "over: all timesteps are done" in said
    assert "interrupted" not in said
