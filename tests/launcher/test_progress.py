"""What the log tells, as numbers and as a picture."""

from __future__ import annotations

import collections
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract import events
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import NO_LIMIT_SECONDS, RunConfig
from kernel.contract.endings import Ending
from kernel.contract.events import Event
from launcher import screen
from launcher.runs import report
from launcher.runs.alerts import Alert, Level
from launcher.runs.ledger import Ledger
from launcher.runs.progress import Progress
from launcher.runs.records import new_run
from launcher.sentences import sentence
from launcher.targets.base import LogLine, SessionState, Status


def _result(t: int, published: int | None) -> events.Result:
    return events.Result(time=9.0, status="flood", num_timesteps=t, published_timesteps=published)


def _line(time: float, **event: Any) -> LogLine:
    return LogLine(time, "stdout", events.PREFIX + json.dumps({"schema": 1, "time": time, **event}))


@dataclass(frozen=True)
class Case:
    """What a session says, and what is known after it at `now_s`."""

    claim: str
    said: Sequence[Event | str]
    known: Mapping[str, Any]
    now_s: float = 0.0


def _training(at: float, t: int = 0, **more: Any) -> events.Training:
    return events.Training(time=at, num_timesteps=t, **({"total_timesteps": 9_000} | more))


def _step(at: float, t: int, speed: float | None = None, **more: Any) -> events.Progress:
    return events.Progress(time=at, num_timesteps=t, steps_per_s=speed, **more)


def _published(at: float, t: int, **more: Any) -> events.Published:
    return events.Published(time=at, num_timesteps=t, **more)


def _needs(at: float, seconds: float, t: int = 0) -> events.Calibration:
    return events.Calibration(time=at, num_timesteps=t, steps_per_s=10.0, seconds_needed=seconds)


def _lost(at: float, t: int, left: int | None) -> events.PublishLost:
    return events.PublishLost(time=at, num_timesteps=t, published_timesteps=left)


def _alarm(at: float) -> events.AtRisk:
    return events.AtRisk(
        time=at,
        num_timesteps=1_300,
        at_risk_timesteps=1_300,
        seconds=65.0,
        limit_timesteps=1_200,
        reason="401 Unauthenticated",
    )


LOADING = events.Phase(time=1.0, phase="loading", detail="loading torch")

