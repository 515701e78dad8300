"""Algorithms of stable-baselines3 and sb3-contrib with one thing added: a call at the consistent point of every step.

The consistent point is the top of the collect loop, before any random draw of the step: the only instant when nothing
of a step is half done. On-policy it is a forward pre-hook of the policy (`collect_rollouts` is the only caller of
`policy(obs)`), off-policy the first statement of the loop, `_sample_action`. What generalised state-dependent
exploration draws before either is drawn here instead, right after the point. ARS has a point a generation: in between
its candidates live on the stack. True of stable-baselines3 and sb3-contrib 2.9.2; a test counts the calls.
"""

from __future__ import annotations

import copy
import functools
import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from kernel.contract import hyperparameters
from kernel.contract.config import RunConfig
from kernel.contract.hyperparameters import SCHEDULED, HyperparametersRefused
from kernel.training.sb3 import named, noise
from kernel.training.sb3.optimizers import optimizers_of


class ConsistentPointMixin:
    """What all families share: the hook, and how much of the current rollout is already there."""

    at_consistent_point: Callable[[], None] | None = None
    """Called once a vector step, before anything random; may raise to end the training there."""
    collected_steps: int = 0
    """Vector steps of the current rollout that are done."""
    collected_episodes: int = 0
    """Episodes that ended within the current rollout (off-policy only)."""
    resumes_inside_rollout: bool = False
    _updating: Callable[[], None] | None = None

    def call_while_updating(self, call: Callable[[], None]) -> None:
        """Call `call` from here on as an update begins, and after each step of an optimizer."""
        self._updating = call
        for optimizer in optimizers_of(self).values():
            optimizer.register_step_post_hook(lambda *_: call())

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update, as the algorithm does."""
        if self._updating is not None:
            self._updating()
        super().train(*args, **kwargs)  # type: ignore[misc]

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # A rollout that ends after the total would make schedules negative, and ARS gives what is left as the total.
        self._current_progress_remaining = max(0.0, 1.0 - float(num_timesteps) / float(self._total_timesteps))  # type: ignore[attr-defined]

    def _fire(self) -> None:
        if self.at_consistent_point is not None:
            self.at_consistent_point()

    def _step_begins(self, explorer: Any, n_envs: int) -> None:
        """The consistent point, and then what the library would have drawn before it."""
        self._fire()
        if getattr(self, "use_sde", False):
            every = self.sde_sample_freq  # type: ignore[attr-defined]
            draws = (self.collected_steps == 0) + (every > 0 and self.collected_steps % every == 0)
            for _ in range(draws):
                type(explorer).reset_noise(explorer, n_envs)
        self.collected_steps += 1


@contextmanager
def _without_noise_of_its_own(explorer: Any) -> Iterator[None]:
    """While it collects the library draws no exploration noise: `_step_begins` does."""
    if explorer is None or not hasattr(explorer, "reset_noise"):
        yield
        return
    explorer.reset_noise = lambda *_: None
    try:
        yield
    finally:
        del explorer.reset_noise


class _OnPolicy(ConsistentPointMixin, OnPolicyAlgorithm):
    def collect_rollouts(
        self, env: VecEnv, callback: Any, rollout_buffer: Any, n_rollout_steps: int, *more: Any, **named: Any
    ) -> bool:
        already = self.collected_steps if self.resumes_inside_rollout else 0
        self.collected_steps, self.resumes_inside_rollout = already, False
        hook = self.policy.register_forward_pre_hook(lambda *_: self._step_begins(self.policy, env.num_envs))
        try:
            with _without_noise_of_its_own(self.policy):
                return super().collect_rollouts(
                    env, callback, rollout_buffer, n_rollout_steps - already, *more, **named
                )
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
        with _without_noise_of_its_own(getattr(self, "actor", None)):
            rollout = super().collect_rollouts(env, callback, rest, *args, **kwargs)
        return RolloutReturn(
            rollout.episode_timesteps + steps * env.num_envs, rollout.n_episodes + episodes, rollout.continue_training
        )

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> Any:
        self.collected_episodes = self._episode_num - self._episodes_before_rollout
        self._step_begins(getattr(self, "actor", None), n_envs)
        return super()._sample_action(learning_starts, action_noise, n_envs)


class _Generations(ConsistentPointMixin, BaseAlgorithm):
    """ARS: a generation of candidates, each played for whole episodes, is one step of the search."""

    def _do_one_update(self, *args: Any, **kwargs: Any) -> None:
        self._fire()
        super()._do_one_update(*args, **kwargs)  # type: ignore[misc]

    def _trigger_callback(self, played: dict[str, Any], _globals: Any, callback: Any, n_envs: int) -> None:
        callback.update_locals(played)
        super()._trigger_callback(played, _globals, callback, n_envs)  # type: ignore[misc]


_LIBRARIES = ("stable_baselines3", "sb3_contrib")


@functools.cache
def algorithm(name: str) -> type[BaseAlgorithm]:
    """The algorithm of that name with a consistent point.

    Raises
    ------
    HyperparametersRefused
        No library that is installed has it.
    """
    for library in _LIBRARIES:
        try:
            found = getattr(importlib.import_module(library), name, None)
        except ModuleNotFoundError:
            continue
        if found is not None:
            return _with_consistent_point(found)
    raise HyperparametersRefused(f"{name} is in none of {', '.join(_LIBRARIES)} as installed here.")


def _with_consistent_point(found: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    if issubclass(found, OnPolicyAlgorithm):
        family: type[BaseAlgorithm] = _OnPolicy
    else:
        family = _OffPolicy if issubclass(found, OffPolicyAlgorithm) else _Generations
    return type(f"Exact{found.__name__}", (family, found), {"__doc__": f"{found.__name__} with a consistent point."})


def make_model(run: RunConfig, venv: VecEnv, device: str) -> Any:
    """The algorithm of `run`, freshly initialised from its seed.

    Raises
    ------
    HyperparametersRefused
        A key that the algorithm does not take, or that cannot be resumed exactly.
    """
    hyperparameters.require(run.algorithm, run.hyperparameters)
    # Copies, for libraries write into what they are given.
    given = named.resolved({"policy": run.policy, **copy.deepcopy(run.hyperparameters)})
    for name in SCHEDULED:
        if isinstance(given.get(name), str):
            given[name] = LinearSchedule(hyperparameters.schedule_start(name, given[name]), 0.0, 1.0)
    if isinstance(given.get("train_freq"), list):
        given["train_freq"] = tuple(given["train_freq"])
    kind, spread = given.pop("noise_type", None), given.pop("noise_std", None)
    if kind is not None:
        given["action_noise"] = noise.make(kind, spread, venv)
    if given.get("replay_buffer_class") == "HerReplayBuffer":
        given["replay_buffer_class"] = HerReplayBuffer
    try:
        model = algorithm(run.algorithm)(env=venv, seed=run.seed, device=device, **given)
    except (TypeError, ValueError, AssertionError) as error:
        raise HyperparametersRefused(f"{run.algorithm} does not take them: {error}.") from error
    return model


def rounded_total(run: RunConfig, model: Any) -> int:
    """`total_timesteps` up to a whole number of rollouts: the algorithm cannot stop inside one."""
    if isinstance(model, OnPolicyAlgorithm):
        step = model.n_steps * model.n_envs
    elif not isinstance(model, OffPolicyAlgorithm):
        step = 1
    else:
        frequency = model.train_freq
        if not isinstance(frequency, TrainFreq):
            frequency = frequency if isinstance(frequency, tuple) else (frequency, "step")
        count, unit = frequency[0], str(getattr(frequency[1], "value", frequency[1]))
        step = count * model.n_envs if unit == "step" else 1
    return math.ceil(run.total_timesteps / step) * step
