"""Alerts are raised by what happens in the log and in time, with their figures, and only then."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kernel.contract import events
from kernel.contract.events import Event
from launcher.config import WatchSettings
from launcher.runs.alerts import Alert, Alerts, Level
from launcher.runs.progress import Progress
from launcher.targets.base import LogLine

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded logs in ../shared/data are not here")
OLD_FLOOD = {"event": "flood", "schema": 1, "time": 5.0, "lines_per_s": 120.4, "limit": 100.0}
OLD_FLOOD |= {"reason": "too many lines", "action": "throttle"}
"""As a kernel wrote it that sent no sample."""

Said = str | Event | Mapping[str, object]
"""A line of the trainer, an event as the contract makes it, or one as another version wrote it."""


@dataclass(frozen=True)
class Case:
    """What comes when, and the alerts that it raises."""

    claim: str
    said: Sequence[tuple[float, Said]]
    alerts: Sequence[str]
    """In words: level, rule and message."""
    limits: Mapping[str, float] = field(default_factory=dict)


def _every(seconds: float, count: int, text: str = "step done", start: float = 0.0) -> list[tuple[float, Said]]:
    return [(start + seconds * i, text) for i in range(count)]


def _health(**fields: object) -> events.Health:
    values: dict[str, object] = {"rule": "one_action", "message": "The policy chose action 0 in 200 steps."}
    return events.Health(**(values | fields))  # type: ignore[arg-type]


def _speed(steps_per_s: float | None) -> events.Progress:
    return events.Progress(num_timesteps=1, steps_per_s=steps_per_s)


FLOOD = events.Flood(lines_per_s=120.4, limit=20.0, reason="debug output is on", sample="[DEBUG] step 3001 x")
STARTED = events.Training(num_timesteps=0)
AT_RISK = events.AtRisk(
    num_timesteps=1_300, at_risk_timesteps=1_300, seconds=65.0, limit_timesteps=1_200, reason="HTTP 403"
)
CASES = (
    # the trainer's own lines
    Case("as many debug lines as the limit", _every(0.01, 3, "[DEBUG] x"), (), {"max_debug_lines_per_s": 3}),
    Case(
        "one debug line more than the limit in a second",
        _every(0.01, 4, "[DEBUG] x"),
        ("STOP flood: 4 [DEBUG lines within 0.03 s (limit 3 per s)",),
        {"max_debug_lines_per_s": 3},
    ),
    Case(
        "debug lines as far apart as the times of a log tell",
        _every(0.01, 2, "[DEBUG] x"),
        ("STOP flood: 2 [DEBUG lines within 0.01 s (limit 1 per s)",),
        {"max_debug_lines_per_s": 1},
    ),
    Case(
        "debug lines nearer to each other than that",
        _every(0.0099, 2, "[DEBUG] x"),
        ("STOP flood: 2 [DEBUG lines at once (limit 1 per s)",),
        {"max_debug_lines_per_s": 1},
    ),
    Case("debug lines a second apart", _every(1.0, 40, "[DEBUG] x"), (), {"max_debug_lines_per_s": 1}),
    Case(
        "debug lines just within a second",
        _every(0.999, 2, "[DEBUG] x"),
        ("STOP flood: 2 [DEBUG lines within 0.999 s (limit 1 per s)",),
        {"max_debug_lines_per_s": 1},
    ),
    Case("ordinary lines are no debug output", _every(0.01, 4), (), {"max_debug_lines_per_s": 3}),
    Case("as many lines as the burst limit", _every(0.0001, 5), (), {"max_burst_lines_per_s": 5}),
    Case(
        "one line more than the burst limit",
        _every(0.0001, 6),
        ("STOP flood: 6 lines at once (limit 5 per s)",),
        {"max_burst_lines_per_s": 5},
    ),
    Case(
        "lines of one entry count each",
        [(0.0, "a\nb\nc\nd\ne\nf")],
        ("STOP flood: 6 lines at once (limit 5 per s)",),
        {"max_burst_lines_per_s": 5},
    ),
    Case("as many lines as the limit for a minute", _every(0.5, 240), (), {"max_lines_per_s": 2}),
    Case(
        "more lines than the limit for a minute",
        _every(0.49, 130),
        ("STOP flood: 121 lines within 58.8 s (limit 2 per s)",),
        {"max_lines_per_s": 2},
    ),
    Case(
        "a flood that goes on is told once",
        _every(0.0001, 40),
        ("STOP flood: 6 lines at once (limit 5 per s)",),
        {"max_burst_lines_per_s": 5},
    ),
    # the kernel's word on a flood
    Case(
        "the kernel stops a flood",
        [(5.0, FLOOD)],
        ("STOP flood: 120.4 lines/s (limit 20 per s; [DEBUG] step 3001 x)",),
    ),
    Case(
        "the kernel throttles a flood",
        [(5.0, {**FLOOD.plain(), "action": "throttle"})],
        ("WARN flood: 120.4 lines/s (limit 20 per s; [DEBUG] step 3001 x)",),
    ),
    Case(
        "an older kernel throttles a flood",
        [(5.0, OLD_FLOOD)],
        ("WARN flood: 120.4 lines/s (limit 100 per s; too many lines)",),
    ),
    Case(
        "an older kernel stops a flood",
        [(5.0, {**OLD_FLOOD, "action": "stop"})],
        ("STOP flood: 120.4 lines/s (limit 100 per s; too many lines)",),
    ),
    Case("a flood without figures", [(5.0, events.Flood())], ("STOP flood: the kernel saw a log flood",)),
    Case(
        "a flood with a limit alone",
        [(5.0, events.Flood(limit=0.5))],
        ("STOP flood: the kernel saw a log flood (limit 0.5 per s)",),
    ),
    Case(
        "a newer kernel does something else",
        [(5.0, events.Flood(action="fold"))],
        ("WARN flood: the kernel saw a log flood",),
    ),
    Case(
        "the kernel's word after the launcher's own rule",
        [*_every(0.0001, 6), (5.0, FLOOD)],
        ("STOP flood: 6 lines at once (limit 5 per s)",),
        {"max_burst_lines_per_s": 5},
    ),
    Case(
        "the launcher's own rule after the kernel's word",
        [(0.0, {**FLOOD.plain(), "action": "throttle"}), *_every(0.0001, 6, start=5.0)],
        ("WARN flood: 120.4 lines/s (limit 20 per s; [DEBUG] step 3001 x)",),
        {"max_burst_lines_per_s": 5},
    ),
    # health
    Case("a finding", [(5.0, _health())], ("WARN unhealthy (one_action): The policy chose action 0 in 200 steps.",)),
    Case(
        "a finding of no rule",
        [(5.0, _health(rule=""))],
        ("WARN unhealthy (no rule): The policy chose action 0 in 200 steps.",),
    ),
    Case(
        "a finding without words",
        [(5.0, _health(message="", figure=7, limit="5 actions"))],
        ("WARN unhealthy (one_action): 7 (limit 5 actions)",),
    ),
    Case("fewer findings than asked for", [(5.0, _health())] * 2, (), {"health_reports": 3}),
    Case(
        "findings of two rules are not added up",
        [(5.0, _health()), (5.0, _health(rule="not_finite"))],
        (),
        {"health_reports": 2},
    ),
    Case(
        "as many findings as asked for",
        [(5.0, _health())] * 3,
        ("WARN unhealthy (one_action): The policy chose action 0 in 200 steps.",),
        {"health_reports": 3},
    ),
    Case(
        "an end for a finding is told at the first",
        [(5.0, _health(action="stop"))],
        ("STOP unhealthy (one_action): The policy chose action 0 in 200 steps.",),
        {"health_reports": 3},
    ),
    Case(
        "a trainer that is started again",
        [(5.0, _health(action="restart", rule="silence", message="x"))],
        ("WARN unhealthy (silence): x",),
    ),
    # speed: the launcher's rule and the kernel's are one
    Case("the kernel finds it slow", [(5.0, _health(rule="slow", message="2 per s"))], ("WARN slow: 2 per s",)),
    Case(
        "slow never ends a session",
        [(5.0, _health(rule="slow", message="2 per s", action="stop"))],
        ("WARN slow: 2 per s",),
    ),
    Case(
        "slow by both",
        [(0.0, STARTED), (60.0, _speed(4.0)), (61.0, _health(rule="slow"))],
        ("WARN slow: 4.00 timesteps/s (limit 5 per s)",),
    ),
    Case("slow before it is warm", [(1.0, STARTED), (60.9, _speed(0.1))], ()),
    Case(
        "slow when it is warm", [(1.0, STARTED), (61.0, _speed(0.1))], ("WARN slow: 0.10 timesteps/s (limit 5 per s)",)
    ),
    Case("as fast as the limit", [(60.0, _speed(5.0))], ()),
    Case("no speed is told", [(60.0, _speed(None))], ()),
    Case(
        "slow, well, and slow again",
        [(60.0, _speed(4.0)), (61.0, _speed(3.0)), (62.0, _speed(6.0)), (63.0, _speed(2.5))],
        ("WARN slow: 4.00 timesteps/s (limit 5 per s)", "WARN slow: 2.50 timesteps/s (limit 5 per s)"),
    ),
    # what went wrong inside
    Case(
        "a failed publish, each time",
        [(1.0, events.PublishFailed(reason="429"))] * 2,
        ("WARN publish failed: 429",) * 2,
    ),
    Case(
        "far more at risk than was asked for",
        [(1.0, AT_RISK)],
        ("ALERT at risk: 1,300 timesteps, 1 min 05 s of work, are at risk (limit 1,200 timesteps): HTTP 403.",),
    ),
    Case(
        "no publish can succeed any more",
        [(1.0, dataclasses.replace(AT_RISK, final=True, limit_timesteps=None, limit_seconds=40.0))],
        (
            "ALERT at risk: 1,300 timesteps, 1 min 05 s of work, are at risk (limit 40 s): HTTP 403. No publish can "
            "succeed: only the outputs of its end bring checkpoints out.",
        ),
    ),
    Case(
        "what was published is gone",
        [(1.0, events.PublishLost(num_timesteps=40, reason="there is no such dataset"))],
        ("ALERT publish lost: What was published, t40, is gone; nothing is left: there is no such dataset.",),
    ),
    Case(
        "a publish that takes longer than usual",
        [(1.0, events.PublishSlow(num_timesteps=40, seconds=31.0, usual_seconds=3.0, waits_for="the new version"))],
        ("WARN publish slow: Publishing t40 takes 31 s so far; the longest one before took 3 s: the new version.",),
    ),
    Case(
        "a failed first version", [(1.0, events.WriteFailed(dataset="a/b"))], ("WARN write failed: no reason is told",)
    ),
    Case(
        "a failed checkpoint",
        [(1.0, events.CheckpointFailed(num_timesteps=3, reason="disk full"))],
        ("WARN checkpoint failed: disk full",),
    ),
    Case(
        "the first checkpoint that fails, of a kernel that counts them",
        [(1.0, events.CheckpointFailed(num_timesteps=3, reason="disk full", in_a_row=1))],
        ("WARN checkpoint failed: disk full",),
    ),
    Case(
        "a second checkpoint in a row that fails",
        [(1.0, events.CheckpointFailed(num_timesteps=3, reason="disk full", in_a_row=2))],
        (
            "ALERT nothing is saved: 2 checkpoints in a row could not be written (disk full): what was done since the "
            "last one would be lost with the session. End it with `kaglaunch cancel`; `kaglaunch resume` goes on from "
            "what is published",
        ),
    ),
    Case(
        "checkpoints of which none is written, whenever they are twice as many",
        [(1.0, events.CheckpointFailed(num_timesteps=n, reason="disk full", in_a_row=n)) for n in range(3, 16)],
        tuple(
            f"ALERT nothing is saved: {n} checkpoints in a row could not be written (disk full): what was done since "
            "the last one would be lost with the session. End it with `kaglaunch cancel`; `kaglaunch resume` goes on "
            "from what is published"
            for n in (4, 8)
        ),
    ),
    Case("a restart", [(1.0, events.Restart(reason="SIGSEGV"))], ("WARN restart: SIGSEGV",)),
    Case(
        "an event of wrong types, once",
        [(1.0, {"event": "published", "num_timesteps": "many"})] * 2,
        ("WARN malformed event: published: num_timesteps must be a whole number; got 'many'",),
    ),
    Case("an event of a newer kernel", [(1.0, {"event": "applause"})], ()),
    Case("the kernel's deadline", [(1.0, events.Deadline(seconds_left=100.0))], ()),
)


def _line(when: float, said: Said) -> LogLine:
    if isinstance(said, str):
        return LogLine(when, "stdout", said)
    if isinstance(said, Event):
        written = io.StringIO()
        events.emit(said, written)
        return LogLine(when, "stdout", written.getvalue().rstrip("\n"))
    return LogLine(when, "stdout", events.PREFIX + json.dumps(said))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_a_line_raises_the_alert_with_its_figure(case: Case) -> None:
    alerts, raised = Alerts(WatchSettings(**case.limits)), []  # type: ignore[arg-type]
    for when, said in case.said:
        line = _line(when, said)
        raised += [str(alert) for alert in alerts.on_line(line, events.parse(line.text))]
    assert raised == list(case.alerts)


@dataclass(frozen=True)
class Moment:
    """What stands at an instant of the session, and the alerts that it raises."""

    claim: str
    alerts: Sequence[str]
    progress: Progress = field(default_factory=Progress)
    silent_s: float = 0.0
    now_s: float = 0.0
    limit_s: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)


def _slow_run(**more: object) -> Progress:
    """400 of 1,000 timesteps, at one a second by its own word."""
    values: dict[str, object] = {"total_timesteps": 1_000, "num_timesteps": 400, "steps_per_s": 1.0}
    return Progress(**(values | more))  # type: ignore[arg-type]


RESULT = events.Result(status="finished")
CLOCK = {"min_session_left_s": 500.0}
MOMENTS = (
    Moment("as silent as the limit", (), silent_s=600.0),
    Moment("more silent than the limit", ("WARN silent: no log line for 601 s (limit 600 s)",), silent_s=601.0),
    # publishing
    Moment("unpublished for as long as the limit", (), _slow_run(published_time=50.0), now_s=1_850.0),
    Moment(
        "unpublished for longer than the limit",
        ("ALERT not publishing: 400 timesteps at risk; nothing was published for 1801 s",),
        _slow_run(published_time=50.0, training_time=1_000.0),
        now_s=1_851.0,
    ),
    Moment(
        "never published since training began",
        ("ALERT not publishing: 400 timesteps at risk; nothing was published for 1801 s",),
        _slow_run(training_time=50.0),
        now_s=1_851.0,
    ),
    Moment("training has not begun", (), _slow_run(), now_s=9_999.0),
    Moment("nothing is at risk", (), _slow_run(published_timesteps=400, published_time=1.0), now_s=9_999.0),
    Moment(
        "one timestep is at risk",
        ("ALERT not publishing: 1 timesteps at risk; nothing was published for 9998 s",),
        _slow_run(published_timesteps=399, published_time=1.0),
        now_s=9_999.0,
    ),
    # the session's clock
    Moment("as much left as the limit", (), _slow_run(), now_s=500.0, limit_s=1_000.0, limits=CLOCK),
    Moment(
        "less left than the limit and than is needed",
        (
            "WARN clock: 499 s of the session are left (limit 500 s) and the run needs 600 s; "
            "`kaglaunch resume` goes on after it",
        ),
        _slow_run(),
        now_s=501.0,
        limit_s=1_000.0,
        limits=CLOCK,
    ),
    Moment(
        "little left, and it is enough", (), _slow_run(num_timesteps=501), now_s=501.0, limit_s=1_000.0, limits=CLOCK
    ),
    Moment(
        "one second too little",
        (
            "WARN clock: 499 s of the session are left (limit 500 s) and the run needs 500 s; "
            "`kaglaunch resume` goes on after it",
        ),
        _slow_run(num_timesteps=500),
        now_s=501.0,
        limit_s=1_000.0,
        limits=CLOCK,
    ),
    Moment(
        "nobody knows what is needed, and half of the session is over",
        (
            "WARN clock: 499 s of the session are left (limit 500 s) and the run needs more; "
            "`kaglaunch resume` goes on after it",
        ),
        _slow_run(steps_per_s=None),
        now_s=501.0,
        limit_s=1_000.0,
        limits=CLOCK,
    ),
    Moment(
        "nobody knows what is needed, and half of it is not over",
        (),
        _slow_run(steps_per_s=None),
        now_s=500.0,
        limit_s=1_000.0,
        limits={"min_session_left_s": 501.0},
    ),
    Moment(
        "the limit is passed",
        (
            "WARN clock: 0 s of the session are left (limit 500 s) and the run needs 600 s; "
            "`kaglaunch resume` goes on after it",
        ),
        _slow_run(),
        now_s=1_007.0,
        limit_s=1_000.0,
        limits=CLOCK,
    ),
    Moment("no limit is known", (), _slow_run(), now_s=501.0, limits=CLOCK),
    Moment("it has ended", (), _slow_run(result=RESULT), now_s=900.0, limit_s=1_000.0, limits=CLOCK),
    # the quota
    Moment("nobody knows the quota", (), _slow_run()),
    Moment("as many hours as the limit", (), _slow_run(quota_left_h=1.0)),
    Moment(
        "fewer hours than the limit",
        ("WARN quota: 0.99 GPU hours are left this week (limit 1 h) and the run needs 0.17 h",),
        _slow_run(quota_left_h=0.99),
    ),
    Moment(
        "fewer hours than the run needs",
        ("WARN quota: 1.99 GPU hours are left this week (limit 1 h) and the run needs 2.00 h",),
        _slow_run(total_timesteps=7_600, quota_left_h=1.99),
    ),
    Moment(
        "a run of more than a year",
        ("WARN quota: 9999.00 GPU hours are left this week (limit 1 h) and the run needs 10000.00 h",),
        _slow_run(total_timesteps=36_000_400, quota_left_h=9_999.0),
    ),
    Moment("as many hours as the run needs", (), _slow_run(total_timesteps=7_600, quota_left_h=2.0)),
    Moment(
        "fewer hours than the limit, and nobody knows what is needed",
        ("WARN quota: 0.50 GPU hours are left this week (limit 1 h)",),
        _slow_run(steps_per_s=None, quota_left_h=0.5),
    ),
    Moment("no hours are left and it has ended", (), _slow_run(quota_left_h=0.0, result=RESULT)),
)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.claim)
def test_time_raises_the_alert_with_its_figure(moment: Moment) -> None:
    alerts = Alerts(WatchSettings(**moment.limits))  # type: ignore[arg-type]
    times = {"silent_s": moment.silent_s, "now_s": moment.now_s, "limit_s": moment.limit_s}
    assert [str(alert) for alert in alerts.on_time(progress=moment.progress, **times)] == list(moment.alerts)
    assert alerts.on_time(progress=moment.progress, **times) == [], "told once while it lasts"


def test_silence_warns_once_until_a_line_comes() -> None:
    alerts = Alerts(WatchSettings(silence_s=60))

    def rules(silent_s: float) -> list[str]:
        return [a.rule for a in alerts.on_time(silent_s=silent_s, progress=Progress(), now_s=silent_s)]

    assert [rules(silent_s) for silent_s in (59, 61, 90, 0, 61)] == [[], ["silent"], [], [], ["silent"]]


def test_the_limits_are_those_of_the_settings() -> None:
    lines = _every(1 / 50, 500, "[DEBUG_BC_GPU] inflow")
    (found,) = _judge([_line(when, said) for when, said in lines])
    assert found[0].time <= 1.0
    assert not _judge([_line(when, said) for when, said in _every(1 / 50, 500)])
    found = _judge([_line(when, said) for when, said in _every(1 / 130, 130 * 120)])[0]
    assert (found[1].level, found[0].time <= 60.0) == (Level.STOP, True)
    assert not _judge([_line(when, said) for when, said in _every(1 / 95, 95 * 120)])
    assert not _judge([LogLine(60.0 * i, "stdout", "\n".join(["x"] * 800)) for i in range(10)]), "a screenful at once"


def _judge(lines: list[LogLine]) -> list[tuple[LogLine, Alert]]:
    alerts = Alerts()
    return [(line, alert) for line in lines for alert in alerts.on_line(line, None)]


@needs_shared
def test_the_incident_is_stopped_within_a_second_of_its_first_flooding_line() -> None:
    lines = []
    with gzip.open(SHARED / "incident-2025-10-21.log.gz", "rt", encoding="utf-8", errors="replace") as file:
        for raw in file:
            stamp, _, rest = raw.partition("s ")
            number, _, text = rest.partition(" ")
            if number.strip().isdigit():
                lines.append(LogLine(float(stamp), "stdout", text.rstrip("\n")))
    assert len(lines) > 16_000
    first_flood = next(line.time for line in lines if "[DEBUG" in line.text)
    stops = [line.time for line, alert in _judge(lines) if alert.level is Level.STOP]
    assert stops
    assert 0.0 <= stops[0] - first_flood <= 1.0


@needs_shared
def test_a_real_session_without_a_flood_is_not_stopped() -> None:
    with gzip.open(SHARED / "kaggle-session-log.json.gz", "rt", encoding="utf-8") as file:
        events = json.load(file)
    lines = [LogLine(float(e["time"]), e["stream_name"], e["data"].rstrip("\n")) for e in events]
    assert len(lines) > 50
    assert not [alert for _, alert in _judge(lines) if alert.level is Level.STOP]
