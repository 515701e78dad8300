"""What a training tells the world while it goes: that it lives, how far and how fast it is, whether it looks sick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kernel import health
from kernel.channel import LOADING, STEPPING, Channel
from kernel.contract import events
from kernel.contract.config import RunConfig
from kernel.training.cadence import MAX_SHARE
from kernel.training.learner import Learner
from kernel.training.pace import Pace

HEALTH_SECONDS = 1.0


@dataclass
class Reports:
    """Beats, progress, calibration, evaluations, and checkpoints that come less often than asked."""

    learner: Learner
    run: RunConfig
    pace: Pace
    channel: Channel

    def tell(self, t: int, now: float) -> None:
        """Whatever is due at this step."""
        self.pace.step(now, t)
        self.channel.beat(t, STEPPING if t > self.pace.first_timestep else LOADING)
        if self.pace.progress_due(now):
            self.channel.event(
                events.Progress(
                    num_timesteps=t,
                    total_timesteps=self.learner.total_timesteps,
                    steps_per_s=self.pace.steps_per_s(now),
                    **self.learner.statistics.recent(),
                )
            )
        calibration = self.pace.calibration(now, t)
        if calibration is not None:
            self.channel.event(calibration)

    def evaluated(self, t: int, scores: dict[str, float], seconds: float) -> None:
        """An evaluation is over."""
        self.pace.evaluated(seconds)
        named: dict[str, Any] = {name.partition("/")[2]: value for name, value in scores.items()}
        self.channel.event(events.Evaluation(num_timesteps=t, seconds=round(seconds, 3), **named))

    def checkpointed(self, t: int, stretched: float | None) -> None:
        """A checkpoint was taken; `stretched` are the seconds between them from here on, where they are too dear."""
        self.pace.checkpointed()
        if stretched is None:
            return
        asked = f"every {self.run.checkpoint_freq:,} timesteps"
        reason = f"Checkpoints {asked} would take more than {MAX_SHARE:.0%} of the training."
        self.channel.event(
            events.Cadence(num_timesteps=t, asked=asked, seconds_between=round(stretched, 2), reason=reason)
        )


@dataclass
class HealthReports:
    """Each sickness of the training, told once."""

    learner: Learner
    pace: Pace
    channel: Channel
    action: str
    """`warn` or `stop`."""
    _health: health.Health = field(default_factory=health.Health, init=False)
    _looked_at: float = field(default=0.0, init=False)

    def reason_to_end(self, t: int, now: float) -> str:
        """Look once in HEALTH_SECONDS and tell what is new; why the training ends, empty where it goes on."""
        if now - self._looked_at < HEALTH_SECONDS:
            return ""
        self._looked_at = now
        statistics = self.learner.statistics
        findings = [
            *health.training_findings(
                statistics.rewards,
                statistics.actions,
                self.learner.returns(),
                dict(statistics.last_logged),
                self.learner.n_actions,
            ),
            *health.speed_findings(self.pace.recent_speed(now)),
        ]
        for finding in self._health.fresh(iter(findings)):
            action = "warn" if finding.rule == "slow" else self.action
            self.channel.event(events.Health(num_timesteps=t, action=action, **vars(finding)))
            if action == "stop":
                return finding.message
        return ""
