"""How much of the session is left, and by when each thing must be over.

                 no new upload        trainer stops        uploads are given up     limit
    ──────────────────┼─────────────────────┼───────────────────────┼─────────────────┤
              limit − 2 margin       limit − margin          limit − reserve

Standard library only; clocks are parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MIN_MARGIN = 120.0
MAX_MARGIN = 900.0
MAX_SHARE = 0.25
"""A margin takes at most this part of a short session."""
LAST_SECONDS = 30.0
PERCENTILE = 0.95
"""Of what publishes took, by nearest rank: the slowest of up to 19, and one outlier of more costs no session time."""


@dataclass
class Deadline:
    """The end of the session on a monotonic clock."""

    began: float
    max_seconds: float
    margin_seconds: float = 0.0
    """0 derives it from what was measured."""
    clock: Callable[[], float] = time.monotonic
    measured: list[float] = field(default_factory=list)
    """Seconds that publishes took, from the capture's end to the version being there."""

    def published_in(self, seconds: float) -> None:
        """A publish took `seconds`."""
        self.measured.append(seconds)

    @property
    def margin(self) -> float:
        """Seconds kept for the last checkpoint and its publish."""
        if self.margin_seconds:
            return min(self.margin_seconds, self.max_seconds)
        ordered = sorted(self.measured)
        slowest = ordered[math.ceil(PERCENTILE * len(ordered)) - 1] if ordered else 0.0
        return min(max(3 * slowest, MIN_MARGIN), MAX_MARGIN, MAX_SHARE * self.max_seconds)

    @property
    def seconds_left(self) -> float:
        """Seconds until the platform kills."""
        return self.began + self.max_seconds - self.clock()

    @property
    def training_seconds_left(self) -> float:
        """Seconds until the trainer must stop."""
        return self.seconds_left - self.margin

    @property
    def upload_seconds_left(self) -> float:
        """Seconds until the last upload is given up."""
        return self.seconds_left - min(LAST_SECONDS, self.margin / 4)

    @property
    def may_begin_upload(self) -> bool:
        """Whether an upload that is not the last may still begin."""
        return self.seconds_left > 2 * self.margin
