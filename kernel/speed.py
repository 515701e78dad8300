"""How long a timestep, an update and an evaluation episode of a run take on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from kernel import algorithms, environments
from kernel.config import RunConfig
from kernel.metrics import StepStatistics

COLLECT_SECONDS = 0.5
MIN_TIMESTEPS = 10
MAX_TIMESTEPS = 1_000
EPISODE_SECONDS = 3.0
GRADIENT_STEPS = 5


@dataclass(frozen=True)
class Measured:
    """Wall-clock figures, compiling left out."""

    timesteps: int
    """Timesteps that the speed was measured over."""
    collect_s: float
    """Seconds a timestep without the update."""
    update_s: float
    """Seconds of updates a timestep."""
    episode_s: float
    """Seconds of one evaluation episode; 0 where the run never evaluates."""
    episode_steps: int
    episode_over: bool
    """False: the episode did not end within EPISODE_SECONDS, and `episode_s` is a lower bound."""

    @property
    def steps_per_s(self) -> float:
        """Timesteps a second, the updates included."""
        return 1.0 / (self.collect_s + self.update_s)


def measure(run: RunConfig, device: str) -> Measured:
    """Collect for half a second, update once, play one evaluation episode: with the run's own hyperparameters."""
    venv = environments.make_environments(run, device)
    try:
        model = algorithms.make_model(run, venv, device)
        model.set_logger(StepStatistics().make_logger())
        _, callback = model._setup_learn(10**9, StepStatistics())
        on_policy = isinstance(model, OnPolicyAlgorithm)
        done, seconds = _collect(model, venv, callback, on_policy)
        update_s = _on_policy_update(model) if on_policy else _off_policy_update(model)
        steps, episode_s, over = _episode(model, run, device) if run.eval_freq else (0, 0.0, True)
    finally:
        venv.close()
    return Measured(done, seconds / done, update_s, episode_s, steps, over)


def _collect(model: Any, venv: Any, callback: BaseCallback, on_policy: bool) -> tuple[int, float]:
    """Timesteps that were collected, and the seconds that they took; the first few compile and do not count."""
    most = MIN_TIMESTEPS if not on_policy else min(MIN_TIMESTEPS, model.n_steps)

    def collect() -> int:
        before = model.num_timesteps
        if on_policy:
            model.collect_rollouts(venv, callback, model.rollout_buffer, n_rollout_steps=most)
        else:
            frequency = TrainFreq(most, TrainFrequencyUnit.STEP)
            model.collect_rollouts(venv, callback, frequency, model.replay_buffer, learning_starts=0)
        return int(model.num_timesteps - before)

    collect()
    done, began = 0, time.perf_counter()
    while done < MIN_TIMESTEPS or (done < MAX_TIMESTEPS and time.perf_counter() - began < COLLECT_SECONDS):
        done += collect()
    return done, time.perf_counter() - began


def _on_policy_update(model: Any) -> float:
    """Seconds a timestep: one pass over a full buffer, times the epochs that the recipe asks for."""
    buffer = model.rollout_buffer
    buffer.pos, buffer.full, buffer.generator_ready = buffer.buffer_size, True, False
    epochs = int(getattr(model, "n_epochs", 1))
    if hasattr(model, "n_epochs"):
        model.n_epochs, model.target_kl = 1, None
    seconds = _timed(model.train)
    return seconds * epochs / (buffer.buffer_size * buffer.n_envs)


def _off_policy_update(model: Any) -> float:
    frequency = model.train_freq
    steps = frequency.frequency * model.n_envs if frequency.unit == TrainFrequencyUnit.STEP else None
    seconds = _timed(lambda: model.train(GRADIENT_STEPS, model.batch_size)) / GRADIENT_STEPS
    if steps is None or model.gradient_steps < 0:
        return seconds  # as many gradient steps as timesteps
    return seconds * model.gradient_steps / steps


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _episode(model: Any, run: RunConfig, device: str) -> tuple[int, float, bool]:
    env = environments.make_environment(run, device)
    try:
        obs, _ = env.reset(seed=run.seed)
        began, steps, over = time.perf_counter(), 0, False
        while not over and time.perf_counter() - began < EPISODE_SECONDS:
            action, _ = model.policy.predict(obs, deterministic=True)
            obs, _, terminated, truncated, _ = env.step(action)
            steps += 1
            over = terminated or truncated
        return steps, time.perf_counter() - began, over
    finally:
        env.close()