CASES = (
    Case(
        "nothing was said",
        (),
        {"at_risk": 0, "at_risk_s": 0.0, "seconds_to_go": None, "ending": None, "total_timesteps": 0, "last_time": 0.0},
        9.0,
    ),
    # at risk
    Case("a start from a checkpoint risks nothing", [_training(1.0, 30)], {"at_risk": 0, "at_risk_s": 0.0}, 9.0),
    Case(
        "steps since the start are at risk",
        [_training(1.0, 30), _step(2.0, 50)],
        {"at_risk": 20, "at_risk_s": 8.0, "num_timesteps": 50, "resumed_timesteps": 30},
        9.0,
    ),
    Case(
        "steps since the newest publish are at risk",
        [_training(1.0, 30), _step(2.0, 50), _published(3.0, 40), _step(4.0, 60)],
        {"at_risk": 20, "at_risk_s": 6.0, "published_timesteps": 40},
        9.0,
    ),
    Case(
        "a publish that is older than the start saves nothing",
        [_training(1.0, 30), _published(2.0, 20), _step(3.0, 50)],
        {"at_risk": 20},
    ),
    Case(
        "an older publish takes nothing back",
        [_training(1.0), _published(2.0, 40), _published(3.0, 20), _step(4.0, 50)],
        {"at_risk": 10, "published_timesteps": 40, "at_risk_s": 6.0},
        9.0,
    ),
    Case(
        "what is published no more is at risk, what the session began with too",
        [_training(1.0, 30), _published(2.0, 40), _step(3.0, 50), _lost(4.0, 40, None)],
        {"at_risk": 50, "published_timesteps": None, "most_at_risk": 50},
    ),
    Case(
        "what is left of what was published is safe",
        [_training(1.0), _published(2.0, 40), _step(3.0, 50), _lost(4.0, 40, 20), _step(5.0, 60)],
        {"at_risk": 40, "published_timesteps": 20},
    ),
    Case(
        "what was taken back and published again is safe",
        [_training(1.0), _published(2.0, 40), _lost(3.0, 40, None), _published(4.0, 50), _step(5.0, 60)],
        {"at_risk": 10, "published_timesteps": 50},
    ),
    Case(
        "work counts as at risk from the moment on that the newest publish took it up",
        [_training(1.0), _step(2.0, 50), _published(9.0, 40, seconds=4.0), _step(10.0, 60)],
        {"at_risk_s": 7.0, "most_at_risk": 50, "most_at_risk_s": 8.0},
        12.0,
    ),
    Case("nothing is measured before the training", [_published(2.0, 40)], {"most_at_risk": None}),
    Case(
        "an alarm stays until a publish",
        [_training(1.0), _alarm(2.0)],
        {"alarm": "1,300 timesteps, 1 min 05 s of work, are at risk (limit 1,200 timesteps): 401 Unauthenticated."},
    ),
    Case("a publish ends an alarm", [_training(1.0), _alarm(2.0), _published(3.0, 40)], {"alarm": ""}),
    Case("everything is published", [_training(1.0), _published(2.0, 40)], {"at_risk": 0, "at_risk_s": 0.0}, 9.0),
    Case("steps before the training began", [_step(2.0, 50)], {"at_risk": 50, "at_risk_s": 0.0}, 9.0),
    Case("a clock before the publish", [_training(1.0), _published(5.0, 1), _step(6.0, 2)], {"at_risk_s": 0.0}, 4.0),
    Case(
        "the result tells a publish that the log lost",
        [_training(1.0), _published(2.0, 40), _result(70, 60)],
        {"at_risk": 10, "published_timesteps": 60},
    ),
    Case("a result that published nothing", [_training(1.0), _published(2.0, 40), _result(70, None)], {"at_risk": 30}),
    Case("a result that published more than was told", [_training(1.0), _result(70, 90)], {"at_risk": 0}),
    Case(
        "a result that knows less", [_training(1.0), _published(2.0, 40), _result(70, 30)], {"published_timesteps": 40}
    ),
    Case("a publish of the very start", [_published(1.0, 0)], {"published_timesteps": 0}),
    Case("a result that published the very start", [_result(70, 0)], {"published_timesteps": 0}),
    Case("timesteps only grow", [_step(1.0, 50), _step(2.0, 40)], {"num_timesteps": 50, "progress_time": 1.0}),
    Case("an equal timestep is no progress", [_step(1.0, 50), _step(2.0, 50)], {"progress_time": 1.0}),
    Case(
        "a newer start does not move the first one",
        [_training(1.0, 30), _training(5.0, 40)],
        {"resumed_timesteps": 30, "training_time": 5.0},
    ),
    Case(
        "a total of nothing is no total", [_training(1.0), _step(2.0, 1, total_timesteps=0)], {"total_timesteps": 9_000}
    ),
    # speed and time to go
    Case(
        "its own speed",
        [_training(0.0), _step(10.0, 1_000, 100.0)],
        {"seconds_to_go": 80.0, "steps_per_s": 100.0},
        10.0,
    ),
    Case("a speed that is not told stays", [_step(1.0, 1, 100.0), _step(2.0, 2)], {"steps_per_s": 100.0}),
    Case("a speed of nothing tells nothing", [_training(0.0), _step(1.0, 1, 0.0)], {"seconds_to_go": None}, 1.0),
    Case(
        "what the kernel calculated",
        [_training(0.0), _step(5.0, 500, 100.0), _needs(6.0, 120.0)],
        {"seconds_to_go": 116.0},
        10.0,
    ),
    Case("what the kernel calculated too short", [_training(0.0), _needs(6.0, 4.0)], {"seconds_to_go": None}, 10.0),
    Case("what the kernel calculated just so", [_training(0.0), _needs(6.0, 4.1)], {"seconds_to_go": 0.1}, 10.0),
    Case(
        "all done needs nothing", [_training(0.0), _needs(6.0, 120.0), _step(7.0, 9_000)], {"seconds_to_go": 0.0}, 8.0
    ),
    Case(
        "more than all done needs nothing",
        [_training(0.0), _needs(6.0, 120.0), _step(7.0, 9_001)],
        {"seconds_to_go": 0.0},
        8.0,
    ),
    Case(
        "just before a minute its own speed counts",
        [_training(10.0), _step(69.9, 1_000, 100.0)],
        {"whole_steps_per_s": None, "seconds_to_go": 80.0},
        69.9,
    ),
    Case(
        "from a minute on all time counts",
        [_training(10.0), _step(70.0, 3_000, 100.0), _needs(70.0, 9.0)],
        {"whole_steps_per_s": 50.0, "seconds_to_go": 120.0},
        70.0,
    ),
    Case("time goes on", [_training(10.0), _step(70.0, 3_000)], {"seconds_to_go": 90.0}, 100.0),
    Case("it is late", [_training(10.0), _step(70.0, 3_000)], {"seconds_to_go": None}, 190.0),
    Case("after all timesteps", [_training(10.0), _step(70.0, 9_000)], {"seconds_to_go": 0.0}, 70.0),
    Case("after all timesteps, at no known speed", [_training(10.0, 9_000)], {"seconds_to_go": 0.0}, 70.0),
    Case("no total is known", [_step(1.0, 5, 100.0)], {"seconds_to_go": None}, 1.0),
    Case(
        "what was done before the session is no speed of it",
        [_training(10.0, 3_000), _step(70.0, 6_000)],
        {"whole_steps_per_s": 50.0, "seconds_to_go": 60.0},
        70.0,
    ),
    Case("one timestep of its own", [_training(10.0, 3_000), _step(110.0, 3_001)], {"whole_steps_per_s": 0.01}),
    Case("none of its own", [_training(10.0, 3_000), _training(110.0, 3_000)], {"whole_steps_per_s": None}),
    # what else is kept
    Case("a session's number", [events.Session(session_id=7), events.Session()], {"session_id": 7}),
    Case("the device", [_training(0.0, device="cuda")], {"device": "cuda"}),
    Case("no device is told", [_training(0.0)], {"device": None}),
    Case("no step yet, the start not told", [LOADING, _step(2.0, 0)], {"phase": LOADING}),
    Case("a first step, the start not told", [LOADING, _step(2.0, 1)], {"phase": None}),
    Case(
        "a checkpoint",
        [events.Checkpoint(num_timesteps=500, time=3.0)],
        {"checkpoint_timesteps": 500, "checkpoint_time": 3.0, "num_timesteps": 500},
    ),
    Case(
        "series of numbers",
        [_step(1.0, 1, reward=0.5, queue=3), _step(2.0, 2, reward="NaN"), _step(3.0, 3)],
        {"rewards": collections.deque([0.5]), "queues": collections.deque([3.0])},
    ),
    Case(
        "the newest sixty",
        [_step(float(i), i, reward=i) for i in range(61)],
        {"rewards": collections.deque(map(float, range(1, 61)))},
    ),
    # the end
    Case("a flood that stops it", [events.Flood()], {"ending": Ending.flood, "result": None}),
    Case("a flood that is throttled", [events.Flood(action="throttle")], {"ending": None}),
    Case("a stop that goes on", [events.Flood(), _step(1.0, 1)], {"ending": Ending.flood}),
    Case("a restart after the word", [events.Health(action="stop"), events.Restart()], {"ending": None}),
    Case("a result", [events.Deadline(), _result(70, 70)], {"ending": Ending.deadline, "result": _result(70, 70)}),
    # lines
    Case("all lines are counted", ["a", "b", events.Session()], {"log_lines": 3}),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_what_a_session_says_is_known(case: Case) -> None:
    progress = Progress()
    for said in case.said:
        out = io.StringIO(said if isinstance(said, str) else "")
        if isinstance(said, Event):
            events.emit(said, out)
        progress.observe(LogLine(0.0, "stdout", out.getvalue()))
    for name, value in case.known.items():
        found = getattr(progress, name)
        found = found(case.now_s) if callable(found) else found
        assert found == (pytest.approx(value) if isinstance(value, float) else value), name


def test_the_ledger_keeps_what_was_told_and_nothing_else() -> None:
    progress = Progress()
    assert progress.known() == {}
    for said in (events.Session(session_id=7), _training(1.0, 30, device="cuda"), _published(2.0, 0), _step(3.0, 50)):
        progress.observe(LogLine(0.0, "stdout", events.PREFIX + json.dumps(said.plain())))
    assert progress.known() == {
        "session_id": 7,
        "resumed_timesteps": 30,
        "seen_timesteps": 50,
        "published_timesteps": 0,
        "trains_on": "cuda",
        "total_timesteps": 9000,
        "exactness": '{"proved_to": null, "inexact_since": null, "reason": ""}',
        "most_at_risk": 20,
        "most_at_risk_s": 1.0,
        "risk_message": "",
    }


def test_a_line_is_counted_for_ten_seconds() -> None:
    progress = Progress()
    for when in (0.0, 0.9, 1.0, 5.0):
        progress.observe(LogLine(when, "stdout", "x"))
    assert [progress.lines_per_s(now_s) for now_s in (9.9, 10.0, 11.0, 14.9, 15.0)] == [0.4, 0.2, 0.1, 0.1, 0.0]


def test_what_is_counted_does_not_grow_with_the_session() -> None:
    progress = Progress()
    for second in range(5_000):
        progress.observe(LogLine(float(second), "stdout", "x"))
    assert len(progress._lines_in) <= 11
    assert progress.last_time == 4_999.0
    assert progress.lines_per_s(4_999.0) == 1.0
    progress.observe(LogLine(3.0, "stdout", "late"))
    assert progress.last_time == 4_999.0


def test_no_step_of_its_own_is_no_speed_however_long_it_took() -> None:
    progress = Progress(num_timesteps=3_000, resumed_timesteps=3_000, training_time=0.0, progress_time=100.0)
    assert progress.whole_steps_per_s is None


def test_a_line_has_its_own_time_where_its_event_has_none() -> None:
    progress = Progress()
    line = events.PREFIX + json.dumps({"event": "training", "schema": 1, "num_timesteps": 0})
    assert isinstance(progress.observe(LogLine(7.0, "stdout", line)), events.Training)
    assert progress.training_time == 7.0
    assert progress.observe(LogLine(8.0, "stdout", "no event")) is None


def test_the_speed_with_waits_is_told_where_the_trainers_own_hides_them() -> None:
    progress = Progress()
    progress.observe(_line(10.0, event="training", num_timesteps=1000, total_timesteps=9000))
    progress.observe(_line(40.0, event="progress", num_timesteps=2000, steps_per_s=100.0))
    assert screen.told_speed(progress) == "100.0 steps/s"
    progress.observe(_line(110.0, event="progress", num_timesteps=5000, steps_per_s=100.0))
    assert screen.told_speed(progress) == "100.0 steps/s (40.0 with evaluations and waits)"
    assert progress.seconds_to_go(110.0) == pytest.approx(4000 / 40.0)
    progress.observe(_line(170.0, event="progress", num_timesteps=9000, steps_per_s=51.0))
    assert screen.told_speed(progress) == "51.0 steps/s"


def test_the_picture_says_that_the_kernel_is_stopping_itself() -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(LogLine(1.0, "stdout", events.PREFIX + json.dumps(events.Flood().plain())))
    assert "flood: the kernel is stopping itself" in screen.picture("run", "RUNNING", progress, 1.0, 900.0)
    progress.observe(LogLine(1.0, "stdout", events.PREFIX + json.dumps(_result(70, 70).plain())))
    assert "stopping" not in screen.picture("run", "COMPLETE", progress, 1.0, 900.0)


def test_the_picture_says_that_the_last_publish_is_still_to_come() -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(_line(1.0, event="training", num_timesteps=0, total_timesteps=100))
    progress.observe(_line(2.0, event="progress", num_timesteps=99, steps_per_s=10.0))
    assert screen.prospect(progress, 2.0, 900.0) == "to go 1 s, within this session"
    progress.observe(_line(3.0, event="progress", num_timesteps=100, steps_per_s=10.0))
    assert screen.prospect(progress, 3.0, 900.0) == "all timesteps are done, the last publish is to come"
    progress.observe(_line(4.0, event="published", num_timesteps=100))
    assert screen.prospect(progress, 4.0, 900.0) == "to go 0 s, within this session"


LARGE = st.integers(0, 20_000_000)
PUBLISH_ALERT = "WARN publish failed: the new version does not list checkpoint_t500.zip.bin as it was sent"


@given(LARGE, LARGE, LARGE, st.floats(1.0, 43_200.0), st.integers(46, 130))
def test_the_picture_keeps_to_the_terminal_and_what_goes_on_below_is_indented(
    total: int, timesteps: int, published: int, now_s: float, width: int
) -> None:
    progress = Progress(total_timesteps=total)
    for line in (
        _line(0.5, **PHASE),
        _line(0.6, event="training", num_timesteps=0),
        *(_line(0.7 + t / 100, event="progress", num_timesteps=t, reward=t / 7, queue=t) for t in range(70)),
        _line(1.4, event="progress", num_timesteps=timesteps, steps_per_s=1234.5),
        _line(1.5, event="checkpoint", num_timesteps=timesteps),
        _line(1.6, event="published", num_timesteps=published),
    ):
        progress.observe(line)
    shown = screen.picture(
        "run-abcdef · session 12 · kaggle", "RUNNING", progress, now_s, 43_200.0, [PUBLISH_ALERT], width=width
    )
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith("  ") for line in lines[1:])
    told = " ".join(shown.split())
    for whole in (f"at risk {progress.at_risk:,} timesteps, ", f"checkpoint t{timesteps:,} (", PUBLISH_ALERT):
        assert whole in told


