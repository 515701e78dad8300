"""What a recipe may name: a policy, a features extractor, a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
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


class RunningMean(Halves):
    """Less the mean of what it saw: a buffer that is assigned anew each time."""

    mean: th.Tensor

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.register_buffer("mean", th.zeros(observation_space.shape))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * observations.detach().mean(0)
        return observations - self.mean


class CountingAdam(th.optim.Adam):
    """Keeps numbers of Python in its state, as optimizers of other libraries do."""

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        for held in self.state.values():
            held["calls"] = int(held.get("calls", 0)) + 1
        return found


class Lookahead(th.optim.Adam):
    """Goes back half the way to its slow weights at every seventh step; counts and weights are its own."""

    def __init__(self, params: Any, lr: float = 1e-3, **more: Any) -> None:
        super().__init__(params, lr, **more)
        self.calls = 0
        self.slow: list[th.Tensor] = []

    def step(self, closure: Any = None) -> Any:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self.slow = self.slow or [parameter.detach().clone() for parameter in parameters]
        found = super().step(closure)
        self.calls += 1
        if self.calls % 7 == 0:
            with th.no_grad():
                for slow, parameter in zip(self.slow, parameters, strict=True):
                    slow += 0.5 * (parameter - slow)
                    parameter.copy_(slow)
        return found


class Remembers(Halves):
    """Less the mean of what it saw, in numpy, with a generator of its own."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.seen, self.chance = np.zeros(observation_space.shape), np.random.default_rng(3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.seen = 0.9 * self.seen + 0.1 * observations.detach().numpy().mean(0)
        shift = th.from_numpy(self.seen + 0.01 * self.chance.normal(size=self.seen.shape)).float()
        return observations - shift


class Counts(Halves):
    """Counts how often it was asked, and nothing depends on it."""

    calls = 0

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.calls += 1
        return super().forward(observations)
