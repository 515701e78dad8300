"""Small environments, one for each way to an environment's state."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Generator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

TICKS = [0]
"""State that no environment owns: what a careless module keeps."""


class Queue(gymnasium.Env):
    """A queue at a signal: random arrivals, two actions, and a state in plain arrays."""

    observation_space = spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 23) -> None:
        self.length = length
        self.queue = np.zeros(2)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.queue = self.np_random.uniform(0.0, 2.0, 2)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.queue += self.np_random.exponential(0.4, 2)
        self.queue[int(action)] = max(0.0, self.queue[int(action)] - 1.0)
        reward = -float(self.queue.sum())
        return self._obs(), reward, False, self.t >= self.length, {"queue": float(self.queue.sum())}

    def _obs(self) -> Any:
        return np.array([*np.minimum(self.queue, 10.0), self.t / self.length], np.float32)


class ContractQueue(Queue):
    """Says itself what its state is."""

    def state_dict(self) -> dict[str, Any]:
        return {"queue": self.queue.copy(), "t": self.t, "generator": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.queue[...] = state["queue"]
        self.t = state["t"]
        self.np_random.bit_generator.state = state["generator"]


def _box() -> Generator[float, float, None]:
    """Sums what it is sent."""
    load = 0.0
    while True:
        load += yield load


class OpaqueQueue(Queue):
    """Keeps a part of its state in a function that is half run: it can only be reset and stepped again."""

    def reset(self, **kwargs: Any) -> Any:
        self.box = _box()
        next(self.box)
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        load = self.box.send(0.1 * float(action))
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward - load, terminated, truncated, info


class RacyQueue(OpaqueQueue):
    """Its observations depend on the time of day."""

    def _obs(self) -> Any:
        return super()._obs() + np.float32(1e-6 * (time.time_ns() % 10_000))


class SlowQueue(Queue):
    """Takes its time."""

    def step(self, action: Any) -> Any:
        import time

        time.sleep(0.02)
        return super().step(action)


class SelfishQueue(Queue):
    """Wants SIGTERM for itself."""

    def step(self, action: Any) -> Any:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return super().step(action)


class StillQueue(Queue):
    """Shows the same whatever happens."""

    def _obs(self) -> Any:
        return np.zeros(3, np.float32)


class WideQueue(Queue):
    """Shows more than its space allows."""

    def _obs(self) -> Any:
        return super()._obs() + 100.0


def greedy(lengths: list[int], options: dict[str, Any]) -> gymnasium.Env:
    """A factory that uses up what it is given, as careless ones do."""
    options["seen"] = True
    return Queue(lengths.pop() + options.pop("more", {"steps": 0}).pop("steps"))


def wrapped(inner: str, wrapper: str) -> gymnasium.Env:
    """One of the queues in one of gymnasium's wrappers."""
    return getattr(gymnasium.wrappers, wrapper)(globals()[inner]())


def not_an_environment() -> dict[str, int]:
    """What a factory must not return."""
    return {}


def _wait_for_a_checkpoint() -> None:
    """The writer's thread has put the first one on the disk."""
    import time
    from pathlib import Path

    while not any(Path("checkpoints").glob("checkpoint_t*.zip")):
        time.sleep(0.005)


class HangingQueue(Queue):
    """Stops for ever at one step."""

    def step(self, action: Any) -> Any:
        if self.t == 15 and not self._marker().exists():
            import time

            self._marker().write_text("hung")
            time.sleep(3600)
        return super().step(action)

    @staticmethod
    def _marker() -> Any:
        from pathlib import Path

        return Path("hung.txt")


class ChattyQueue(Queue):
    """Prints as the incident did."""

    def step(self, action: Any) -> Any:
        for i in range(300):
            print(f"[DEBUG_BC_GPU] step {self.t} cell {i} rho=0.1234 w=12.34")  # noqa: T201
        return super().step(action)


class ForgingQueue(Queue):
    """Prints what looks like events, at the beginning of a line and within one."""

    def step(self, action: Any) -> Any:
        print('@kaglaunch {"event": "result", "status": "finished", "num_timesteps": 999999}')  # noqa: T201
        print('step @kaglaunch {"event": "published", "num_timesteps": 999999}', file=sys.stderr)  # noqa: T201
        return super().step(action)


class ConstantQueue(Queue):
    """Pays the same whatever is done, as the incident's did."""

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 0.01, terminated, truncated, {**info, "queue": 0.0}


