"""Evaluate a policy on environments of its own, leaving no trace in the training."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch as th

from kernel.contract.config import RunConfig
from kernel.training.environment_state import Beat
from kernel.training.environments import VecEnv, is_batched, make_environments

SEED_OFFSET = 1_000_000
"""Evaluation episodes begin from seeds that training never uses."""


def evaluate(model: Any, run: RunConfig, device: str, beat: Beat = lambda: None) -> dict[str, float]:
    """Mean and spread of the return over `eval_episodes` deterministic episodes, the same ones each time.

    `beat` is called as it begins, and at each of its steps.
    """
    beat()
    generators = random.getstate(), np.random.get_state(), th.get_rng_state()
    venv = make_environments(for_evaluation(run), device)
    try:
        episodes: list[tuple[float, int]] = []
        while len(episodes) < run.eval_episodes:
            episodes += _episodes(model, venv, run.seed + SEED_OFFSET + len(episodes), beat)
    finally:
        venv.close()
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        th.set_rng_state(generators[2])
    returns, lengths = [r for r, _ in episodes], [length for _, length in episodes]
    return {
        "eval/mean_reward": float(np.mean(returns)),
        "eval/std_reward": float(np.std(returns)),
        "eval/mean_ep_length": float(np.mean(lengths)),
    }


class Acting:
    """What a policy does for sure, from the beginning of episodes on: with its memory, and the masks that it wants."""

    def __init__(self, policy: Any, venv: VecEnv) -> None:
        self._policy, self._venv = policy, venv
        self._memory: Any = None
        self._starts = np.ones(venv.num_envs, bool)
        self._masked = "action_masks" in inspect.signature(policy.predict).parameters

    def actions(self, obs: Any) -> np.ndarray:
        """Its action for each environment's observation."""
        masks = {"action_masks": np.stack(self._venv.env_method("action_masks"))} if self._masked else {}
        actions, self._memory = self._policy.predict(obs, self._memory, self._starts, deterministic=True, **masks)
        self._starts = np.zeros_like(self._starts)
        return actions

    def ended(self, over: np.ndarray) -> None:
        """Where `over`, the next observation begins another episode."""
        self._starts = over


def for_evaluation(run: RunConfig) -> RunConfig:
    """All episodes side by side where that is cheap, else one after the other; whole ones, with their own rewards."""
    kwargs = {key: value for key, value in run.env_kwargs.items() if key != "random_start" or not is_batched(run)}
    n_envs = run.eval_episodes if is_batched(run) else 1
    return replace(run, n_envs=n_envs, env_kwargs=kwargs, normalize=False)


def _episodes(model: Any, venv: VecEnv, seed: int, beat: Beat) -> list[tuple[float, int]]:
    """Return and length of one episode of each environment, from `seed` on."""
    venv.seed(seed)
    obs: Any = venv.reset()
    found: list[tuple[float, int] | None] = [None] * venv.num_envs
    acting = Acting(model.policy, venv)
    while None in found:
        beat()
        obs, _, over, infos = venv.step(acting.actions(obs))
        acting.ended(over)
        for place in np.nonzero(over)[0]:
            episode = infos[place]["episode"]
            found[place] = found[place] or (float(episode["r"]), int(episode["l"]))
    return [episode for episode in found if episode is not None]