def test_at_eighty_columns_what_belongs_together_stays_together() -> None:
    progress = Progress(total_timesteps=12_000_000)
    progress.observe(_line(0.0, event="training", num_timesteps=0))
    progress.observe(_line(6.0, event="checkpoint", num_timesteps=1_235_887))
    progress.observe(_line(1.0, event="published", num_timesteps=1_234_567))
    lines = screen.picture("run", "RUNNING", progress, 9.0, 43_200.0, width=80).splitlines()
    assert lines[3:5] == [
        "  checkpoint t1,235,887 (3 s ago)   published t1,234,567 (8 s ago)",
        "    at risk 1,320 timesteps, 8 s",
    ]
    assert (
        screen.picture("run", "RUNNING", progress, 9.0, 43_200.0, width=100).splitlines()[3].endswith("timesteps, 8 s")
    )


def test_what_stands_above_the_picture_goes_on_under_its_own_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    live = screen.LiveScreen()
    warning = LogLine(7.0, "stderr", "RuntimeWarning: overflow encountered in multiply of a matrix")
    live.line(warning, None, Progress())
    live.alert(Alert(Level.WARN, "publish failed", "the new version does not list what was sent to it"))
    assert capsys.readouterr().out.splitlines() == [
        "     7.0 s  RuntimeWarning: overflow encountered in multiply",
        "            of a matrix",
        "WARN publish failed: the new version does not list what was",
        "  sent to it",
    ]


