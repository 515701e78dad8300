"""What happens at the consistent point of every step: restore once, evaluate, measure, checkpoint, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kernel.channel import EVALUATING, SAVING, UPDATING, Channel
from kernel.contract import events
from kernel.contract.config import RunConfig
from kernel.contract.endings import Ending
from kernel.training import codec
from kernel.training.at_risk import RiskWait
from kernel.training.cadence import Cadence
from kernel.training.learner import Learner
from kernel.training.reports import HealthReports, Reports
from kernel.training.row_feed import RowFeed
from kernel.training.state_graph.difference import named
from kernel.training.writer import CheckpointWriter, Snapshot


class Wish(Enum):
    """What a plan wants at a consistent point."""

    go_on = "go on"
    checkpoint = "a checkpoint"
    end = "a checkpoint, and the end"


class StopTraining(Exception):
    """Ends `learn` at the consistent point, with nothing of a step half done."""

    def __init__(self, status: Ending, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class ConsistentPoint:
    """Called by the learner once a vector step; everything that is saved is saved here."""

    learner: Learner
    run: RunConfig
    cadence: Cadence
    writer: CheckpointWriter
    channel: Channel
    reports: Reports
    health: HealthReports
    risk: RiskWait
    stop_requested: Callable[[], bool]
    plan: Callable[[Learner], Wish] | None = None
    """Decides at each point, in the cadence's place, about checkpoints and the end."""
    feed: RowFeed | None = None
    """Hands rows of the replay buffer over; None without one."""
    clock: Callable[[], float] = time.monotonic
    row_at: int = 0
    evaluated_at: int = 0
    _settled: bool = field(default=False, init=False)
    _wish: Wish = field(default=Wish.go_on, init=False)
    _lost: str = field(default="", init=False)
    """Why the environments' state could not be taken, once it could not."""

    def __call__(self) -> None:
        if not self._settled:
            self._put_back()
        if self.feed is not None:
            self.feed.offer()
        t, now, stop = self.learner.num_timesteps, self.clock(), self.stop_requested()
        self._evaluate_if_due(t)
        self._close_row_if_due(t)
        self._checkpoint_if_due(t, now, stop)
        self.reports.tell(t, now)
        self._end_if_unhealthy(t, now)
        self._end_if_asked(t, stop)
        self.risk.wait(t)

    def updating(self) -> None:
        """Called by the learner as an update begins, and at each step of its optimizer."""
        self.channel.beat(self.learner.num_timesteps, UPDATING)

    def saving(self) -> None:
        """Called where the writer gets on while it is waited for."""
        self.channel.beat(self.learner.num_timesteps, SAVING)

    def finish(self) -> None:
        """The last checkpoint, after the last update."""
        t = self.learner.num_timesteps
        if self.run.eval_freq and t > self.evaluated_at:
            self._evaluate(t)
        if t > self.row_at:
            self._close_row(t)
        if t != self.cadence.last_timesteps:
            self._checkpoint(t, finished=True)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from `state`, which was put back."""
        training = state["training"]
        self.row_at, self.evaluated_at = training["row_at"], training["evaluated_at"]

    def captured(self) -> dict[str, Any]:
        """The whole state at this instant."""
        training = {
            "row_at": self.row_at,
            "evaluated_at": self.evaluated_at,
            "statistics": self.learner.statistics.state(),
        }
        return self.learner.capture(training)

    def _put_back(self) -> None:
        self._settled = True
        state = self.learner.restore_again()
        if state is None:
            return
        there, wanted = self.captured(), {name: part for name, part in state.items() if name != "replay"}
        if codec.encode(there) != codec.encode(wanted):
            self._lose_exactness(f"what was put back is not what the checkpoint holds: {named(wanted, there)}")

    def _lose_exactness(self, reason: str) -> None:
        t, lineage = self.learner.num_timesteps, self.writer.lineage
        lineage.exactness = lineage.exactness.inexact(t, reason)
        self.channel.event(events.Inexact(num_timesteps=t, reason=reason))

    def _evaluate_if_due(self, t: int) -> None:
        freq = self.run.eval_freq
        if freq and t // freq > self.evaluated_at // freq:
            self._evaluate(t)

    def _evaluate(self, t: int) -> None:
        began = self.clock()
        scores = self.learner.evaluate(lambda: self.channel.beat(t, EVALUATING))
        self.evaluated_at = t
        self.learner.statistics.last_evaluation = scores
        self.reports.evaluated(t, scores, self.clock() - began)

    def _close_row_if_due(self, t: int) -> None:
        if t // self.run.checkpoint_freq > self.row_at // self.run.checkpoint_freq:
            self._close_row(t)

    def _close_row(self, t: int) -> None:
        self.row_at = t
        self.learner.statistics.close_row()

    def _checkpoint_if_due(self, t: int, now: float, stop: bool) -> None:
        if self.plan is not None:
            self._wish = self.plan(self.learner)
        is_due = self.cadence.is_due(now, t) if self.plan is None else self._wish is not Wish.go_on
        fills_up = self.feed is not None and self.feed.fills_up
        if ((stop or is_due) and t != self.cadence.last_timesteps) or fills_up:
            self._checkpoint(t)

    def _checkpoint(self, t: int, finished: bool = False) -> None:
        before, cpu_before = self.clock(), self.writer.cpu_seconds
        self.channel.beat(t, SAVING)
        state = self.captured()
        lost = self.learner.what_was_lost(state)
        if lost and not self._lost:  # told once, and kept with each checkpoint that it is true of
            self.channel.event(
                events.Inexact(num_timesteps=t, reason=f"a resume from here begins new episodes: {lost}")
            )
        self._lost = lost
        statistics = self.learner.statistics
        snapshot = Snapshot(
            t,
            state,
            statistics.row(),
            list(statistics.recent_rows),
            finished=finished,
            lost=f"a resume from here begins new episodes: {lost}" if lost else "",
            replay_rows=self.feed.rest() if self.feed is not None else None,
        )
        self.writer.put(snapshot)
        now = self.clock()
        # The thread's processor time is counted too: python lets one thread run at a time.
        self.cadence.cost(now - before + self.writer.cpu_seconds - cpu_before)
        self.cadence.taken(now, t)
        self.reports.checkpointed(t, self.cadence.newly_stretched(now))

    def _end_if_unhealthy(self, t: int, now: float) -> None:
        if message := self.health.reason_to_end(t, now):
            if t != self.cadence.last_timesteps:
                self._checkpoint(t)
            raise StopTraining(Ending.unhealthy, message)

    def _end_if_asked(self, t: int, stop: bool) -> None:
        if stop:
            raise StopTraining(Ending.stopped, f"Stopped at timestep {t:,} as the supervisor asked.")
        if self._wish is Wish.end:
            raise StopTraining(Ending.stopped, f"Stopped at timestep {t:,}, as asked.")
