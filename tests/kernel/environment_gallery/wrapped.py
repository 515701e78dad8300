"""Models, wrappers, contracts, and episodes of odd lengths."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import gymnasium
import torch as th

from .chance import Chances
from .exhibit import PROVED, Exhibit, shown
from .names import Clock


@shown(PROVED)
class Network(Exhibit):
    def begin(self) -> None:
        self.net = th.nn.Sequential(th.nn.Linear(2, 3), th.nn.BatchNorm1d(3), th.nn.Dropout(0.5), th.nn.Linear(3, 1))
        self.optimizer = th.optim.Adam(self.net.parameters())

    def tick(self, action: int) -> float:
        loss = self.net(th.tensor([[self.steps, action], [1.0, 2.0]], dtype=th.float32)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach()) * 5


@shown(PROVED)
class InnerNew(Exhibit):
    """A new inner environment for each episode."""

    def start(self) -> None:
        self.inner = gymnasium.make("CartPole-v1")
        self.inner.reset(seed=int(self.np_random.integers(1 << 20)))

    def tick(self, action: int) -> float:
        obs, *_ = self.inner.step(action)
        return float(obs[2]) * 20 + 3


class Tired(gymnasium.Wrapper):
    """A wrapper with a state whose name the environment has too."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.level = 0

    def step(self, action: Any) -> Any:
        self.level += 1
        obs, reward, *rest = self.env.step(action)
        return obs, reward + self.level % 5, *rest


@shown(PROVED)
def Wrapped() -> gymnasium.Env:  # noqa: N802  named as the classes are
    return Tired(gymnasium.wrappers.TimeAwareObservation(gymnasium.wrappers.TimeLimit(Clock(), 9)))


@shown(PROVED)
def Normalized() -> gymnasium.Env:  # noqa: N802  named as the classes are
    return gymnasium.wrappers.NormalizeReward(gymnasium.wrappers.NormalizeObservation(Chances()))


@shown(PROVED)
def Transformed() -> gymnasium.Env:  # noqa: N802  named as the classes are
    seen = [0]

    def counted(reward: Any) -> float:
        seen[0] += 1
        return float(reward) + seen[0] % 4

    return gymnasium.wrappers.TransformReward(Clock(), counted)


@shown(PROVED)
class Contract(Exhibit):
    """Tells its state itself, from where nobody sees it."""

    def begin(self) -> None:
        self.box = _box()
        next(self.box)

    def tick(self, action: int) -> float:
        return self.box.send(1 + action)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.box.send(0), "steps": self.steps, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.box = _box()
        next(self.box)
        self.box.send(state["total"])
        self.steps, self.level = state["steps"], state["level"]


def _box() -> Iterator[float]:
    total = 0.0
    while True:
        total += (yield total) or 0.0  # type: ignore[misc]


@shown(PROVED)
class HalfContract(Exhibit):
    """Forgets a part in what it tells; all of it can be seen."""

    def begin(self) -> None:
        self.seen = self.unseen = 0

    def tick(self, action: int) -> float:
        self.seen += 1
        self.unseen += 1 + action
        return self.seen + 2 * self.unseen

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "steps": self.steps, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.steps, self.level = state["seen"], state["steps"], state["level"]


@shown("")
class BrokenContract(Contract):
    """Fails when it is to tell its state, and nobody else can see it after a reset."""

    def state_dict(self) -> dict[str, Any]:
        raise RuntimeError("no state today")


@shown(PROVED)
class Json(Exhibit):
    """State as text."""

    def begin(self) -> None:
        self.state = json.dumps({"load": 0})

    def tick(self, action: int) -> float:
        load = json.loads(self.state)["load"] + 1 + action
        self.state = json.dumps({"load": load})
        return load


@shown(PROVED)
class Endless(Exhibit):
    """Its episodes never end."""

    def begin(self) -> None:
        self.load = 0.0

    def step(self, action: Any) -> Any:
        self.load += 0.1 + int(action)
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info

    def tick(self, action: int) -> float:
        return self.load


@shown(PROVED)
class OneStep(Exhibit):
    """Each step is an episode."""

    def begin(self) -> None:
        self.load = 0.0

    def step(self, action: Any) -> Any:
        self.load += 0.1 + int(action)
        obs, reward, _, _, info = super().step(action)
        return obs, reward, True, False, info

    def tick(self, action: int) -> float:
        return self.load


@shown(PROVED)
class SimulatorThatIsSeeded(Exhibit):
    """Holds a lock and a stream, and all that counts is drawn from its seed."""

    def begin(self) -> None:
        self.lock, self.out = threading.RLock(), sys.stdout

    def tick(self, action: int) -> float:
        with self.lock:
            return float(self.np_random.normal()) + action
