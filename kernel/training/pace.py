"""How fast a training goes, and what that means for the clock: an honest estimate, evaluation included."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel.channel import LOADING
from kernel.contract.events import Calibration

PROGRESS_SECONDS = 5.0


@dataclass
class Pauses:
    """The longest time between two signs of life, loading and compiling left out."""

    clock: Callable[[], float] = time.monotonic
    longest: float = 0.0
    """Seconds."""
    _heard: tuple[str, float] | None = None

    def heard(self, phase: str) -> None:
        """Something was done, and `phase` goes on."""
        now = self.clock()
        if self._heard is not None and self._heard[0] != LOADING:
            self.longest = max(self.longest, now - self._heard[1])
        self._heard = phase, now


@dataclass
class Pace:
    """Times of this session's steps; clocks are handed in."""

    total_timesteps: int
    eval_freq: int
    began: float
    first_timestep: int
    seconds_left: float
    """Seconds that the session had left when this began."""
    update_timesteps: int = 1
    """Timesteps between two updates of the policy: a speed measured over fewer leaves the updates out."""
    evaluation_seconds: list[float] = field(default_factory=list)
    _marks: deque[tuple[float, int]] = field(default_factory=deque)
    _t: int = 0
    _progress_at: float = float("-inf")
    _checkpointed: bool = False
    _calibrated: int = 0
    _not_training: float = 0.0
    _waited: float = 0.0
    _stood: float = 0.0
    """Seconds in which the training stood still, since it began."""
    _warm: bool = False
    _warm_at: float = 0.0
    _warm_from: int = 0

    def step(self, now: float, num_timesteps: int) -> None:
        """The training is at `num_timesteps`."""
        self._t = num_timesteps
        if not self._warm and num_timesteps > self.first_timestep:
            # The first step compiles what it runs; it says nothing of the ones to come.
            self._warm, self._warm_at, self._warm_from = True, now, num_timesteps
            self._not_training = self._waited = 0.0
        trained = now - self._stood
        if not self._marks or trained - self._marks[-1][0] >= 1.0:
            self._marks.append((trained, num_timesteps))
        while len(self._marks) > 2 and trained - self._marks[0][0] > 60.0:
            self._marks.popleft()

    def evaluated(self, seconds: float) -> None:
        """An evaluation took `seconds`."""
        self.evaluation_seconds.append(seconds)
        self._not_training += seconds

    def waited(self, seconds: float, *, in_vain: bool = False) -> None:
        """The training stood still for `seconds`, waiting for a publish; one `in_vain` is not waited for again."""
        self._not_training += seconds
        self._stood += seconds
        if not in_vain:
            self._waited += seconds

    def checkpointed(self) -> None:
        """A checkpoint was taken: progress is due."""
        self._checkpointed = True

    def progress_due(self, now: float) -> bool:
        """With each checkpoint, and every few seconds."""
        if not self._checkpointed and now - self._progress_at < PROGRESS_SECONDS:
            return False
        self._checkpointed, self._progress_at = False, now
        return True

    def steps_per_s(self, now: float) -> float | None:
        """Timesteps a second since the first step, evaluation and waiting left out; None without a figure."""
        seconds = now - self._warm_at - self._not_training
        done = self._t - self._warm_from
        return round(done / seconds, 3) if self._warm and done > 0 and seconds > 0 else None

    def recent_speed(self, now: float) -> float | None:
        """Timesteps a second over the last minute, all but waits for publishes; None until there is half a minute."""
        trained = now - self._stood
        if not self._marks or trained - self._marks[0][0] < 30.0:
            return None
        began, first = self._marks[0]
        return (self._t - first) / (trained - began)

    def calibration(self, now: float, num_timesteps: int) -> Calibration | None:
        """When the speed is known, and again when an evaluation or a wait was timed: what is left, whether it fits."""
        done = num_timesteps - self.first_timestep
        elapsed = now - self.began
        known = 1 + bool(self.evaluation_seconds) + bool(self._waited)
        if known <= self._calibrated:
            return None
        if done < 2 * self.update_timesteps or (elapsed < 1.0 and done < 50):
            return None
        speed = self.steps_per_s(now)
        if speed is None:
            return None
        self._calibrated = known
        rest = self.total_timesteps - num_timesteps
        evaluations = rest // self.eval_freq if self.eval_freq else 0
        cost = sum(self.evaluation_seconds) / len(self.evaluation_seconds) if self.evaluation_seconds else 0.0
        waiting = rest * self._waited / (self._t - self._warm_from)
        needed = rest / speed + evaluations * cost + waiting
        left = self.seconds_left - elapsed
        timed = self.evaluation_seconds or not self.eval_freq
        return Calibration(
            num_timesteps=num_timesteps,
            steps_per_s=speed,
            seconds_needed=round(needed, 1),
            seconds_left=round(left, 1),
            evaluation_seconds=round(evaluations * cost, 1) if timed else None,
            waiting_seconds=round(waiting, 1),
            fits=needed <= left,
        )