@given(st.text(max_size=200))
def test_no_line_of_any_text_breaks_the_picture(text: str) -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(LogLine(1.0, "stdout", text))
    progress.observe(LogLine(1.0, "stdout", events.PREFIX + text))
    assert "of 100 timesteps" in screen.picture("run", "RUNNING", progress, 1.0, 900.0)


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(sorted(events.EVENTS))},
        optional={
            name: st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text()
            | st.integers()
            for name in ("num_timesteps", "total_timesteps", "steps_per_s", "reward", "queue", "time", "session_id")
        },
    )
)
def test_no_event_with_odd_fields_breaks_what_is_shown(event: dict[str, Any]) -> None:
    out = io.StringIO()
    progress = Progress(total_timesteps=100)
    line = LogLine(1.0, "stdout", events.PREFIX + json.dumps(event))
    shown = screen.PlainScreen(out, every_s=0.0, clock=lambda: 0.0)
    shown.line(line, progress.observe(line), progress)
    assert "Traceback" not in out.getvalue()


PHASE = {"event": "phase", "phase": "loading", "detail": "loading torch"}


def test_what_a_session_does_before_it_trains_is_shown_with_its_age() -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(_line(3.0, **PHASE))
    shown = screen.picture("run", "RUNNING", progress, 15.0, 900.0)
    assert shown.splitlines()[1] == "  now    loading torch: 12 s"
    progress.observe(_line(20.0, event="training", num_timesteps=50, total_timesteps=100))
    progress.observe(_line(21.0, event="phase", phase="of a newer kernel"))
    progress.observe(_line(21.1, event="progress", num_timesteps=50))
    assert "of a newer kernel: 4 s" in screen.picture("run", "RUNNING", progress, 25.0, 900.0)
    progress.observe(_line(26.0, event="progress", num_timesteps=51))
    assert "now" not in screen.picture("run", "RUNNING", progress, 27.0, 900.0)


