"""What the log of a session has told so far: one picture, moved only by log lines."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

from kernel import events
from launcher.backends.base import LogLine

SERIES_LENGTH = 60


@dataclass
class Progress:
    """State of one session as its events tell it; times are seconds since the session began."""

    total_timesteps: int = 0
    num_timesteps: int = 0
    resumed_timesteps: int | None = None
    steps_per_s: float | None = None
    session_id: int | None = None
    checkpoint_timesteps: int | None = None
    checkpoint_time: float | None = None
    published_timesteps: int | None = None
    published_time: float | None = None
    training_time: float | None = None
    result: dict[str, Any] | None = None
    log_lines: int = 0
    last_time: float = 0.0
    rewards: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=SERIES_LENGTH))
    queues: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=SERIES_LENGTH))

    @property
    def at_risk(self) -> int:
        """Timesteps that a kill would cost now: done since the last published checkpoint of this session or before."""
        return max(0, self.num_timesteps - max(self.published_timesteps or 0, self.resumed_timesteps or 0))

    def observe(self, line: LogLine) -> dict[str, Any] | None:
        """Take in one log line; returns the event that it holds, or None for the trainer's own output."""
        self.log_lines += 1
        self.last_time = max(self.last_time, line.time)
        event = events.parse(line.text)
        if event is None:
            return None
        when = _number(event.get("time")) or line.time
        timesteps = event.get("num_timesteps")
        if isinstance(timesteps, int):
            self.num_timesteps = max(self.num_timesteps, timesteps)
        if isinstance(event.get("total_timesteps"), int):
            self.total_timesteps = event["total_timesteps"]
        match event["event"]:
            case "session" if isinstance(event.get("session_id"), int):
                self.session_id = event["session_id"]
            case "training":
                self.training_time = when
                if self.resumed_timesteps is None and isinstance(timesteps, int):
                    self.resumed_timesteps = timesteps
            case "progress":
                self.steps_per_s = _number(event.get("steps_per_s")) or self.steps_per_s
                _append(self.rewards, event.get("reward"))
                _append(self.queues, event.get("queue"))
            case "checkpoint" if isinstance(timesteps, int):
                self.checkpoint_timesteps, self.checkpoint_time = timesteps, when
            case "published" if isinstance(timesteps, int):
                self.published_timesteps = max(self.published_timesteps or 0, timesteps)
                self.published_time = when
            case "result":
                self.result = event
        return event


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _append(series: collections.deque[float], value: Any) -> None:
    if (number := _number(value)) is not None:
        series.append(number)
