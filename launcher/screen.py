"""What `watch` shows: a calm picture on a terminal, plain lines elsewhere, one JSON event a line with --json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from launcher.alerts import Alert
from launcher.backends.base import LogLine, SessionState
from launcher.ledger import Run, Session
from launcher.progress import Progress
from launcher.reporting import duration

SPARKS = "▁▂▃▄▅▆▇█"
SAID_EVENTS = (
    "session",
    "training",
    "calibration",
    "write_proved",
    "write_failed",
    "restart",
    "inexact",
    "flood",
    "health",
    "deadline",
    "result",
)


class Screen(Protocol):
    """Where a watch shows what happens."""

    def begin(self, run: Run, session: Session) -> None: ...
    def state(self, state: SessionState) -> None: ...
    def line(self, line: LogLine, event: dict[str, Any] | None, progress: Progress) -> None: ...
    def alert(self, alert: Alert) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, progress: Progress, now_s: float) -> None: ...
    def end(self) -> None: ...


class PlainScreen:
    """One short line for each thing worth knowing; progress at most every `every_s` seconds."""

    def __init__(
        self, out: TextIO | None = None, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stdout
        self._every_s, self._clock, self._shown = every_s, clock, -1e9

    def begin(self, run: Run, session: Session) -> None:
        where = "this machine." if session.here else f"{run.target}. Ctrl-C leaves it running."
        self._say(f"Watching session {session.number} of run {run.run_id} on {where}")

    def state(self, state: SessionState) -> None:
        self._say(f"[{state.status.value}]{' ' + state.message if state.message else ''}")

    def line(self, line: LogLine, event: dict[str, Any] | None, progress: Progress) -> None:
        if event is None:
            if line.stream == "stderr":
                self._say(f"{line.time:8.1f} s  {line.text}")
            return
        kind = event["event"]
        if kind in SAID_EVENTS:
            self._say(f"{line.time:8.1f} s  {describe(event)}")
        elif kind in ("progress", "checkpoint", "published") and self._clock() - self._shown >= self._every_s:
            self._shown = self._clock()
            self._say(f"{line.time:8.1f} s  {summary(progress)}")

    def alert(self, alert: Alert) -> None:
        self._say(str(alert))

    def note(self, text: str) -> None:
        self._say(text)

    def tick(self, progress: Progress, now_s: float) -> None:
        if progress.num_timesteps and self._clock() - self._shown >= 6 * self._every_s:
            self._shown = self._clock()
            self._say(f"{now_s:8.1f} s  {summary(progress)}")

    def end(self) -> None:
        pass

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class JsonScreen:
    """Every event, state and alert as one JSON object a line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    def begin(self, run: Run, session: Session) -> None:
        self._say({"event": "watch", "run_id": run.run_id, "session": session.number, "target": run.target})

    def state(self, state: SessionState) -> None:
        self._say({"event": "state", "status": state.status.value, "message": state.message})

    def line(self, line: LogLine, event: dict[str, Any] | None, progress: Progress) -> None:
        self._say(event or {"event": "log", "time": line.time, "stream": line.stream, "text": line.text})

    def alert(self, alert: Alert) -> None:
        self._say({"event": "alert", "level": alert.level.value, "rule": alert.rule, "message": alert.message})

    def note(self, text: str) -> None:
        self._say({"event": "note", "message": text})

    def tick(self, progress: Progress, now_s: float) -> None:
        pass

    def end(self) -> None:
        pass

    def _say(self, value: dict[str, Any]) -> None:
        self._out.write(json.dumps(value, ensure_ascii=True) + "\n")
        self._out.flush()


