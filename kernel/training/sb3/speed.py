"""How long a timestep, an update and an evaluation of a run take on this machine."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from kernel.channel import EVALUATING, STEPPING, UPDATING
from kernel.contract.config import RunConfig
from kernel.training import environments, evaluation
from kernel.training.learner import Measured
from kernel.training.pace import Pauses
from kernel.training.sb3 import algorithms
from kernel.training.sb3.statistics import StepStatistics

COLLECT_SECONDS = 0.5
MIN_TIMESTEPS = 10
MAX_TIMESTEPS = 1_000
EVALUATION_SECONDS = 3.0
GRADIENT_STEPS = 5


def measure(run: RunConfig, device: str) -> Measured:
    """Collect for half a second, update once, play an evaluation: with the run's own hyperparameters."""
    venv = environments.make_environments(run, device)
    try:
        model = algorithms.make_model(run, venv, device)
        model.set_logger(StepStatistics().make_logger())
        pauses = Pauses()
        model.at_consistent_point = lambda: pauses.heard(STEPPING)
        model.call_while_updating(lambda: pauses.heard(UPDATING))
        _, callback = model._setup_learn(10**9, StepStatistics())
        on_policy = isinstance(model, OnPolicyAlgorithm)
        done, seconds = _collect(model, venv, callback, on_policy, pauses)
        update_s = _on_policy_update(model) if on_policy else _off_policy_update(model)
        evaluation_s, over, steps = _evaluation(model, run, device, pauses) if run.eval_freq else (0.0, True, 0)
    finally:
        venv.close()
    played = int(model.num_timesteps) + steps
    return Measured(done, played, seconds / done, update_s, evaluation_s, over, pauses.longest)


def _collect(model: Any, venv: Any, callback: BaseCallback, on_policy: bool, pauses: Pauses) -> tuple[int, float]:
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
    pauses.longest = 0.0
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


def _evaluation(model: Any, run: RunConfig, device: str, pauses: Pauses) -> tuple[float, bool, int]:
    """Seconds of one evaluation, whether its episodes ended within EVALUATION_SECONDS, and the steps it took."""
    pauses.heard(EVALUATING)
    venv = environments.make_environments(evaluation.for_evaluation(run), device)
    try:
        venv.seed(run.seed)
        obs: Any = venv.reset()
        acting = evaluation.Acting(model.policy, venv)
        began, running, steps = time.perf_counter(), set(range(venv.num_envs)), 0
        while running and time.perf_counter() - began < EVALUATION_SECONDS:
            obs, _, over, _ = venv.step(acting.actions(obs))
            acting.ended(over)
            pauses.heard(EVALUATING)
            steps += venv.num_envs
            running -= set(np.nonzero(over)[0].tolist())
        rounds = math.ceil(run.eval_episodes / venv.num_envs)
        return rounds * (time.perf_counter() - began), not running, steps
    finally:
        venv.close()
