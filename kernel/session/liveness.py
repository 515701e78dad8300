"""Whether a trainer lives: its silence against what each of its phases took before, and a bound that is asked for.

Standard library only; times are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernel import health
from kernel.channel import BEAT_SECONDS, LOADING
from kernel.health import Finding

TIMES = 3.0
"""A phase may be silent for so many times what it ever was before."""
STARTUP_SECONDS = 180.0
"""Imports and compiling say nothing meanwhile, so they have this at least."""
OWN_PAUSE_SECONDS = 5.0
"""Between two looks: this process was stopped, or the machine, and of the trainer's silence nothing is known."""


class Liveness:
    """Of all trainers of a session, one after the other."""

    def __init__(self, silence_s: float) -> None:
        self.phase = LOADING
        self._bound = max(silence_s, 4 * BEAT_SECONDS)
        self._longest: dict[str, float] = {}
        """Seconds by phase, between one sign of life in it and the next."""
        self._granted: dict[str, float] = {}
        """Seconds by phase, of what was given up before."""
        self._heard_at = self._looked_at = 0.0

    def begin(self, now: float) -> None:
        """A trainer starts."""
        self.phase, self._heard_at, self._looked_at = LOADING, now, now

    def heard(self, now: float, phase: str) -> None:
        """It did something, and is at `phase` now."""
        self._longest[self.phase] = max(self._longest.get(self.phase, 0.0), now - self._heard_at)
        self.phase, self._heard_at = phase, now

    @property
    def limit(self) -> float:
        """Seconds of silence that the present phase may have."""
        startup = STARTUP_SECONDS if self.phase == LOADING else 0.0
        before = TIMES * self._longest.get(self.phase, 0.0)
        return max(self._bound, startup, before, self._granted.get(self.phase, 0.0))

    def findings(self, now: float) -> Iterator[Finding]:
        """One where it is silent for too long."""
        pause, self._looked_at = now - self._looked_at, now
        if pause > OWN_PAUSE_SECONDS:
            self._heard_at += pause
        longest = self._longest.get(self.phase, 0.0)
        yield from health.silence_findings(now - self._heard_at, self.limit, self.phase, longest)

    def give_up(self) -> None:
        """It is ended for its silence: what needs so long every time has twice as long in the next life."""
        self._granted[self.phase] = 2 * self.limit