def test_of_a_session_on_this_machine_nothing_is_published_and_no_limit_is_told() -> None:
    progress = Progress(total_timesteps=100)
    lines = [
        _line(1.0, event="training", num_timesteps=0, total_timesteps=100),
        _line(
            2.0, event="calibration", num_timesteps=20, steps_per_s=5.0, seconds_needed=16.0, seconds_left=315359874.9
        ),
        _line(3.0, event="checkpoint", num_timesteps=40),
    ]
    described = [screen.describe(event) for line in lines if (event := progress.observe(line)) is not None]
    assert "the rest takes 16 s" in described[1]
    assert "left" not in described[1]
    for told in (
        screen.picture("run", "RUNNING", progress, 4.0, NO_LIMIT_SECONDS, here=True),
        screen.summary(progress, here=True),
    ):
        assert "publish" not in told
        assert "checkpoint t40" in told
    assert "session 4 s   to go" in screen.picture("run", "RUNNING", progress, 4.0, NO_LIMIT_SECONDS, here=True)
    assert "published" in screen.picture("run", "RUNNING", progress, 4.0, 900.0)
    began = {"event": "session", "session": 1, "run_id": "a-run", "total_timesteps": 100, "device": "cpu"}
    assert sentence(events.from_plain({**began, "max_seconds": NO_LIMIT_SECONDS})).endswith(
        "device cpu, no limit of time."
    )
    assert sentence(events.from_plain({**began, "max_seconds": 900.0})).endswith("device cpu, at most 15 min 00 s.")