class LiveScreen:
    """A picture that is drawn anew in place, with alerts and events above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live("", console=self._console, refresh_per_second=4, transient=False)
        self._title = ""
        self._state = "QUEUED"
        self._alerts: list[str] = []
        self._session: Session | None = None

    def begin(self, run: Run, session: Session) -> None:
        self._session = session
        self._title = f"{run.run_id} · session {session.number} · {run.target}"
        self._live.start()

    def state(self, state: SessionState) -> None:
        self._state = state.status.value + (f" · {state.message}" if state.message else "")

    def line(self, line: LogLine, event: dict[str, Any] | None, progress: Progress) -> None:
        if event is not None and event["event"] in SAID_EVENTS:
            self._console.print(f"{line.time:8.1f} s  {describe(event)}", markup=False)
        elif event is None and line.stream == "stderr":
            self._console.print(f"{line.time:8.1f} s  {line.text}", markup=False)
        self.tick(progress, line.time)

    def alert(self, alert: Alert) -> None:
        self._alerts = [*self._alerts, str(alert)][-3:]
        self._console.print(str(alert), style="bold red" if alert.level.value == "STOP" else "yellow", markup=False)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def tick(self, progress: Progress, now_s: float) -> None:
        from rich.text import Text

        limit_s = self._session.max_seconds if self._session else 0.0
        self._live.update(Text(picture(self._title, self._state, progress, now_s, limit_s)))

    def end(self) -> None:
        self._live.stop()


def for_terminal(json_lines: bool) -> Screen:
    """The screen that fits where standard output goes."""
    if json_lines:
        return JsonScreen()
    return LiveScreen() if sys.stdout.isatty() else PlainScreen()


def describe(event: dict[str, Any]) -> str:
    """One event in words: its name, its message, and the fields that people read."""
    parts = [
        f"{key.replace('_', ' ')} {_shown(value)}"
        for key, value in event.items()
        if key not in _HIDDEN and _plain(value)
    ]
    said = [str(event[key]) for key in ("message", "reason") if event.get(key)]
    details = ", ".join(parts)
    return f"{event['event'].replace('_', ' ')}: {' '.join(said)}{f' ({details})' if said and details else details}"


_HIDDEN = {
    "event", "schema", "time", "message", "reason", "run_id", "total_timesteps", "requested_timesteps", "hidden_lines",
    "log_lines", "host", "dataset",
}  # fmt: skip
"""Fields that the screen shows elsewhere, or that only programs need."""


def summary(progress: Progress) -> str:
    """Where training and checkpoints stand, on one line."""
    speed = f", {progress.steps_per_s:,.1f} steps/s" if progress.steps_per_s else ""
    saved = "none" if progress.checkpoint_timesteps is None else f"t{progress.checkpoint_timesteps:,}"
    published = "none" if progress.published_timesteps is None else f"t{progress.published_timesteps:,}"
    return (
        f"{progress.num_timesteps:,} of {progress.total_timesteps:,} timesteps{speed}; checkpoint {saved}, "
        f"published {published}, at risk {progress.at_risk:,}"
    )


def picture(title: str, state: str, progress: Progress, now_s: float, limit_s: float) -> str:
    """The whole picture of a session, as text."""
    total = max(progress.total_timesteps, 1)
    share = min(1.0, progress.num_timesteps / total)
    done = round(share * 30)
    rows = [f"{title}   {state}"]
    timesteps = f"{progress.num_timesteps:,} of {progress.total_timesteps:,} timesteps"
    rows.append(f"  {'█' * done}{'░' * (30 - done)} {share:4.0%}  {timesteps}")
    speed = "?" if not progress.steps_per_s else f"{progress.steps_per_s:,.1f} steps/s"
    left_s = (total - progress.num_timesteps) / progress.steps_per_s if progress.steps_per_s else None
    eta = "?" if left_s is None else duration(left_s)
    fits = ""
    if left_s is not None and limit_s and now_s + left_s > limit_s:
        fits = "  (the session ends before: resume goes on)"
    rows.append(f"  speed {speed}   to go {eta}{fits}   session {duration(now_s)} of {duration(limit_s)}")
    rows.append(
        f"  checkpoint {_aged(progress.checkpoint_timesteps, progress.checkpoint_time, now_s)}   "
        f"published {_aged(progress.published_timesteps, progress.published_time, now_s)}   "
        f"at risk {progress.at_risk:,} timesteps"
    )
    if progress.rewards:
        rows.append(f"  reward {sparkline(list(progress.rewards))} {progress.rewards[-1]:.3g}")
    if progress.queues:
        rows.append(f"  queue  {sparkline(list(progress.queues))} {progress.queues[-1]:.3g}")
    rows.append(f"  log    {progress.log_lines:,} lines, {progress.log_lines / max(now_s, 1.0):.2f} per s")
    return "\n".join(rows)


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


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
