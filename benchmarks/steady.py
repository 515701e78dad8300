"""An environment whose steps take as long as they are told, and what is trained on it; and how a figure meets a bar."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

NAME = "benchmarks.steady:Steady"
STEP_SECONDS = 0.005
ALGORITHMS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 128, "batch_size": 64, "n_epochs": 4},
    "DQN": {"buffer_size": 100_000, "learning_starts": 100, "batch_size": 32},
}
_MATRIX = np.random.default_rng(0).standard_normal((96, 96))


class Steady(gymnasium.Env):
    """26 observations, 4 actions; a step computes for `step_seconds`, mostly without the interpreter's lock."""

    observation_space = spaces.Box(-1.0, 1.0, (26,), np.float32)
    action_space = spaces.Discrete(4)

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        self.step_seconds = step_seconds
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        until = time.perf_counter() + self.step_seconds
        while time.perf_counter() < until:
            np.dot(_MATRIX, _MATRIX)
        self.t += 1
        return self._obs(), float(self.np_random.random()), False, self.t >= 360, {}

    def _obs(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 26).astype(np.float32)


def verdict(value: float, bar: float | None, least: bool = False) -> str:
    """How a figure stands to its bar."""
    if bar is None:
        return ""
    held = value >= bar if least else value <= bar
    return f"{'at least' if least else 'at most'} {bar:.3g}: {'held' if held else 'NOT held'}"
