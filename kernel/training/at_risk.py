"""Waiting for the publish where more timesteps than allowed would be lost with the session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel.channel import Channel
from kernel.checkpoints import retention
from kernel.contract import events
from kernel.training.pace import Pace

RISK_WAIT_SECONDS = 120.0


@dataclass
class RiskWait:
    """Holds the training up while it is `bound` timesteps ahead of what is published; 0 never does."""

    folder: Path
    """Working folder of the session."""
    bound: int
    channel: Channel
    pace: Pace
    stop_requested: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self, t: int) -> None:
        """Return when the publish has caught up, after RISK_WAIT_SECONDS, or when the training is to stop."""
        if not self._is_at_risk(t):
            return
        began = self.clock()
        while self._is_at_risk(t) and not self.stop_requested():
            if self.clock() - began >= RISK_WAIT_SECONDS:
                reason = f"{self.bound} timesteps at risk for {RISK_WAIT_SECONDS:.0f} s; training goes on unpublished"
                self.channel.event(events.PublishFailed(num_timesteps=t, reason=reason))
                break
            self.channel.beat(t)
            self.sleep(0.02)
        self.pace.waited(self.clock() - began)

    def _is_at_risk(self, t: int) -> bool:
        if not self.bound or retention.publishing_given_up(self.folder):
            return False
        return t - (retention.published_timesteps(self.folder) or 0) >= self.bound
