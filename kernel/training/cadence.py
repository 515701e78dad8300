"""When the next checkpoint is due: by timesteps or by seconds, and never at more than a given share of the time."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SHARE = 0.01
"""Largest part of the training's time that checkpoints may take."""
FREE_SECONDS = 2.0
"""Spent before that part counts: a short run gets every checkpoint it asks for."""


@dataclass
class Cadence:
    """Decides with the clock's times handed in; knows nothing of files."""

    freq: int
    """Timesteps between two checkpoints."""
    max_seconds: float = 60.0
    """A checkpoint is due at the latest this long after the last one; 0 leaves it to `freq`."""
    max_share: float = MAX_SHARE
    free_seconds: float = FREE_SECONDS
    began: float = 0.0
    spent: float = 0.0
    last_at: float = 0.0
    last_timesteps: int = 0
    checkpoints: int = 0
    stretched: bool = False

    def begin(self, now: float, num_timesteps: int) -> None:
        """Training starts at `num_timesteps`."""
        self.began = self.last_at = now
        self.last_timesteps = num_timesteps

    def is_due(self, now: float, num_timesteps: int) -> bool:
        """Whether a checkpoint belongs here."""
        if num_timesteps == self.last_timesteps:
            return False
        by_timesteps = num_timesteps // self.freq > self.last_timesteps // self.freq
        by_seconds = self.max_seconds > 0 and now - self.last_at >= self.max_seconds
        return (by_timesteps or by_seconds) and not self._too_dear(now)

    def _too_dear(self, now: float) -> bool:
        return self.spent > self.free_seconds + self.max_share * (now - self.began)

    def taken(self, now: float, num_timesteps: int) -> None:
        """A checkpoint was captured here."""
        self.last_at, self.last_timesteps = now, num_timesteps
        self.checkpoints += 1

    def cost(self, seconds: float) -> None:
        """A checkpoint held the training up for this long."""
        self.spent += seconds

    def newly_stretched(self, now: float) -> float | None:
        """Seconds between checkpoints that fit the share, once, when they first come less often than asked."""
        if self.stretched or not self.checkpoints or not self._too_dear(now):
            return None
        self.stretched = True
        return self.spent / self.checkpoints / self.max_share
