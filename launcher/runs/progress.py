"""What the log of a session has told so far: one picture, moved only by log lines."""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from typing import Any

from kernel.contract import events, typed
from kernel.contract.endings import Ending
from kernel.contract.events import Event
from kernel.contract.exactness import Exactness
from kernel.contract.stopping import told_ending
from launcher.sentences import risk
from launcher.targets.base import LogLine

SERIES_LENGTH = 60
RATE_WINDOW_S = 10
MEASURED_AFTER_S = 60.0
"""From then on the time to go is told by what the session has really done, evaluation and waiting included."""


@dataclass
class Progress:
    """State of one session as its events tell it; times are seconds since the session began."""

    total_timesteps: int = 0
    told_total: int | None = None
    """Timesteps that the trainer says it does, whole rollouts."""
    num_timesteps: int = 0
    resumed_timesteps: int | None = None
    steps_per_s: float | None = None
    session_id: int | None = None
    device: str | None = None
    """Device that the kernel trains on."""
    checkpoint_timesteps: int | None = None
    checkpoint_time: float | None = None
    published_timesteps: int | None = None
    published_time: float | None = None
    safe_time: float | None = None
    """When the newest published checkpoint was taken up for it: what was done since is not safe."""
    lost_publish: bool = False
    """What was published was taken back: `published_timesteps` may be less than it was."""
    alarm: str = ""
    """What the kernel says of work that is at risk far beyond what was asked for; empty since the last publish."""
    most_at_risk: int | None = None
    """The most timesteps that were at risk so far."""
    most_at_risk_s: float = 0.0
    """The most seconds of work that were."""
    publish_bytes: int | None = None
    """Of the largest publish."""
    publish_s: float | None = None
    """What that one took [s]."""
    slowest_publish_s: float | None = None
    checkpoint_gap_s: float = 0.0
    """The longest time between two checkpoints."""
    publish_interval_s: float | None = None
    """Between two publishes, as the session was told; None where nobody here knows."""
    training_time: float | None = None
    progress_time: float | None = None
    seconds_needed: float | None = None
    """What the kernel calculated at `calibrated_time` for the rest of the run, evaluation included [s]."""
    calibrated_time: float = 0.0
    quota_left_h: float | None = None
    """GPU hours left this week, as the target last told; None where it does not matter or nobody knows."""
    exactness: Exactness | None = None
    """What is known of the run's exactness; None where nothing was told yet."""
    phase: events.Phase | None = None
    """What the kernel spends its time on before it trains; None while it trains, or where it does not say."""
    phase_time: float = 0.0
    begun_timesteps: int = 0
    """Timestep that the trainer began at, which is a later one after a restart."""
    ending: Ending | None = None
    """How the kernel said that it is ending the session; None while it goes on."""
    result: events.Result | None = None
    log_lines: int = 0
    last_time: float = 0.0
    rewards: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=SERIES_LENGTH))
    queues: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=SERIES_LENGTH))
    _lines_in: collections.Counter[int] = field(default_factory=collections.Counter)

    def known(self) -> dict[str, Any]:
        """What the ledger keeps of it, field -> value, without what was not told."""
        values = {
            "session_id": self.session_id,
            "resumed_timesteps": self.resumed_timesteps,
            "seen_timesteps": self.num_timesteps or None,
            "published_timesteps": (self.published_timesteps or 0) if self.lost_publish else self.published_timesteps,
            "trains_on": self.device,
            "total_timesteps": self.told_total,
            "exactness": json.dumps(typed.plain(self.exactness)) if self.exactness else None,
            "most_at_risk": self.most_at_risk,
            "publish_bytes": self.publish_bytes,
            "publish_s": self.publish_s,
            "most_at_risk_s": self.most_at_risk_s or None,
            "risk_message": self.alarm if self.alarm or self.published_time is not None else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def at_risk(self) -> int:
        """Timesteps that a kill would cost now: done since the last published checkpoint of this session or before."""
        # What a session begins with is published too, until what was published is taken back.
        began = 0 if self.lost_publish else self.resumed_timesteps or 0
        return max(0, self.num_timesteps - max(self.published_timesteps or 0, began))

    def at_risk_s(self, now_s: float) -> float:
        """Seconds of work that a kill would cost now."""
        since = self.safe_time if self.safe_time is not None else self.training_time
        return max(0.0, now_s - since) if self.at_risk and since is not None else 0.0

    def lines_per_s(self, now_s: float) -> float:
        """Log lines a second over the last RATE_WINDOW_S seconds before `now_s`."""
        second = int(now_s)
        for old in [key for key in self._lines_in if key <= second - RATE_WINDOW_S]:
            del self._lines_in[old]
        return sum(self._lines_in.values()) / RATE_WINDOW_S

    @property
    def whole_steps_per_s(self) -> float | None:
        """Timesteps a second since training began, evaluations and waits counted; None within the first minute."""
        done = self.num_timesteps - (self.resumed_timesteps or 0)
        if self.training_time is None or self.progress_time is None or done <= 0:
            return None
        spent_s = self.progress_time - self.training_time
        return done / spent_s if spent_s >= MEASURED_AFTER_S else None

    def seconds_to_go(self, now_s: float) -> float | None:
        """Time that the rest of the timesteps takes [s], 0 where all are done; None while nobody can know.

        All time since training began counts, evaluations and waits for a publish too: what the trainer's own
        `steps_per_s` leaves out is lost all the same. An estimate that time has overtaken tells nothing.
        """
        left = max(0, self.total_timesteps - self.num_timesteps)
        if not left and self.total_timesteps:
            return 0.0
        to_go_s = None
        if self.whole_steps_per_s is not None and self.progress_time is not None:
            to_go_s = left / self.whole_steps_per_s - (now_s - self.progress_time)
        elif self.seconds_needed is not None:
            to_go_s = self.seconds_needed - (now_s - self.calibrated_time)
        elif self.steps_per_s:
            to_go_s = left / self.steps_per_s
        return to_go_s if to_go_s is not None and to_go_s > 0.0 else None

    def observe(self, line: LogLine) -> Event | None:
        """Take in one log line; returns the event that it holds, or None for the trainer's own output."""
        self.log_lines += 1
        self.last_time = max(self.last_time, line.time)
        if int(line.time) not in self._lines_in:
            self.lines_per_s(self.last_time)  # which forgets what is older
        self._lines_in[int(line.time)] += 1
        event = events.parse(line.text)
        if event is None:
            return None
        when = event.time if event.time is not None else line.time
        self._count(event, when)
        known = event.revise(self.exactness or Exactness())
        if self.exactness is not None or known != Exactness() or isinstance(event, events.Training):
            self.exactness = known
        self._measure(when)
        match event:
            case events.Session(session_id=int() as session_id):
                self.session_id = session_id
            case events.Phase():
                self.phase, self.phase_time = event, when
            case events.Training():
                self.training_time, self.begun_timesteps = when, event.num_timesteps
                self.device = event.device or None
                if self.resumed_timesteps is None:
                    self.resumed_timesteps = event.num_timesteps
            case events.Progress():
                if event.num_timesteps > self.begun_timesteps:  # the first one comes before the first step
                    self.phase = None
                self.steps_per_s = event.steps_per_s or self.steps_per_s
                _append(self.rewards, event.reward)
                _append(self.queues, event.queue)
            case events.Calibration():
                self.seconds_needed, self.calibrated_time = event.seconds_needed, when
            case events.Checkpoint():
                if self.checkpoint_time is not None:
                    self.checkpoint_gap_s = max(self.checkpoint_gap_s, when - self.checkpoint_time)
                self.checkpoint_timesteps, self.checkpoint_time = event.num_timesteps, when
            case events.Published():
                self.published_timesteps = max(self.published_timesteps or 0, event.num_timesteps)
                self.published_time, self.safe_time, self.alarm = when, when - (event.seconds or 0.0), ""
                if event.seconds is not None:
                    self.slowest_publish_s = max(self.slowest_publish_s or 0.0, event.seconds)
                    if (event.bytes or 0) >= (self.publish_bytes or 0):
                        self.publish_bytes, self.publish_s = event.bytes, event.seconds
            case events.PublishLost():
                self.published_timesteps, self.lost_publish = event.published_timesteps, True
            case events.AtRisk():
                self.alarm = risk(event)
            case events.Restart():
                self.ending = None
            case events.Result():
                self.result, self.phase = event, None
                if event.published_timesteps is not None:
                    before = 0 if self.lost_publish else self.published_timesteps or 0
                    self.published_timesteps = max(before, event.published_timesteps)
        self._measure(when)
        self.ending = told_ending(event) or self.ending
        return event

    def _measure(self, when: float) -> None:
        """What is at risk now, where it is the most so far."""
        if self.training_time is not None:
            self.most_at_risk = max(self.most_at_risk or 0, self.at_risk)
            self.most_at_risk_s = max(self.most_at_risk_s, round(self.at_risk_s(when), 1))

    def _count(self, event: Event, when: float) -> None:
        """Whatever event tells a timestep moves it; the total is the trainer's own word."""
        timesteps, total = getattr(event, "num_timesteps", None), getattr(event, "total_timesteps", None)
        if timesteps is not None and timesteps > self.num_timesteps:
            self.num_timesteps, self.progress_time = timesteps, when
        if total and isinstance(event, (events.Training, events.Progress)):
            self.total_timesteps = self.told_total = total


def _append(series: collections.deque[float], value: float | str | None) -> None:
    if isinstance(value, (int, float)):
        series.append(float(value))
