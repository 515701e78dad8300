"""What happens at the consistent point of every step: restore once, evaluate, measure, checkpoint, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel import health
from kernel.channel import Channel
from kernel.checkpoints import retention
from kernel.contract import events
from kernel.contract.config import RunConfig, SessionConfig
from kernel.contract.endings import Ending
from kernel.training import codec
from kernel.training.cadence import Cadence
from kernel.training.metrics import StepStatistics
from kernel.training.pace import Pace
from kernel.training.sb3 import exact_state, replay
from kernel.training.writer import CheckpointWriter, Snapshot

RISK_WAIT_SECONDS = 120.0
HEALTH_SECONDS = 1.0


class StopTraining(Exception):
    """Ends `learn` at the consistent point, with nothing of a step half done."""

    def __init__(self, status: Ending, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class ConsistentPoint:
    """Called by the algorithm once a vector step; everything that is saved is saved here."""

    model: Any
    run: RunConfig
    session: SessionConfig
    total_timesteps: int
    statistics: StepStatistics
    cadence: Cadence
    writer: CheckpointWriter
    channel: Channel
    pace: Pace
    folder: Path
    """Working folder of the session."""
    evaluate: Callable[[], dict[str, float]]
    stop_requested: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    pending: dict[str, Any] | None = None
    """A state to put back at the first call."""
    row_at: int = 0
    evaluated_at: int = 0
    replay_rows: int = 0
    """Rows of the replay buffer that were handed to the writer."""
    _lost: str = ""
    """Why the environments' state could not be taken, once it could not."""
    _health: health.Health = field(default_factory=health.Health)
    _health_at: float = 0.0

    def __call__(self) -> None:
        if self.pending is not None:
            self._put_back()
        t, now = self.model.num_timesteps, self.clock()
        self._evaluate_if_due(t)
        if t // self.run.checkpoint_freq > self.row_at // self.run.checkpoint_freq:
            self._close_row(t)
        stop = self.stop_requested()
        if (stop and t != self.cadence.last_timesteps) or self.cadence.is_due(now, t) or self._ring_fills_up():
            self._checkpoint(t)
        self._report(t, now)
        if stop:
            raise StopTraining(Ending.stopped, f"Stopped at timestep {t:,} as the supervisor asked.")
        self._wait_while_at_risk(t)

    def finish(self) -> None:
        """The last checkpoint, after the last update."""
        t = self.model.num_timesteps
        self.model.collected_steps = self.model.collected_episodes = 0
        if self.run.eval_freq and t > self.evaluated_at:
            self._evaluate(t)
        if t > self.row_at:
            self._close_row(t)
        if t != self.cadence.last_timesteps:
            self._checkpoint(t, finished=True)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from `state`, which was put back before `learn`, and is once more at the first consistent point."""
        self.model.resumes_inside_rollout = True
        self.pending = state
        training = state["training"]
        self.row_at, self.evaluated_at = training["row_at"], training["evaluated_at"]
        self.replay_rows = replay.rows_done(self.model) if replay.has_replay(self.model) else 0

    def captured(self) -> dict[str, Any]:
        """The whole state at this instant."""
        training = {
            "row_at": self.row_at,
            "evaluated_at": self.evaluated_at,
            "statistics": self.statistics.state(),
        }
        return exact_state.capture(self.model, training)

    def _put_back(self) -> None:
        state, self.pending = self.pending, None
        assert state is not None
        # Nothing since they were put back steps the environments.
        exact_state.restore(self.model, {**state, "environments": None})
        self.statistics.load_state(state["training"]["statistics"])
        if state["environments"] is None:
            return
        if codec.encode(self.captured()) != codec.encode({k: v for k, v in state.items() if k != "replay"}):
            self._lose_exactness("what was put back is not what the checkpoint holds")

    def _lose_exactness(self, reason: str) -> None:
        self.writer.lineage.exact = False
        self.channel.event(events.Inexact(num_timesteps=self.model.num_timesteps, reason=reason))

    def _evaluate_if_due(self, t: int) -> None:
        freq = self.run.eval_freq
        if freq and t // freq > self.evaluated_at // freq:
            self._evaluate(t)

    def _evaluate(self, t: int) -> None:
        began = self.clock()
        self.channel.beat(t)
        scores = self.evaluate()
        self.evaluated_at = t
        self.statistics.last_evaluation = scores
        seconds = self.clock() - began
        self.pace.evaluated(seconds)
        self.channel.event(events.Evaluation(num_timesteps=t, seconds=round(seconds, 3), **_event_names(scores)))

    def _close_row(self, t: int) -> None:
        self.row_at = t
        self.statistics.close_row()

    def _checkpoint(self, t: int, finished: bool = False) -> None:
        before, cpu_before = self.clock(), self.writer.cpu_seconds
        state = self.captured()
        if (lost := exact_state.what_was_lost(state)) and not self._lost:
            self._lost = lost
            self._lose_exactness(f"a resume from here begins new episodes: {lost}")
        snapshot = Snapshot(
            t,
            state,
            self.statistics.row(),
            list(self.statistics.recent_rows),
            finished=finished,
            replay_rows=self._new_replay_rows(),
        )
        self.writer.put(snapshot)
        now = self.clock()
        # The thread's processor time is counted too: python lets one thread run at a time.
        self.cadence.cost(now - before + self.writer.cpu_seconds - cpu_before)
        self.cadence.taken(now, t)
        self.pace.checkpointed()
        stretched = self.cadence.newly_stretched(now)
        if stretched is not None:
            asked = f"every {self.run.checkpoint_freq:,} timesteps"
            reason = f"Checkpoints {asked} would take more than {self.cadence.max_share:.0%} of the training."
            self.channel.event(
                events.Cadence(num_timesteps=t, asked=asked, seconds_between=round(stretched, 2), reason=reason)
            )

    def _ring_fills_up(self) -> bool:
        """Whether rows that no checkpoint has yet will soon be written over."""
        if not replay.has_replay(self.model):
            return False
        waiting = replay.rows_done(self.model) - self.replay_rows
        return waiting > 1 and 2 * waiting >= self.model.replay_buffer.buffer_size

    def _new_replay_rows(self) -> dict[str, Any] | None:
        if not replay.has_replay(self.model):
            return None
        done = replay.rows_done(self.model)
        first, self.replay_rows = self.replay_rows, done
        return replay.copy_rows(self.model, first, done)

    def _report(self, t: int, now: float) -> None:
        self.pace.step(now, t)
        if self.pace.beat_due(now):
            self.channel.beat(t)
        if self.pace.progress_due(now):
            self.channel.event(
                events.Progress(
                    num_timesteps=t,
                    total_timesteps=self.total_timesteps,
                    steps_per_s=self.pace.steps_per_s(now),
                    **self.statistics.recent(),
                )
            )
        calibration = self.pace.calibration(now, t)
        if calibration is not None:
            self.channel.event(calibration)
        if now - self._health_at >= HEALTH_SECONDS:
            self._health_at = now
            self._look_after_health(t, now)

    def _look_after_health(self, t: int, now: float) -> None:
        statistics = self.statistics
        findings = [
            *health.training_findings(
                statistics.rewards,
                statistics.actions,
                [episode["r"] for episode in self.model.ep_info_buffer],
                statistics.logged.values,
                int(getattr(self.model.action_space, "n", 0)),
            ),
            *health.speed_findings(self.pace.recent_speed(now)),
        ]
        for finding in self._health.fresh(iter(findings)):
            action = "warn" if finding.rule == "slow" else self.session.on_unhealthy
            self.channel.event(events.Health(num_timesteps=t, action=action, **vars(finding)))
            if action == "stop":
                if t != self.cadence.last_timesteps:
                    self._checkpoint(t)
                raise StopTraining(Ending.unhealthy, finding.message)

    def _wait_while_at_risk(self, t: int) -> None:
        bound = self.session.max_timesteps_at_risk
        if not bound or not self.session.dataset or not self._is_at_risk(t, bound):
            return
        began = self.clock()
        while self._is_at_risk(t, bound) and not self.stop_requested():
            if self.clock() - began >= RISK_WAIT_SECONDS:
                reason = f"{bound} timesteps at risk for {RISK_WAIT_SECONDS:.0f} s; training goes on unpublished"
                self.channel.event(events.PublishFailed(num_timesteps=t, reason=reason))
                break
            self.channel.beat(t)
            self.sleep(0.02)
        self.pace.waited(self.clock() - began)

    def _is_at_risk(self, t: int, bound: int) -> bool:
        if retention.publishing_given_up(self.folder):
            return False
        return t - (retention.published_timesteps(self.folder) or 0) >= bound


def _event_names(scores: dict[str, float]) -> dict[str, Any]:
    return {name.partition("/")[2]: value for name, value in scores.items()}
