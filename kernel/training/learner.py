"""What the trainer asks of whatever learns, and the way to it by the name of an algorithm.

The trainer restores, checkpoints, evaluates and reports; how a step is taken is the learner's alone. stable-baselines3
is the first one (`kernel.training.sb3.learner`); LEARNERS of `kernel.contract.config` names them all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernel.contract.config import LEARNERS, RunConfig
from kernel.training.metrics import Row

Rows = dict[str, np.ndarray]
"""Columns of a replay buffer, of shape (rows, environments, ...).

A column `next_X` has what `X` has in the row after, but at the end of an episode: then it is stored once.
"""


class Statistics(Protocol):
    """What a training measures of itself between two rows of its metrics."""

    last_evaluation: dict[str, Any]
    recent_rows: list[Row]

    @property
    def rewards(self) -> Sequence[float]: ...
    @property
    def actions(self) -> Sequence[int]: ...
    @property
    def last_logged(self) -> Mapping[str, float]: ...
    def row(self) -> dict[str, Any]: ...
    def close_row(self) -> dict[str, Any]: ...
    def recent(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, Any]: ...


class Learner(Protocol):
    """An algorithm and its environments, made from a run's configuration and its seed."""

    total_timesteps: int
    """Of the run, up to a whole number of rollouts."""
    update_timesteps: int
    """Timesteps between two updates."""
    buffer_size: int
    """Rows of its replay buffer; 0 without one."""

    @classmethod
    def make(cls, run: RunConfig, device: str, way: str = "", because: str = "") -> Learner:
        """A fresh one, at timestep 0.

        `way` is how its environments' state is taken, one of STATE_WAYS of `kernel.contract.config`; empty finds out.
        `because` says why it is `none`.
        """

    @classmethod
    def measure(cls, run: RunConfig, device: str) -> Measured:
        """How fast it goes on this machine."""

    @property
    def statistics(self) -> Statistics:
        """What it measures of itself."""

    @property
    def num_timesteps(self) -> int:
        """Done so far."""

    @property
    def n_actions(self) -> int:
        """How many actions there are to choose from; 0 where they are no choice."""

    def returns(self) -> list[float]:
        """Of the last episodes."""

    def details(self) -> dict[str, str]:
        """What a checkpoint must have been made with to be put back: spaces, and what the reward is.

        Its keys are some of CHANGEABLE of `kernel.contract.config`.
        """

    def members(self, state: Mapping[str, Any]) -> dict[str, bytes]:
        """A captured state as the files that the algorithm's own library reads; called in the writer's thread."""

    def capture(self, training: Any) -> dict[str, Any]:
        """Copies of everything, with `training` of the trainer in it."""

    def unkept(self) -> dict[str, str]:
        """Digests, by their paths, of what of it no checkpoint holds though it may change."""

    def what_was_lost(self, state: Mapping[str, Any]) -> str:
        """Why the environments of a captured state cannot be put back; empty where they can."""

    def require_whole(self, state: Any, training: Any) -> None:
        """Raise CheckpointInvalid unless `state` has the form of what `capture` gives of a fresh training."""

    def restore(self, state: dict[str, Any], beat: Callable[[], None], new_episodes: str = "") -> str:
        """Put `state` back; why its episodes are new ones, empty where they go on.

        They are new ones where they were lost when the state was captured, and where `new_episodes` says why they are
        to be. Where they cannot be put back that is NotRestorable of `kernel.training.state_graph.nodes`. `beat` is
        called where it takes long.
        """

    def restore_again(self) -> dict[str, Any] | None:
        """Undo, at the first point after `restore`, what starting to learn changed; the state that must be there.

        None where nothing was restored, or new episodes were begun.
        """

    @property
    def rows_done(self) -> int:
        """Rows that the replay buffer took in since the run began, one a step of all environments."""

    def copy_rows(self, first: int, last: int) -> Rows:
        """Copies of rows [first, last) of the replay buffer, which must all be in it still."""

    def put_rows(self, first: int, rows: Rows, num_rows: int) -> None:
        """Put `rows`, which begin at `first`, where they were when the replay buffer had taken in `num_rows`."""

    def evaluate(self, beat: Callable[[], None]) -> dict[str, float]:
        """Scores on environments of its own, leaving no trace in the training; `beat` is called at each step."""

    def learn(self, at_point: Callable[[], None], updating: Callable[[], None]) -> None:
        """Learn to the end; `at_point` is called before each step, with nothing half done, and may raise to end it.

        `updating` is called as an update begins, and at each step of it.
        """

    def close(self) -> None:
        """Close the environments."""


@dataclass(frozen=True)
class Measured:
    """Wall-clock figures, compiling left out."""

    timesteps: int
    """Timesteps that the speed was measured over."""
    played: int
    """Those, with the ones that went before and the evaluation's."""
    collect_s: float
    """Seconds a timestep without the update."""
    update_s: float
    """Seconds of updates a timestep."""
    evaluation_s: float
    """Seconds of one evaluation, all its episodes; 0 where the run never evaluates."""
    evaluation_over: bool
    """False: the episodes did not end within EVALUATION_SECONDS, and `evaluation_s` is a lower bound."""
    longest_pause_s: float
    """The longest time between two signs of life."""

    @property
    def steps_per_s(self) -> float:
        """Timesteps a second, the updates included."""
        return 1.0 / (self.collect_s + self.update_s)


def kind_of(algorithm: str) -> type[Learner]:
    """The class that learns `algorithm`; its library is imported only here."""
    module, _, name = LEARNERS[algorithm].partition(":")
    kind: type[Learner] = getattr(importlib.import_module(module), name)
    return kind
