"""Noise that an off-policy algorithm adds to its actions, by the words of rl-baselines3-zoo, and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.vec_env import VecEnv

from kernel.contract.hyperparameters import NOISE_TYPES, HyperparametersRefused

_KINDS: dict[str, Any] = dict(zip(NOISE_TYPES, (NormalActionNoise, OrnsteinUhlenbeckActionNoise), strict=True))


def make(kind: str, spread: float, venv: VecEnv) -> ActionNoise:
    """Noise of mean 0 and standard deviation `spread` for each action of each environment.

    Raises
    ------
    HyperparametersRefused
        The actions are no continuous ones.
    """
    if not isinstance(venv.action_space, spaces.Box):
        raise HyperparametersRefused("noise_type is for continuous actions, and these are none.")
    shape = venv.action_space.shape
    one = _KINDS[kind](mean=np.zeros(shape), sigma=spread * np.ones(shape))
    return one if venv.num_envs == 1 else VectorizedActionNoise(one, venv.num_envs)


def memory_of(noise: ActionNoise | None) -> list[np.ndarray]:
    """What it remembers of its last values, one array an environment; empty where it has no memory."""
    return [one.noise_prev.copy() for one in _single(noise)]


def remember(noise: ActionNoise | None, memory: Sequence[np.ndarray]) -> None:
    """Put back what `memory_of` gave."""
    for one, before in zip(_single(noise), memory, strict=True):
        one.noise_prev = before.copy()


def _single(noise: Any) -> list[OrnsteinUhlenbeckActionNoise]:
    every = noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]
    return [one for one in every if isinstance(one, OrnsteinUhlenbeckActionNoise)]
