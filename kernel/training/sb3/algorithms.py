"""stable-baselines3's algorithms with one thing added: a call at the consistent point of every step.

The consistent point is the top of the collect loop, before any random draw of the step: the only instant when nothing
of a step is half done. On-policy it is a forward pre-hook of the policy (`collect_rollouts` is the only caller of
`policy(obs)`), off-policy the first statement of the loop, `_sample_action`. True of stable-baselines3 2.9.2; a test
counts the calls.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from kernel.contract import hyperparameters
from kernel.contract.config import RunConfig
from kernel.contract.hyperparameters import SCHEDULED, HyperparametersRefused


class ConsistentPointMixin:
    """What both families share: the hook, and how much of the current rollout is already there."""

    at_consistent_point: Callable[[], None] | None = None
    """Called once a vector step, before anything random; may raise to end the training there."""
    collected_steps: int = 0
    """Vector steps of the current rollout that are done."""
    collected_episodes: int = 0
    """Episodes that ended within the current rollout (off-policy only)."""
    resumes_inside_rollout: bool = False
    _updating: Callable[[], None] | None = None

    def call_while_updating(self, call: Callable[[], None]) -> None:
        """Call `call` from here on as an update begins, and after each step of the optimizer."""
        self._updating = call
        self.policy.optimizer.register_step_post_hook(lambda *_: call())  # type: ignore[attr-defined]

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update, as the algorithm does."""
        if self._updating is not None:
            self._updating()
        super().train(*args, **kwargs)  # type: ignore[misc]

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # A rollout that ends after the total would make schedules negative.
        self._current_progress_remaining = max(0.0, 1.0 - float(num_timesteps) / float(total_timesteps))

    def _fire(self) -> None:
        if self.at_consistent_point is not None:
            self.at_consistent_point()


class _OnPolicy(ConsistentPointMixin, OnPolicyAlgorithm):
    def collect_rollouts(self, env: VecEnv, callback: Any, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        already = self.collected_steps if self.resumes_inside_rollout else 0
        self.collected_steps, self.resumes_inside_rollout = already, False

        def before_forward(*_: Any) -> None:
            self._fire()
            self.collected_steps += 1

        hook = self.policy.register_forward_pre_hook(before_forward)
        try:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps - already)
        finally:
            hook.remove()


class _OffPolicy(ConsistentPointMixin, OffPolicyAlgorithm):
    _episodes_before_rollout: int = 0

    def collect_rollouts(self, env: VecEnv, callback: Any, train_freq: TrainFreq, *args: Any, **kwargs: Any) -> Any:
        steps = self.collected_steps if self.resumes_inside_rollout else 0
        episodes = self.collected_episodes if self.resumes_inside_rollout else 0
        self.collected_steps, self.collected_episodes, self.resumes_inside_rollout = steps, episodes, False
        self._episodes_before_rollout = self._episode_num - episodes
        done = steps if train_freq.unit == TrainFrequencyUnit.STEP else episodes
        rest = TrainFreq(train_freq.frequency - done, train_freq.unit)
        rollout = super().collect_rollouts(env, callback, rest, *args, **kwargs)
        return RolloutReturn(
            rollout.episode_timesteps + steps * env.num_envs, rollout.n_episodes + episodes, rollout.continue_training
        )

    def _sample_action(self, *args: Any, **kwargs: Any) -> Any:
        self.collected_episodes = self._episode_num - self._episodes_before_rollout
        self._fire()
        self.collected_steps += 1
        return super()._sample_action(*args, **kwargs)


class ExactPPO(_OnPolicy, PPO):
    """PPO with a consistent point."""


class ExactA2C(_OnPolicy, A2C):
    """A2C with a consistent point."""


class ExactDQN(_OffPolicy, DQN):
    """DQN with a consistent point."""


ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"PPO": ExactPPO, "A2C": ExactA2C, "DQN": ExactDQN}


def make_model(run: RunConfig, venv: VecEnv, device: str) -> Any:
    """The algorithm of `run`, freshly initialised from its seed.

    Raises
    ------
    HyperparametersRefused
        A key that the algorithm does not take, or that cannot be resumed exactly.
    """
    hyperparameters.require(run.algorithm, run.hyperparameters)
    given = dict(copy.deepcopy(run.hyperparameters))  # libraries write into what they are given
    for name in SCHEDULED:
        if isinstance(given.get(name), str):
            given[name] = LinearSchedule(hyperparameters.schedule_start(name, given[name]), 0.0, 1.0)
    if isinstance(given.get("train_freq"), list):
        given["train_freq"] = tuple(given["train_freq"])
    given.setdefault("policy", run.policy)
    try:
        return ALGORITHMS[run.algorithm](env=venv, seed=run.seed, device=device, **given)
    except TypeError as error:
        raise HyperparametersRefused(f"{run.algorithm} does not take them: {error}.") from error


def rounded_total(run: RunConfig, model: Any) -> int:
    """`total_timesteps` up to a whole number of rollouts: the algorithm cannot stop inside one."""
    if isinstance(model, OnPolicyAlgorithm):
        step = model.n_steps * model.n_envs
    else:
        frequency = model.train_freq
        if not isinstance(frequency, TrainFreq):
            frequency = frequency if isinstance(frequency, tuple) else (frequency, "step")
        count, unit = frequency[0], str(getattr(frequency[1], "value", frequency[1]))
        step = count * model.n_envs if unit == "step" else 1
    return math.ceil(run.total_timesteps / step) * step
