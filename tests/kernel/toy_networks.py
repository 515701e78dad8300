"""What a recipe may name: a policy, a features extractor, a schedule."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class Halves(BaseFeaturesExtractor):
    """Half of what it sees."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, int(observation_space.shape[0]))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return observations / 2


class Policy(ActorCriticPolicy):
    """A policy under a name of its own."""


def warm_up(remaining: float) -> float:
    """Rises from 0 over the run."""
    return 1e-3 * (1.0 - remaining)
