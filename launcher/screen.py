"""What `watch` shows: a calm picture on a terminal, plain lines elsewhere, one JSON event a line with --json."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from kernel.contract import events
from kernel.contract.checks import Verdict
from kernel.contract.config import unlimited
from kernel.contract.events import Event
from launcher.documents import printed
from launcher.documents.watching import AlertRaised, LogTold, NoteSaid, StateTold, WatchBegan
from launcher.runs import exposure
from launcher.runs.alerts import Alert, Level
from launcher.runs.progress import Progress
from launcher.runs.records import Run, Session
from launcher.runs.viewer import Screen
from launcher.sentences import exactness_words, sentence
from launcher.tables import duration, flowed, printable, wrapped
from launcher.targets.base import LogLine, SessionState, Status

SPARKS = "▁▂▃▄▅▆▇█"
DRAW_S = 0.1
"""Shortest time between two pictures that log lines ask for."""
TIMED = " " * 12
"""What goes on below a line that begins with a time."""
SAID_EVENTS = (
    events.Session,
    events.Phase,
    events.Gate,
    events.Training,
    events.Calibration,
    events.WriteProved,
    events.WriteFailed,
    events.PublishLost,
    events.PublishSlow,
    events.AtRisk,
    events.Restart,
    events.Inexact,
    events.Proved,
    events.Unproved,
    events.Flood,
    events.Health,
    events.Deadline,
    events.Result,
    events.Unknown,
    events.Malformed,
)


class PlainScreen:
    """One short line for each thing worth knowing; progress at most every `every_s` seconds, waits twice as seldom."""

    def __init__(
        self, out: TextIO | None = None, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stdout
        self._every_s, self._clock, self._shown = every_s, clock, -1e9
        self._said = -1e9
        self._here = False
        self._state = Status.QUEUED.value
        self._queued_at: float | None = None

    def begin(self, run: Run, session: Session) -> None:
        self._queued_at, self._here = self._clock(), session.here
        where = "this machine." if session.here else f"{run.target}. Ctrl-C leaves it running."
        self._say(f"Watching session {session.number} of run {run.run_id} on {where}")

    def state(self, state: SessionState) -> None:
        if state.status is not Status.QUEUED:
            self._queued_at = None
        self._state = state.status.value
        self._say(f"[{state.status.value}]{' ' + state.message if state.message else ''}")

    def line(self, line: LogLine, event: Event | None, progress: Progress) -> None:
        self._queued_at = None
        if event is None:
            if line.stream == "stderr":
                self._say(f"{line.time:8.1f} s  {printable(line.text)}")
            return
        if isinstance(event, SAID_EVENTS):
            self._say(f"{line.time:8.1f} s  {describe(event)}")
        elif (
            isinstance(event, (events.Progress, events.Checkpoint, events.Published))
            and self._clock() - self._shown >= self._every_s
        ):
            self._shown = self._clock()
            self._say(f"{line.time:8.1f} s  {summary(progress, here=self._here)}")

    def alert(self, alert: Alert) -> None:
        self._say(printable(str(alert)))

    def note(self, text: str) -> None:
        self._say(text)

    def tick(self, progress: Progress, now_s: float, unanswered: str = "") -> None:
        if unanswered:
            if self._clock() - self._said >= 2 * self._every_s:
                self._say(f"[{self._state}] {unanswered}")
        elif self._queued_at is not None:
            if self._clock() - self._said >= 6 * self._every_s:
                self._say(f"[QUEUED] for {duration(self._clock() - self._queued_at)} so far")
        elif now := doing(progress, now_s):
            if self._clock() - self._said >= 2 * self._every_s:
                self._say(f"{now_s:8.1f} s  {now}")
        elif progress.num_timesteps and self._clock() - self._shown >= 6 * self._every_s:
            self._shown = self._clock()
            self._say(f"{now_s:8.1f} s  {summary(progress, here=self._here)}")

    def end(self) -> None:
        pass

    def _say(self, text: str) -> None:
        self._said = self._clock()
        self._out.write(text + "\n")
        self._out.flush()


class JsonScreen:
    """Every event, state and alert as one JSON object a line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    def begin(self, run: Run, session: Session) -> None:
        self._say(WatchBegan(run_id=run.run_id, session=session.number, target=run.target))

    def state(self, state: SessionState) -> None:
        self._say(StateTold(status=state.status.value, message=state.message))

    def line(self, line: LogLine, event: Event | None, progress: Progress) -> None:
        log = LogTold(time=line.time, stream=line.stream, text=line.text)
        self._say(log if event is None else event.plain())

    def alert(self, alert: Alert) -> None:
        self._say(AlertRaised(level=alert.level.value, rule=alert.rule, message=alert.message))

    def note(self, text: str) -> None:
        self._say(NoteSaid(message=text))

    def tick(self, progress: Progress, now_s: float, unanswered: str = "") -> None:
        pass

    def end(self) -> None:
        pass

    def _say(self, value: object) -> None:
        self._out.write(printed.line(value) + "\n")
        self._out.flush()


