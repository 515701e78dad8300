"""When a session goes wrong: rules over log lines and time, pure but for what they remember; clocks are passed in.

STOP says that the session ends, ALERT that somebody should act: far more than was asked for would be lost. WARN says so
once and again only after it was well in between. Each decision has one owner, and the other side tells what it sees or
waits:

| decision | owner | what the other side does |
|---|---|---|
| a flood of the trainer | kernel (`on_flood`) | STOP or WARN with the kernel's figures; waits for the end |
| a flood that the kernel says nothing of for `grace_s` | launcher | the kernel cannot know: it is killed |
| an unhealthy training | kernel (`on_unhealthy`) | STOP where it stops, else WARN; waits for the end |
| checkpoints do not come out | kernel: trains and tries on | ALERT, kept in the ledger; the session's end has outputs |
| no step for long | kernel: restarts the trainer | WARN |
| no line for long | nobody: the kernel or the network may come back | WARN |
| the session's clock | kernel (`deadline`); the platform at the limit | WARN before it; waits for the end |
| the week's quota | platform | WARN; a relay waits for hours |
| a stop that does not end | launcher, after `kernel.contract.stopping.END_SECONDS` | killed by `forced_end` |
| the end that a person asks for | `cancel` | a watch only sees it; Ctrl-C in a watch ends the watch |
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from enum import Enum

from kernel.contract import events
from kernel.contract.events import Event
from kernel.contract.stopping import told_ending
from launcher.config import WatchSettings
from launcher.runs.progress import Progress
from launcher.sentences import risk, sentence
from launcher.targets.base import LogLine

DEBUG_TAG = "[DEBUG"
BURST_S = 1.0
AT_ONCE_S = 0.01
"""The times of a log do not tell less apart."""
SUSTAINED_S = 60.0
"""A healthy run may print a screenful at once; only what goes on for this long is a flood by its rate alone."""
WARM_UP_S = 60.0
"""The first steps pay for compilation; their speed says nothing."""


class Level(Enum):
    """What an alert asks for."""

    WARN = "WARN"
    ALERT = "ALERT"
    STOP = "STOP"


@dataclass(frozen=True)
class Alert:
    """One finding with its figure."""

    level: Level
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.level.value} {self.rule}: {self.message}"


def unsaved(event: events.CheckpointFailed) -> str:
    """What it means that checkpoint after checkpoint cannot be written, and what to do."""
    return (
        f"{event.in_a_row} checkpoints in a row could not be written ({event.reason or 'no reason is told'}): what was "
        "done since the last one would be lost with the session. End it with `kaglaunch cancel`; `kaglaunch resume` "
        "goes on from what is published"
    )


@dataclass
class Alerts:
    """The rules of one watched session."""

    limits: WatchSettings = field(default_factory=WatchSettings)
    _debug: collections.deque[float] = field(default_factory=collections.deque)
    _burst: collections.deque[float] = field(default_factory=collections.deque)
    _sustained: collections.deque[float] = field(default_factory=collections.deque)
    _raised: set[str] = field(default_factory=set)
    _findings: collections.Counter[str] = field(default_factory=collections.Counter)
    _began: float = 0.0

    def on_line(self, line: LogLine, event: Event | None) -> list[Alert]:
        """Alerts that this line raises; its own time counts, so a replayed log is judged as it happened."""
        found: list[Alert] = []
        if event is None:
            found += self._flood(line)
            return found
        match event:
            case events.Flood():
                found += self._raise(_level(event), "flood", flood_figure(event))
            case events.Health():
                found += self._unhealthy(event)
            case events.AtRisk():
                found.append(Alert(Level.ALERT, "at risk", risk(event)))
            case events.PublishLost():
                found.append(Alert(Level.ALERT, "publish lost", sentence(event)))
            case events.PublishSlow():
                found.append(Alert(Level.WARN, "publish slow", sentence(event)))
            case events.CheckpointFailed(in_a_row=int(number)) if number > 1:
                # Once, and again each time that it has become twice as many: they may fail for hours.
                if number & (number - 1) == 0:
                    found.append(Alert(Level.ALERT, "nothing is saved", unsaved(event)))
            case events.PublishFailed() | events.WriteFailed() | events.CheckpointFailed() | events.Restart():
                found.append(Alert(Level.WARN, event.name.replace("_", " "), event.reason or "no reason is told"))
            case events.Training():
                self._began = line.time
            case events.Progress(steps_per_s=speed) if speed is not None and line.time - self._began >= WARM_UP_S:
                found += self._slow(speed)
            case events.Malformed():
                found += self._raise(Level.WARN, "malformed event", f"{event.kind}: {event.problem}")
        return found

    def on_time(self, *, silent_s: float, progress: Progress, now_s: float, limit_s: float = 0.0) -> list[Alert]:
        """Alerts that time alone raises.

        `silent_s` since the last line, `now_s` since the session began, `limit_s` of the session (0: none known) [s].
        """
        found = self._held(
            "silent",
            silent_s > self.limits.silence_s,
            f"no log line for {silent_s:.0f} s (limit {self.limits.silence_s:.0f} s)",
        )
        since = progress.published_time if progress.published_time is not None else progress.training_time
        unpublished_s = now_s - since if since is not None else 0.0
        found += self._held(
            "not publishing",
            progress.at_risk > 0 and unpublished_s > self.limits.publish_silence_s,
            f"{progress.at_risk:,} timesteps at risk; nothing was published for {unpublished_s:.0f} s",
            Level.ALERT,
        )
        return found + self._clock(progress, now_s, limit_s) + self._quota(progress, now_s)

    def _clock(self, progress: Progress, now_s: float, limit_s: float) -> list[Alert]:
        left_s, to_go_s = limit_s - now_s, progress.seconds_to_go(now_s)
        late = now_s > limit_s / 2 if to_go_s is None else to_go_s > left_s
        return self._held(
            "clock",
            limit_s > 0 and left_s < self.limits.min_session_left_s and late and progress.result is None,
            f"{max(0.0, left_s):.0f} s of the session are left (limit {self.limits.min_session_left_s:.0f} s) and the "
            f"run needs {'more' if to_go_s is None else f'{to_go_s:.0f} s'}; `kaglaunch resume` goes on after it",
        )

    def _quota(self, progress: Progress, now_s: float) -> list[Alert]:
        left_h, to_go_s = progress.quota_left_h, progress.seconds_to_go(now_s)
        if left_h is None or progress.result is not None:
            return []
        needed_h = (to_go_s or 0.0) / 3600
        return self._held(
            "quota",
            left_h < max(self.limits.min_quota_left_h, needed_h),
            f"{left_h:.2f} GPU hours are left this week (limit {self.limits.min_quota_left_h:g} h)"
            + (f" and the run needs {needed_h:.2f} h" if needed_h else ""),
        )

    def _unhealthy(self, event: events.Health) -> list[Alert]:
        # The launcher knows a slow training too: one rule, whoever speaks first.
        rule = "slow" if event.rule == "slow" else f"unhealthy ({event.rule or 'no rule'})"
        self._findings[rule] += 1
        if _level(event) is Level.WARN and self._findings[rule] < self.limits.health_reports:
            return []
        return self._raise(_level(event), rule, event.message or f"{event.figure} (limit {event.limit})")

    def _flood(self, line: LogLine) -> list[Alert]:
        limits, found = self.limits, []
        for window, counts, limit, seconds, what in (
            (self._debug, DEBUG_TAG in line.text, limits.max_debug_lines_per_s, BURST_S, "[DEBUG lines"),
            (self._burst, True, limits.max_burst_lines_per_s, BURST_S, "lines"),
            (self._sustained, True, limits.max_lines_per_s, SUSTAINED_S, "lines"),
        ):
            if not counts:
                continue
            window.extend([line.time] * (line.text.count("\n") + 1))
            while window and window[0] <= line.time - seconds:
                window.popleft()
            if len(window) > limit * seconds:
                # The rule is broken by so many lines, however fast they come: how fast they came is what is told.
                figure = f"{len(window):,} {what} {_within(window[-1] - window[0])} (limit {limit:,.0f} per s)"
                found += self._raise(Level.STOP, "flood", figure)
        return found

    def _slow(self, steps_per_s: float) -> list[Alert]:
        limit = self.limits.min_timesteps_per_s
        return self._held("slow", steps_per_s < limit, f"{steps_per_s:.2f} timesteps/s (limit {limit:g} per s)")

    def _held(self, rule: str, bad: bool, message: str, level: Level = Level.WARN) -> list[Alert]:
        if bad:
            return self._raise(level, rule, message)
        self._raised.discard(rule)
        return []

    def _raise(self, level: Level, rule: str, message: str) -> list[Alert]:
        if rule in self._raised:
            return []
        self._raised.add(rule)
        return [Alert(level, rule, message)]


def _within(seconds: float) -> str:
    return f"within {seconds:.3g} s" if seconds >= AT_ONCE_S else "at once"


def flood_figure(event: events.Flood) -> str:
    """A flood that the kernel tells, in figures: `120.4 lines/s (limit 20 per s; [DEBUG] step 3001)`."""
    details = [f"limit {event.limit:g} per s"] if event.limit is not None else []
    details += [said] if (said := event.sample or event.reason) else []
    rate = f"{event.lines_per_s:,.1f} lines/s" if event.lines_per_s is not None else "the kernel saw a log flood"
    return f"{rate} ({'; '.join(details)})" if details else rate


def _level(event: Event) -> Level:
    return Level.WARN if told_ending(event) is None else Level.STOP