def test_an_alert_in_the_picture_says_how_old_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now, drawn = [100.0], []
    shown = screen.LiveScreen(clock=lambda: now[0])
    monkeypatch.setattr(shown._live, "update", lambda text: drawn.append(str(text)))
    shown.alert(Alert(Level.WARN, "silent", "no log line for 700 s"))
    now[0] = 165.0
    shown.tick(Progress(), 800.0)
    assert "WARN silent: no log line for 700 s (1 min 05 s ago)" in drawn[-1]
    shown.tick(Progress(), 801.0, "no answer for 46 s")
    assert " · no answer for 46 s" in drawn[-1].splitlines()[0]


def test_lines_tell_each_phase_and_every_ten_seconds_that_it_goes_on() -> None:
    out, now, progress = io.StringIO(), [0.0], Progress()
    shown = screen.PlainScreen(out, clock=lambda: now[0])
    line = _line(3.0, **PHASE)
    shown.line(line, progress.observe(line), progress)
    for now[0] in (5.0, 9.9, 10.0, 15.0, 20.0):
        shown.tick(progress, 3.0 + now[0])
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        "3.0 s  loading torch",
        "13.0 s  loading torch: 10 s",
        "23.0 s  loading torch: 20 s",
    ]


def test_a_session_that_is_queued_is_told_with_how_long_it_has_waited(tmp_path: Path) -> None:
    out, now, progress = io.StringIO(), [100.0], Progress()
    shown = screen.PlainScreen(out, clock=lambda: now[0])
    book = Ledger(tmp_path / "ledger.sqlite")
    run = new_run("quick-abcdef", "local", "local", RunConfig("quick-abcdef", 100, 10), tmp_path)
    book.add_run(run)
    book.begin_session(
        run, device="cpu", accelerator=None, max_seconds=900.0, max_timesteps_at_risk=0,
        publish_interval_seconds=5.0, after=0,
    )  # fmt: skip
    shown.begin(run, book.sessions(run.run_id)[0])
    for now[0] in (110.0, 130.0, 159.0, 160.0):
        shown.tick(progress, 0.0)
    shown.state(SessionState(Status.RUNNING))
    now[0] = 300.0
    shown.tick(progress, 0.0)
    assert out.getvalue().splitlines()[1:] == [
        "[QUEUED] for 30 s so far",
        "[QUEUED] for 1 min 00 s so far",
        "[RUNNING]",
    ]