class LiveScreen:
    """A picture that is drawn anew in place, with alerts and events above it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live("", console=self._console, refresh_per_second=4, transient=False)
        self._title = ""
        self._state = "QUEUED"
        self._queued_at: float | None = None
        self._alerts: list[tuple[float, str]] = []
        self._session: Session | None = None
        self._clock, self._drawn = clock, -1e9
        self._newest: tuple[Progress, float] | None = None

    def begin(self, run: Run, session: Session) -> None:
        self._session, self._queued_at = session, self._clock()
        where = "this machine" if session.here else run.target
        self._title = f"{run.run_id} · session {session.number} · {where}"
        self._live.start()

    def state(self, state: SessionState) -> None:
        if state.status is not Status.QUEUED:
            self._queued_at = None
        self._state = state.status.value + (f" · {state.message}" if state.message else "")

    def line(self, line: LogLine, event: Event | None, progress: Progress) -> None:
        self._queued_at = None
        if isinstance(event, SAID_EVENTS) and not isinstance(event, events.Phase):  # the picture has it
            self._say(f"{line.time:8.1f} s  {describe(event)}", TIMED)
        elif event is None and line.stream == "stderr":
            self._say(f"{line.time:8.1f} s  {printable(line.text)}", TIMED)
        self._newest = progress, line.time
        if self._clock() - self._drawn >= DRAW_S:
            self.tick(progress, line.time)

    def alert(self, alert: Alert) -> None:
        said, style = printable(str(alert)), "yellow" if alert.level is Level.WARN else "bold red"
        self._alerts = [*self._alerts, (self._clock(), said)][-3:]
        self._say(said, "  ", style)

    def note(self, text: str) -> None:
        self._say(text)

    def tick(self, progress: Progress, now_s: float, unanswered: str = "") -> None:
        from rich.text import Text

        self._drawn, self._newest = self._clock(), (progress, now_s)
        limit_s = self._session.max_seconds if self._session else 0.0
        waited = "" if self._queued_at is None else f" for {duration(self._clock() - self._queued_at)}"
        state = f"{self._state}{waited}{f' · {unanswered}' if unanswered else ''}"
        alerts = [f"{said} ({duration(self._clock() - when)} ago)" for when, said in self._alerts]
        here, width = self._session is not None and self._session.here, self._console.width
        self._live.update(Text(picture(self._title, state, progress, now_s, limit_s, alerts, here=here, width=width)))

    def end(self) -> None:
        if self._newest is not None:
            self.tick(*self._newest)
        self._live.stop()

    def _say(self, text: str, indent: str = "", style: str | None = None) -> None:
        """Print above the picture; what goes on below its first line is indented."""
        lines = [piece for line in text.splitlines() for piece in wrapped(line, self._console.width, indent)]
        self._console.print("\n".join(lines), style=style, markup=False)


def for_terminal(json_lines: bool) -> Screen:
    """The screen that fits where standard output goes."""
    if json_lines:
        return JsonScreen()
    return LiveScreen() if sys.stdout.isatty() else PlainScreen()


def describe(event: Event) -> str:
    """One event in words: a sentence, a bare word for what is under way, a line for each check of a trial."""
    match event:
        case events.Phase():
            return printable(event.detail or event.phase)
        case events.Gate():
            return _trial(event)
    return printable(sentence(event))


def _trial(gate: events.Gate) -> str:
    """What the trial before the training found: the names of what passed, a line for each thing that did not."""
    passed = [check.name for check in gate.checks if check.verdict is Verdict.PASS]
    others = [check for check in gate.checks if check.verdict is not Verdict.PASS]
    lines = [f"trial {'passed' if not others else 'over, passed'}: {', '.join(passed) or 'nothing'}"]
    lines += [f"trial {check.verdict.value} {check.name}: {check.evidence} {check.fix}" for check in others]
    return f"\n{TIMED}".join(printable(" ".join(line.split())) for line in lines)


def summary(progress: Progress, *, here: bool = False) -> str:
    """Where training and checkpoints stand, on one line; `here` what is written is safe, and nothing published."""
    speed = f", {told_speed(progress)}" if progress.steps_per_s else ""
    saved = "none" if progress.checkpoint_timesteps is None else f"t{progress.checkpoint_timesteps:,}"
    published = "none" if progress.published_timesteps is None else f"t{progress.published_timesteps:,}"
    return (
        f"{progress.num_timesteps:,} of {progress.total_timesteps:,} timesteps{speed}; checkpoint {saved}, "
        f"{'' if here else f'published {published}, '}at risk {progress.at_risk:,}"
    )


def doing(progress: Progress, now_s: float) -> str:
    """What the kernel spends its time on before it trains, and for how long so far; empty while it trains."""
    if progress.phase is None:
        return ""
    return f"{describe(progress.phase)}: {duration(now_s - progress.phase_time)}"


def picture(
    title: str,
    state: str,
    progress: Progress,
    now_s: float,
    limit_s: float,
    alerts: Sequence[str] = (),
    *,
    here: bool = False,
    width: int | None = None,
) -> str:
    """The whole picture of a session, in lines of `width` columns: `now_s` since it began, of its `limit_s` [s]."""
    limit_s = 0.0 if unlimited(limit_s) else limit_s
    now = doing(progress, now_s)
    total = max(progress.total_timesteps, 1)
    share = min(1.0, progress.num_timesteps / total)
    done = round(share * 30)
    bar = f"{'█' * done}{'░' * (30 - done)} {share:4.0%}"
    checkpoint = _aged(progress.checkpoint_timesteps, progress.checkpoint_time, now_s)
    published = _aged(progress.published_timesteps, progress.published_time, now_s)
    at_risk = f"{progress.at_risk:,} timesteps, {duration(progress.at_risk_s(now_s))}"
    rows = [[f"now    {now}"]] if now else []
    rows += [
        [bar, f"{progress.num_timesteps:,} of {progress.total_timesteps:,} timesteps"],
        [
            f"speed {told_speed(progress)}",
            f"session {duration(now_s)}{f' of {duration(limit_s)}' if limit_s else ''}",
            prospect(progress, now_s, limit_s),
        ],
        [f"checkpoint {checkpoint}", "" if here else f"published {published}", f"at risk {at_risk}", at_most(progress)],
    ]
    for name, values in (("reward", progress.rewards), ("queue ", progress.queues)):
        if values:
            newest = f" {values[-1]:.3g}"
            bars = list(values) if width is None else list(values)[-max(1, width - len(f"  {name} {newest}")) :]
            rows.append([f"{name} {sparkline(bars)}{newest}"])
    if progress.exactness is not None:
        rows.append([f"exact  {exactness_words(progress.exactness)}"])
    rows.append([f"log    {progress.log_lines:,} lines, {progress.lines_per_s(now_s):.1f} per s"])
    rows += [[alert] for alert in alerts]
    return "\n".join([*flowed([title, state], width), *(line for row in rows for line in flowed(row, width, "  "))])


def at_most(progress: Progress) -> str:
    """How much work can be at risk at once, by what publishes took; empty where nothing tells."""
    if progress.slowest_publish_s is None or progress.publish_interval_s is None:
        return ""
    between = progress.checkpoint_gap_s
    most = exposure.most_s(progress.slowest_publish_s, progress.publish_interval_s, between)
    return f"at most {duration(most)} at risk"


def told_speed(progress: Progress) -> str:
    """The trainer's own speed, and the whole session's where evaluations and waits make it another."""
    if not progress.steps_per_s:
        return "?"
    own, whole = progress.steps_per_s, progress.whole_steps_per_s
    with_waits = f" ({whole:,.1f} with evaluations and waits)" if whole is not None and whole < 0.8 * own else ""
    return f"{own:,.1f} steps/s{with_waits}"


def prospect(progress: Progress, now_s: float, limit_s: float) -> str:
    """When the run will be done, and what ends before: the session's clock, or the week's quota."""
    to_go_s = progress.seconds_to_go(now_s)
    if progress.ending is not None and progress.result is None:
        return f"{progress.ending}: the kernel is stopping itself"
    if progress.result is not None or to_go_s is None:
        return "" if progress.result is not None else "to go ?"
    if not to_go_s and progress.at_risk:
        return "all timesteps are done, the last publish is to come"
    said = f"to go {duration(math.ceil(to_go_s))}"
    left_s = limit_s - now_s if limit_s else None
    quota_s = progress.quota_left_h * 3600 if progress.quota_left_h is not None else None
    if quota_s is not None and quota_s < min(to_go_s, left_s if left_s is not None else to_go_s):
        return f"{said}, but the week's quota ends in {duration(quota_s)}"
    if left_s is not None and left_s < to_go_s:
        return f"{said}, but the session ends in {duration(left_s)}: resume goes on"
    return f"{said}, within this session" if left_s is not None else said


def sparkline(values: list[float]) -> str:
    """`values` as a row of bars between their smallest and largest."""
    low, high = min(values), max(values)
    if high == low:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[min(7, int((value - low) / (high - low) * 8))] for value in values)


def _aged(timesteps: int | None, when: float | None, now_s: float) -> str:
    if timesteps is None or when is None:
        return "none yet"
    return f"t{timesteps:,} ({duration(now_s - when)} ago)"
