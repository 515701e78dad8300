"""What every exhibit is made of, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

EXPECTED: dict[str, str] = {}
"""`module:name` -> what must be said of it: proved, or a word that the reason of an inexact one must hold."""
PROVED = "proved"


def shown(expected: str) -> Callable[[Any], Any]:
    """Put a class or a factory into the gallery."""

    def put(make: Any) -> Any:
        EXPECTED[f"{make.__module__}:{make.__qualname__}"] = expected
        return make

    return put


class Exhibit(gymnasium.Env):
    """Ends its episodes after a while; `tick` moves the hidden state and says what is seen of it."""

    observation_space = spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps, self.level = 0, 0.0
        self.begin()

    def begin(self) -> None:
        """Once, when it is made."""

    def start(self) -> None:
        """At each reset."""

    def tick(self, action: int) -> float:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.level = 0, float(self.np_random.uniform())
        self.start()
        return self._seen(0.0), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        seen = float(self.tick(int(action))) % 7.0
        self.level = 0.5 * self.level + 0.1 * seen + 0.2 * int(action)
        return self._seen(seen), self.level - seen, False, self.steps >= 11, {}

    def _seen(self, seen: float) -> Any:
        return np.array([seen, self.level, self.steps / 11], np.float32).clip(-10, 10)