def test_the_trial_before_the_training_is_told_by_what_passed_and_by_each_thing_that_did_not() -> None:
    good = [Check(name, Verdict.PASS, "seen") for name in ("checkpointing", "signals")]
    assert screen.describe(events.Gate(checks=tuple(good))) == "trial passed: checkpointing, signals"
    bad = Check("environment", Verdict.FAIL, "The reward is 0.", "Mend\nit.")
    assert screen.describe(events.Gate(checks=(good[0], bad))).splitlines() == [
        "trial over, passed: checkpointing",
        "            trial FAIL environment: The reward is 0. Mend it.",
    ]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_a_sparkline_has_a_bar_a_value_and_its_highest_at_the_maximum(values: list[float]) -> None:
    bars = screen.sparkline(values)
    assert len(bars) == len(values)
    assert bars[values.index(max(values))] == max(bars)


def test_durations_read_as_people_say_them() -> None:
    assert [screen.duration(s) for s in (0.4, 59, 61, 3_600, 43_200)] == [
        "0 s", "59 s", "1 min 01 s", "1 h 00 min", "12 h 00 min",
    ]  # fmt: skip


def test_the_report_counts_what_a_kill_has_cost_and_its_bound(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = new_run("quick-abcdef", "local", "local", RunConfig("quick-abcdef", 100, 10), tmp_path)
    book.add_run(run)
    book.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=60,
        max_timesteps_at_risk=20,
        publish_interval_seconds=0,
        after=0,
    )
    book.update_session(
        run.run_id,
        1,
        submission="pushed",
        seen_timesteps=50,
        published_timesteps=30,
        status="CANCEL_ACKNOWLEDGED",
        log_complete=True,
    )
    told = report.report(run, book)
    (row,) = told.sessions
    assert (row.done_timesteps, row.published_timesteps, row.lost_timesteps, row.bound) == (
        50,
        30,
        20,
        "20 timesteps, as asked for",
    )
    book.update_session(run.run_id, 1, most_at_risk=45, most_at_risk_s=70.0)
    (row,) = report.report(run, book).sessions
    assert row.bound == "45 timesteps, 1 min 10 s of work, as measured so far"
    book.update_session(run.run_id, 1, status="RUNNING", log_complete=False, seen_timesteps=90, risk_message="x: 403.")
    told = report.report(run, book)
    assert told.sessions[0].bound == "60 timesteps, 1 min 10 s of work, as measured so far"
    table = report.as_table(run, told)
    assert "costs at most 60 timesteps, 1 min 10 s of work" in " ".join(table.split())
    assert "ALERT session 1: x: 403." in table
    book.update_session(run.run_id, 1, published_timesteps=10)
    assert report.report(run, book).safe_timesteps == 30, "timesteps only ever grow,"
    book.update_session(run.run_id, 1, taken_back=True, published_timesteps=10)
    assert report.report(run, book).safe_timesteps == 10, "but what was taken back"
    assert "killed" in row.ended
    text = report.as_table(run, told)
    assert "30 of 100 timesteps safe, not finished yet" in text
