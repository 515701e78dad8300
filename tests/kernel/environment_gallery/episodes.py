"""Episodes that begin, end and are seeded in odd ways, and spaces of every kind."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from .exhibit import PROVED, Exhibit, shown


@shown(PROVED)
class FirstIsOther(Exhibit):
    """The first episode begins otherwise than all others."""

    def begin(self) -> None:
        self.episodes, self.load = 0, 0.0

    def start(self) -> None:
        self.load = 5.0 if self.episodes == 0 else self.load / 2
        self.episodes += 1

    def tick(self, action: int) -> float:
        self.load += 0.3 + action
        return self.load + self.episodes


@shown(PROVED)
class SeededOnce(Exhibit):
    """Reads its seed at the first reset, and draws everything from a list then."""

    def begin(self) -> None:
        self.drawn: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if not self.drawn:
            self.drawn = np.random.default_rng(seed).random(500).tolist()
        return super().reset(seed=seed)

    def tick(self, action: int) -> float:
        self.drawn.append(self.drawn.pop(0) * 1.01 + action)
        return self.drawn[0]


@shown(PROVED)
class ResetsItself(Exhibit):
    """Begins anew by itself, in the midst of what its caller takes for an episode."""

    def begin(self) -> None:
        self.load, self.times = 0.0, 0

    def tick(self, action: int) -> float:
        self.load += 0.3 + action
        if self.load > 4:
            self.load, self.times = float(self.np_random.random()), self.times + 1
            Exhibit.reset(self)
        return self.load + self.times


@shown(PROVED)
class EndsEitherWay(Exhibit):
    """Terminated, truncated or both, as chance has it."""

    def begin(self) -> None:
        self.ends = [0, 0]

    def step(self, action: Any) -> Any:
        obs, reward, _, _, info = super().step(action)
        terminated, truncated = (bool(self.np_random.random() < 0.1) for _ in range(2))
        self.ends[0] += terminated
        self.ends[1] += truncated
        return obs, reward, terminated, truncated, {**info, "ends": self.ends}

    def tick(self, action: int) -> float:
        return self.ends[0] + 2 * self.ends[1] + action


@shown(PROVED)
class InfoIsState(Exhibit):
    """Hands out its own state as info, which its caller may keep."""

    def begin(self) -> None:
        self.info = {"load": 0, "rows": np.zeros(2)}

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, self.info

    def tick(self, action: int) -> float:
        self.info["load"] += 1 + action
        self.info["rows"][action] += 1
        return self.info["load"] + self.info["rows"][0]


@shown(PROVED)
class SameArray(Exhibit):
    """Gives the same array as its observation at each step, and goes on computing in it."""

    def begin(self) -> None:
        self.seen = np.zeros(3, np.float32)

    def _seen(self, seen: float) -> Any:
        self.seen *= np.float32(0.5)
        self.seen[0] += seen
        self.seen[1:] = self.level, self.steps / 11
        return np.clip(self.seen, -10, 10, out=self.seen)

    def tick(self, action: int) -> float:
        return float(self.seen[0]) + 1 + action


@shown(PROVED)
class LastAction(Exhibit):
    """Keeps the actions that it is given, the objects themselves."""

    def begin(self) -> None:
        self.given: list[Any] = []

    def step(self, action: Any) -> Any:
        self.given.append(action)
        return super().step(action)

    def tick(self, action: int) -> float:
        return sum(int(given) for given in self.given[-4:])


@shown(PROVED)
class ManySpaces(Exhibit):
    """Spaces of every kind, each with chance of its own."""

    def begin(self) -> None:
        self.places = spaces.Tuple(
            (
                spaces.Text(6),
                spaces.Sequence(spaces.Discrete(3)),
                spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
                spaces.OneOf((spaces.Discrete(4), spaces.MultiBinary(3))),
                spaces.MultiDiscrete([3, 4]),
            ),
            seed=4,
        )

    def tick(self, action: int) -> float:
        text, numbers, graph, (which, _), both = self.places.sample()
        return len(text) + sum(map(int, numbers)) + len(graph.nodes) + int(which) + int(both[0]) + action


@shown(PROVED)
class DictObservations(Exhibit):
    """Observations by name, one of them a picture of what happened."""

    observation_space = spaces.Dict(
        {"load": spaces.Box(-10, 10, (3,), np.float32), "past": spaces.MultiBinary(4), "lane": spaces.Discrete(3)}
    )

    def begin(self) -> None:
        self.past = np.zeros(4, np.int8)

    def _seen(self, seen: float) -> Any:
        return {"load": super()._seen(seen), "past": self.past.copy(), "lane": self.steps % 3}

    def tick(self, action: int) -> float:
        self.past = np.roll(self.past, 1)
        self.past[0] = action
        return float(self.past @ [1, 2, 3, 4])


@shown(PROVED)
class Continuous(Exhibit):
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def begin(self) -> None:
        self.load = np.zeros(2)

    def step(self, action: Any) -> Any:
        self.load = 0.9 * self.load + action
        return super().step(0)

    def tick(self, action: int) -> float:
        return float(self.load.sum())


@shown(PROVED)
class CopyOnWrite(Exhibit):
    """Shares its table with an inner environment until one of them writes."""

    class Table:
        def __init__(self, rows: list[int]) -> None:
            self.rows, self.is_shared = rows, True

        def add(self, at: int, much: int) -> None:
            if self.is_shared:
                self.rows, self.is_shared = list(self.rows), False
            self.rows[at] += much

    def begin(self) -> None:
        rows = [0, 0]
        self.mine, self.other = self.Table(rows), self.Table(rows)

    def tick(self, action: int) -> float:
        if self.steps == 3:
            self.other = self.Table(self.mine.rows)
        self.mine.add(action, 1)
        self.other.add(0, 2)
        return self.mine.rows[0] + self.other.rows[0] + self.mine.rows[1]


class Skipping(gymnasium.Wrapper):
    """Steps its environment more than once, and sometimes begins it anew behind its caller's back."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.skipped = 0

    def step(self, action: Any) -> Any:
        for _ in range(1 + self.skipped % 3):
            obs, reward, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                obs, info = self.env.reset()
                break
        self.skipped += 1
        return obs, reward, False, self.skipped % 13 == 0, info


@shown(PROVED)
def Skipped() -> gymnasium.Env:  # noqa: N802  named as the classes are
    from .names import Clock

    return Skipping(Clock())


@shown(PROVED)
class SubEnvironments(Exhibit):
    """A fleet of inner environments that share a generator."""

    def begin(self) -> None:
        self.inner = [gymnasium.make("CartPole-v1") for _ in range(2)]

    def start(self) -> None:
        for env in self.inner:
            env.reset(seed=int(self.np_random.integers(1 << 20)))
        self.inner[1].unwrapped.np_random = self.inner[0].unwrapped.np_random

    def tick(self, action: int) -> float:
        seen = 0.0
        for env in self.inner:
            obs, _, terminated, *_ = env.step(action)
            if terminated:
                env.reset()
            seen += float(obs[2]) * 10
        return seen + 3
