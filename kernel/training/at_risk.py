"""Waiting for the publish where more timesteps than allowed would be lost with the session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kernel.channel import Channel
from kernel.checkpoints import retention
from kernel.contract import events
from kernel.training.pace import Pace

RISK_WAIT_SECONDS = 120.0
"""Longest wait for one publish, where the supervisor does not say what one takes."""


@dataclass
class RiskWait:
    """Holds the training up while it is `bound` timesteps ahead of what is published; 0 never does.

    A wait in vain is the last one: the training goes on at full speed until a checkpoint is published, and the bound
    holds again from then on. Waits in vain never take more time than the training does.
    """

    folder: Path
    """Working folder of the session."""
    bound: int
    channel: Channel
    pace: Pace
    stop_requested: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _gave_up_at: int | None = field(default=None, init=False)
    """What was published when a wait was given up; None while the bound holds."""
    _in_vain: float = field(default=0.0, init=False)
    _began: float | None = field(default=None, init=False)

    def wait(self, t: int) -> None:
        """Return when the publish has caught up, when it is given up, or when the training is to stop."""
        if not self.bound:
            return
        began = self.clock()
        if self._began is None:
            self._began = began
        if not self._is_at_risk(t):
            return
        patience = self._patience(began - self._began - self._in_vain)
        while self._is_at_risk(t) and not self.stop_requested():
            if self.clock() - began >= patience:
                self._give_up(t, self.clock() - began)
                break
            self.channel.beat(t)
            self.sleep(0.02)
        waited = self.clock() - began
        in_vain = self._gave_up_at is not None or retention.publishing_given_up(self.folder)
        self._in_vain += waited if in_vain else 0.0
        self.pace.waited(waited, in_vain=in_vain)

    def _patience(self, trained: float) -> float:
        """Longest wait that begins now, after `trained` seconds without those that were in vain [s]."""
        usual = retention.publish_patience(self.folder) or RISK_WAIT_SECONDS
        if not self._in_vain:
            return usual
        return min(usual, max(0.0, trained - self._in_vain))

    def _give_up(self, t: int, seconds: float) -> None:
        self._gave_up_at = retention.published_timesteps(self.folder) or 0
        reason = (
            f"{self.bound} timesteps at risk for {seconds:.0f} s; training goes on unpublished, at full speed, until a "
            "checkpoint is published"
        )
        self.channel.event(events.PublishFailed(num_timesteps=t, reason=reason))

    def _is_at_risk(self, t: int) -> bool:
        published = retention.published_timesteps(self.folder) or 0
        if self._gave_up_at is not None and published <= self._gave_up_at:
            return False
        self._gave_up_at = None
        return t - published >= self.bound and not retention.publishing_given_up(self.folder)