class DyingQueue(Queue):
    """Kills its process at one step, the first time."""

    def step(self, action: Any) -> Any:
        import os
        import signal
        from pathlib import Path

        if self.t == 15 and not Path("died.txt").exists():
            _wait_for_a_checkpoint()
            Path("died.txt").write_text("once")
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().step(action)


class HungryQueue(Queue):
    """Takes memory from one step on until it is killed, the first time."""

    def step(self, action: Any) -> Any:
        import time
        from pathlib import Path

        if self.t == 15 and not Path("died.txt").exists():
            _wait_for_a_checkpoint()
            Path("died.txt").write_text("once")
            held = []
            while True:
                held.append(np.ones(2_500_000))
                time.sleep(0.02)
        return super().step(action)


class BrokenQueue(Queue):
    """Fails at one step, every time."""

    def step(self, action: Any) -> Any:
        if self.t == 5:
            raise RuntimeError("the light is broken")
        return super().step(action)


gymnasium.register("ToyQueue-v0", entry_point="toy_environments:Queue")


class PipeQueue(Queue):
    """Writes each step to a pipe that its reset opened: a process that only has its state cannot go on."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = self.reads = -1

    def reset(self, **kwargs: Any) -> Any:
        self.reads, self.writes = os.pipe()
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        os.write(self.writes, b".")
        found = super().step(action)
        if found[3]:
            os.close(self.reads)
            os.close(self.writes)
        return found


class WallClockQueue(SlowQueue):
    """Its arrivals hang on the time of the day."""

    def step(self, action: Any) -> Any:
        self.queue[0] = min(9.0, self.queue[0] + time.time() % 1e-3)
        return super().step(action)


class Wide(Queue):
    """Observations of many random numbers, which nothing makes smaller."""

    def __init__(self, numbers: int = 500) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (numbers,), np.float32)

    def _obs(self) -> Any:
        return self.np_random.random(self.observation_space.shape, np.float32)


class SuddenQueue(Queue):
    """Ends its process at its fifth step."""

    def step(self, action: Any) -> Any:
        if self.t == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().step(action)


class Masked(Queue):
    """Says which of its actions are allowed."""

    action_space = spaces.Discrete(3)

    def step(self, action: Any) -> Any:
        if not self.action_masks()[int(action)]:
            raise ValueError(f"action {action} was masked")
        return super().step(int(action) % 2)

    def action_masks(self) -> Any:
        return np.array([True, self.queue[1] > 0.5, self.t % 3 == 0])


class Reach(gymnasium.Env):
    """A point on a line that is to get to a goal, in as many steps as the seed says."""

    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-9.0, 9.0, (2,), np.float32),
            "achieved_goal": spaces.Box(-9.0, 9.0, (1,), np.float32),
            "desired_goal": spaces.Box(-9.0, 9.0, (1,), np.float32),
        }
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.speed, self.t = np.zeros(1, np.float32), np.zeros(1, np.float32), 0
        self.goal = self.np_random.uniform(-2.0, 2.0, 1).astype(np.float32)
        self.length = int(self.np_random.integers(5, 17))
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.speed = np.clip(0.8 * self.speed + 0.3 * action, -1.0, 1.0).astype(np.float32)
        self.place = np.clip(self.place + self.speed, -9.0, 9.0).astype(np.float32)
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._obs(), reward, False, self.t >= self.length, {}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, _info: Any) -> Any:
        return -(np.abs(achieved_goal - desired_goal).sum(-1) > 0.3).astype(np.float32)

    def _obs(self) -> Any:
        seen = np.concatenate([self.place, self.speed])
        return {"observation": seen, "achieved_goal": self.place.copy(), "desired_goal": self.goal.copy()}


class HeldNoise(Queue):
    """A generator expression, made once and never seen, is in its rewards: it outlives every reset."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = (random.Random(i).random() for i in itertools.count())

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward + next(self.noise), terminated, truncated, info


class NoMoreRoom(Queue):
    """From the checkpoint of timestep 64 on the folder of checkpoints takes nothing more."""

    def step(self, action: Any) -> Any:
        if os.path.exists("checkpoints/checkpoint_t64.zip"):
            os.rename("checkpoints", "kept")
            open("checkpoints", "w").close()
        return super().step(action)


class Succeeding(Queue):
    """Says of each episode whether it succeeded, in an array."""

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated, {**info, **({"is_success": np.array([True])} if truncated else {})}
