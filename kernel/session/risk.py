"""When work that is not published becomes an alarm: what would be lost now, held to what was asked for.

Pure; times of a monotonic clock are handed in. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contract.events import AtRisk

MULTIPLE = 3
"""Of what was asked for: so much at risk is an alarm."""
LEAST_PATIENCE_SECONDS = 10.0
MOST_PATIENCE_SECONDS = 120.0


def patience(slowest: float | None) -> float:
    """How long a publish may be waited for before it takes longer than usual [s], by what the `slowest` one took.

    That of the first one is the longest: nobody knows how long the service takes.
    """
    if slowest is None:
        return MOST_PATIENCE_SECONDS
    return min(max(3 * slowest, LEAST_PATIENCE_SECONDS), MOST_PATIENCE_SECONDS)


@dataclass
class RiskAlarm:
    """Watches how far the training is ahead of the last published checkpoint; speaks once until one is published."""

    max_timesteps: int
    """As asked for; 0 where time is what was asked for."""
    checkpoint_seconds: float
    """Longest time between two checkpoints that was asked for; 0 leaves it to timesteps."""
    safe: int = 0
    """Timesteps that this session began with."""
    _since: float | None = None
    """When the training began, or the last published checkpoint was taken up."""
    _checkpoint_at: float | None = None
    _gap: float = 0.0
    _told: bool = False

    def checkpointed(self, now: float) -> None:
        """A checkpoint lies on the disk."""
        if self._checkpoint_at is not None:
            self._gap = max(self._gap, now - self._checkpoint_at)
        self._checkpoint_at = now

    def published(self, began: float) -> None:
        """The publish that began at `began` has succeeded."""
        self._since, self._told = began, False

    def taken_back(self) -> None:
        """What was published is gone, what this session began with too: what is at risk now may be told."""
        self.safe, self._told = 0, False

    def look(
        self,
        now: float,
        done: int,
        published: int | None,
        spacing: float,
        patience: float,
        reason: str = "",
        final: bool = False,
    ) -> AtRisk | None:
        """What there is to tell when `done` timesteps are done.

        Parameters
        ----------
        published : int or None
            Timestep of the newest checkpoint that the dataset lists.
        spacing : float
            Time between two publishes that was asked for, or that the size of checkpoints allows [s].
        patience : float
            How long one publish may take [s].
        reason : str
            Why the last publish did not succeed; empty where none has failed.
        final : bool
            No publish can succeed any more, however often it is tried.
        """
        if done < 0:
            return None
        if self._since is None:
            self._since = now
        at_risk = done - max(published or 0, self.safe)
        seconds = now - self._since
        limit_seconds, limit_timesteps = self._limits(spacing, patience)
        over = (limit_timesteps and at_risk > limit_timesteps) or (limit_seconds and seconds > limit_seconds)
        if self._told or at_risk <= 0 or not (over or final):
            return None
        self._told = True
        return AtRisk(
            num_timesteps=done,
            published_timesteps=published,
            at_risk_timesteps=at_risk,
            seconds=round(seconds, 1),
            limit_seconds=limit_seconds or None,
            limit_timesteps=limit_timesteps or None,
            reason=reason or f"no publish has ended for {seconds:.0f} s",
            final=final,
        )

    def _limits(self, spacing: float, patience: float) -> tuple[float, int]:
        """Seconds and timesteps that may be at risk; 0: any."""
        if self.max_timesteps:
            return 0.0, MULTIPLE * self.max_timesteps
        between = self._gap or self.checkpoint_seconds
        if not between:
            return 0.0, 0  # the first checkpoint comes when it comes
        return MULTIPLE * max(spacing, between) + patience, 0
