"""A watched session ends as it would unwatched, and its end is told with its figures: real sessions, real kills."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from launcher import screen
from launcher.config import WatchSettings
from launcher.errors import AlertStop, KernelFailed, LauncherError, SessionCut
from launcher.runs import records, report, standings
from launcher.runs.records import Run, Session
from launcher.runs.run import RunHandle
from launcher.runs.watch import Watch, outcome
from launcher.targets.base import SessionState, Status
from tests.limits import limit_s, until

from .stage import Stage

TRAINS = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
say("published", num_timesteps=40)
say("progress", num_timesteps=70, total_timesteps=100, steps_per_s=50.0)
"""
GRACE_S = limit_s(0.4)
"""A kernel here says what it does about a flood within this time, and is waited for beyond it."""
LASTS = f"""
time.sleep({1.5 * GRACE_S})
say("checkpoint", num_timesteps=70)
say("published", num_timesteps=70)
say("result", status={{status!r}}, num_timesteps=70, total_timesteps=100, published_timesteps=70, message="")
"""
STOPS = """
say("flood", action="stop", lines_per_s=120.4, limit=20.0, reason="debug output is on", sample="[DEBUG] step 3001")
"""
THROTTLES = STOPS.replace("stop", "throttle")
FLOODS = "for i in range(200):\n    print('[DEBUG] step', i, flush=True)\n"
UNHEALTHY = 'say("health", action="stop", rule="one_action", message="Action 0 in 200 steps.")\n'
DEADLINE = 'say("deadline", seconds_left=100.0, margin_seconds=120.0)\n'


FLOOD_SEEN = "flood: 21 [DEBUG lines so fast (limit 20 per s)"


def seen_flood(said: str) -> str:
    """`said`, with the same words however fast the lines came."""
    return re.sub(r"within [\d.e-]+ s|at once", "so fast", said)


def _watch(stage: Stage, run: Run, folder: Path, grace_s: float) -> tuple[SessionState | None, str, str, list[str]]:
    """Its state, how it ended in words, what the screen showed, and the notices that were sent."""
    heard = folder / f"{run.run_id}.heard"
    settings = WatchSettings(grace_s=grace_s, notify_command=f"sh -c 'cat >> {heard}'")
    shown, (session,) = io.StringIO(), stage.book.sessions(run.run_id)
    watch = Watch(run, session, stage.backend(), stage.book, screen.PlainScreen(shown), settings)
    state, said = None, ""
    try:
        state = watch.to_the_end()
        said = outcome(run, stage.book.sessions(run.run_id)[0], state)
    except LauncherError as error:
        said = f"{error.exit_code}: {error}"
    notices = heard.read_text(encoding="utf-8").splitlines() if heard.exists() else []
    return state, said, shown.getvalue(), [notice.partition(": ")[2] for notice in notices]


@pytest.mark.parametrize(
    ("script", "status", "code", "alert"),
    [
        (TRAINS + STOPS, "flood", 4, "flood: 120.4 lines/s (limit 20 per s; [DEBUG] step 3001)"),
        (TRAINS + FLOODS + STOPS, "flood", 4, FLOOD_SEEN),
        (TRAINS + STOPS + FLOODS, "flood", 4, "flood: 120.4 lines/s (limit 20 per s; [DEBUG] step 3001)"),
        (TRAINS + UNHEALTHY, "unhealthy", 4, "unhealthy (one_action): Action 0 in 200 steps."),
        (TRAINS + DEADLINE, "deadline", 6, ""),
    ],
    ids=["flood", "seen here first", "seen by the kernel first", "unhealthy", "deadline"],
)
def test_a_kernel_that_stops_itself_is_waited_for_and_loses_nothing(
    stage: Stage, tmp_path: Path, script: str, status: str, code: int, alert: str
) -> None:
    run = stage.begins(script + LASTS.format(status=status))
    state, said, shown, notices = _watch(stage, run, tmp_path, grace_s=GRACE_S)
    assert state is not None
    assert state.status is Status.COMPLETE
    assert said.startswith(f"{code}: ")
    assert "70 of 100 timesteps, t70 of them published, 0 lost" in said
    assert f"The kernel is stopping itself ({status}): last checkpoint, publish." in shown
    assert [seen_flood(notice) for notice in notices] == ([f"STOP {alert}"] if alert else []), (
        "one alert, whoever saw it first"
    )
    (session,) = stage.book.sessions(run.run_id)
    assert (seen_flood(session.alert), session.result, session.published_timesteps) == (alert, status, 70)
    (row,) = report.report(run, stage.book).sessions
    assert (row.ended, row.lost_timesteps) == (status, 0)


@pytest.mark.parametrize("script", [TRAINS + THROTTLES + FLOODS, TRAINS + FLOODS + THROTTLES])
def test_a_throttled_flood_ends_nothing(stage: Stage, tmp_path: Path, script: str) -> None:
    run = stage.begins(script + LASTS.format(status="finished"))
    _, said, _, notices = _watch(stage, run, tmp_path, grace_s=GRACE_S)
    assert "is finished" in said
    assert len(notices) == 1
    (session,) = stage.book.sessions(run.run_id)
    assert (session.alert, session.result) == ("", "finished")


