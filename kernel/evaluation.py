"""Evaluate a policy on an environment of its own, leaving no trace in the training."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch as th

from kernel.config import RunConfig
from kernel.environments import make_environment

SEED_OFFSET = 1_000_000
"""Evaluation episodes begin from seeds that training never uses."""


def evaluate(model: Any, run: RunConfig, device: str) -> dict[str, float]:
    """Mean and spread of the return over `eval_episodes` deterministic episodes, the same ones each time."""
    generators = random.getstate(), np.random.get_state(), th.get_rng_state()
    env = make_environment(run, device)
    try:
        episodes = [_episode(model, env, run.seed + SEED_OFFSET + i) for i in range(run.eval_episodes)]
    finally:
        env.close()
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        th.set_rng_state(generators[2])
    returns, lengths = [r for r, _ in episodes], [length for _, length in episodes]
    return {
        "eval/mean_reward": float(np.mean(returns)),
        "eval/std_reward": float(np.std(returns)),
        "eval/mean_ep_length": float(np.mean(lengths)),
    }


def _episode(model: Any, env: Any, seed: int) -> tuple[float, int]:
    obs, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        action, _ = model.policy.predict(obs, deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        length += 1
        over = terminated or truncated
    return total, length