def test_a_flood_that_its_kernel_is_silent_about_is_ended_and_the_cost_is_said(stage: Stage, tmp_path: Path) -> None:
    run = stage.begins(TRAINS + FLOODS + "time.sleep(600)\n")
    _, said, shown, notices = _watch(stage, run, tmp_path, grace_s=GRACE_S)
    assert said.startswith("4: STOP flood: 21 [DEBUG lines ")
    assert "with 30 timesteps lost" in said
    assert "That costs 30 timesteps, those since the last published checkpoint (t40)" in shown
    assert [seen_flood(notice) for notice in notices] == [f"STOP {FLOOD_SEEN}"]
    (session,) = stage.book.sessions(run.run_id)
    assert seen_flood(session.alert) == FLOOD_SEEN
    (row,) = report.report(run, stage.book).sessions
    assert (row.ended, row.lost_timesteps) == ("stopped by an alert (flood)", 30)
    assert stage.sessions(run) == ["CANCEL_ACKNOWLEDGED"]


@pytest.mark.parametrize(
    ("result", "status", "error", "code", "words"),
    [
        ("finished", Status.COMPLETE, None, 0, "is finished: 70 of 100 timesteps"),
        ("deadline", Status.COMPLETE, SessionCut, 6, "its own deadline after 70 of 100 timesteps, t40 of them"),
        ("stopped", Status.COMPLETE, SessionCut, 6, "asked to end"),
        ("flood", Status.COMPLETE, AlertStop, 4, r"\(flood\) after .* 30 lost[\s\S]*flood: 120.4 lines/s"),
        ("unhealthy", Status.COMPLETE, AlertStop, 4, r"\(unhealthy\)"),
        ("crashed", Status.COMPLETE, KernelFailed, 5, "crashed for good"),
        ("", Status.COMPLETE, KernelFailed, 5, "without saying how"),
        ("a newer kernel's", Status.COMPLETE, KernelFailed, 5, "without saying how"),
        ("", Status.ERROR, KernelFailed, 5, "The kernel failed after .*Kaggle says: why"),
        ("", Status.CANCEL_ACKNOWLEDGED, SessionCut, 6, "cut off after .*30 lost.*Kaggle says: why"),
        ("", Status.NEW_SCRIPT, KernelFailed, 5, "never run"),
    ],
)
def test_an_end_has_its_words_and_its_exit_code(
    stage: Stage, result: str, status: Status, error: type[LauncherError] | None, code: int, words: str
) -> None:
    run = stage.new_run()
    values = dict.fromkeys(Session.__dataclass_fields__, "") | {"run_id": run.run_id, "number": 1}
    values |= {
        "publish_interval_seconds": 20.0,
        "resumed_timesteps": 0,
        "seen_timesteps": 70,
        "most_at_risk": None,
        "published_timesteps": 40,
        "result": result,
        "status": status.value,
        "log_complete": True,
    }
    if result == "flood":
        values |= {"alert_rule": "flood", "alert_message": "120.4 lines/s"}
    session, state = Session(**values), SessionState(status, "why")  # type: ignore[arg-type]
    if error is None:
        assert words in outcome(run, session, state)
        return
    with pytest.raises(error, match=words) as caught:
        outcome(run, session, state)
    assert caught.value.exit_code == code


def test_of_a_session_whose_log_is_gone_no_figure_is_claimed(stage: Stage) -> None:
    stage.kaggle.set_fault("session_limit_at_log", "working")
    run = stage.begins("begin()\nprint('working', flush=True)\ntime.sleep(600)\n")
    until(lambda: stage.sessions(run) == ["CANCEL_ACKNOWLEDGED"])
    (session,) = stage.book.sessions(run.run_id)
    watched = Watch(run, session, stage.backend(), stage.book, screen.PlainScreen(io.StringIO()), WatchSettings())
    state = watched.to_the_end()
    (session,) = stage.book.sessions(run.run_id)
    assert not session.log_complete
    with pytest.raises(SessionCut, match=r"cut off after an unknown number of timesteps, t0 of them published;"):
        outcome(run, session, state)
    (row,) = report.report(run, stage.book).sessions
    assert (row.done_timesteps, row.lost_timesteps, row.ended) == (None, None, "killed")


def test_json_tells_the_alert_and_the_wait(stage: Stage) -> None:
    run = stage.begins(TRAINS + STOPS + LASTS.format(status="flood"))
    shown, (session,) = io.StringIO(), stage.book.sessions(run.run_id)
    Watch(run, session, stage.backend(), stage.book, screen.JsonScreen(shown), WatchSettings()).to_the_end()
    told = [json.loads(line) for line in shown.getvalue().splitlines()]
    (alert,) = [one for one in told if one["event"] == "alert"]
    assert (alert["level"], alert["rule"]) == ("STOP", "flood")
    assert any(one["event"] == "note" and "stopping itself" in one["message"] for one in told)


def test_the_total_is_what_the_kernel_says_everywhere_once_it_has(stage: Stage) -> None:
    script = """
begin()
say("training", num_timesteps=0, total_timesteps=128, requested_timesteps=100)
say("published", num_timesteps=112)
say("result", status="deadline", num_timesteps=112, total_timesteps=128, published_timesteps=112)
"""
    run = stage.begins(script)
    (session,) = stage.book.sessions(run.run_id)
    assert records.total_timesteps(run, [session]) == 100
    state = Watch(
        run, session, stage.backend(), stage.book, screen.PlainScreen(io.StringIO()), WatchSettings()
    ).to_the_end()
    with pytest.raises(SessionCut, match="after 112 of 128 timesteps"):
        outcome(run, stage.book.sessions(run.run_id)[0], state)
    told = report.report(run, stage.book)
    assert (told.total_timesteps, told.safe_timesteps, told.finished) == (128, 112, False)
    assert RunHandle(run, stage.book).total_timesteps == 128
    (row,) = [one for one in standings.listing() if one.run_id == run.run_id]
    assert (row.total_timesteps, standings.asked(run.run_id)[0].total_timesteps) == (128, 128)
