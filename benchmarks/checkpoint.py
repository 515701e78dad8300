"""What checkpoints cost: the trainer's stall, the writing, the share of training time, and the way back after a kill.

    python benchmarks/checkpoint.py [--steps 400] [--step-ms 5.0]

The other column is stable-baselines3's own CheckpointCallback, which is neither exact nor whole after a kill.
"""

# ruff: noqa: E402  the environment is pinned before torch is imported
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernel import pinning

pinning.pin()

import gymnasium
import numpy as np
import psutil
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CheckpointCallback

from kernel import point, signals, train
from kernel.channel import Channel
from kernel.config import Configuration, RunConfig, SessionConfig

STEP_SECONDS = 0.005


_MATRIX = np.random.default_rng(0).standard_normal((96, 96))


def _work(seconds: float) -> None:
    """Compute for that long, mostly without the interpreter's lock, as a solver does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        np.dot(_MATRIX, _MATRIX)


class Steady(gymnasium.Env):
    """26 observations, 4 actions, and a step that takes as long as it is told."""

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
        _work(self.step_seconds)
        self.t += 1
        return self._obs(), float(self.np_random.random()), False, self.t >= 360, {}

    def _obs(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 26).astype(np.float32)


class Quiet(Channel):
    """Keeps the times that checkpoints took to write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[float] = []
        self.bytes = 0

    def event(self, name: str, **fields: Any) -> None:
        if name == "checkpoint":
            self.written.append(fields["seconds"])
            self.bytes = fields["bytes"]


ALGORITHMS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 128, "batch_size": 64, "n_epochs": 4},
    "DQN": {"buffer_size": 100_000, "learning_starts": 100, "batch_size": 32},
}


def ours(algorithm: str, every: int, steps: int, step_seconds: float) -> tuple[float, list[float], Quiet]:
    """Seconds of training, stalls of the trainer, and what the writer told."""
    stalls: list[float] = []
    original = point.ConsistentPoint._checkpoint

    def timed(self: Any, t: int, finished: bool = False) -> None:
        began = time.perf_counter()
        original(self, t, finished)
        stalls.append(time.perf_counter() - began)

    run = RunConfig(
        run_id="benchmark",
        total_timesteps=steps,
        checkpoint_freq=every,
        algorithm=algorithm,
        env=f"{Path(__file__).stem}:Steady",
        env_kwargs={"step_seconds": step_seconds},
        hyperparameters=ALGORITHMS[algorithm],
    )
    session = SessionConfig(device="cpu", checkpoint_seconds=0.0)
    told = Quiet()
    point.ConsistentPoint._checkpoint = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "checkpoints").mkdir()
            began = time.perf_counter()
            train.train(Configuration(run, session), Path(name), told, 1e6)
            return time.perf_counter() - began, stalls, told
    finally:
        point.ConsistentPoint._checkpoint = original  # type: ignore[method-assign]


def theirs(algorithm: str, every: int, steps: int, step_seconds: float) -> tuple[float, list[float]]:
    """The same with CheckpointCallback, the replay buffer saved too."""
    kind = {"PPO": PPO, "DQN": DQN}[algorithm]
    model = kind("MlpPolicy", Steady(step_seconds), seed=0, device="cpu", **ALGORITHMS[algorithm])
    stalls: list[float] = []

    class Timed(CheckpointCallback):
        def _on_step(self) -> bool:
            began = time.perf_counter()
            result = super()._on_step()
            if self.n_calls % self.save_freq == 0:
                stalls.append(time.perf_counter() - began)
            return result

    with tempfile.TemporaryDirectory() as name:
        callback = Timed(every, name, save_replay_buffer=algorithm == "DQN", save_vecnormalize=True)
        began = time.perf_counter()
        model.learn(steps, callback)
        return time.perf_counter() - began, stalls


def recovery() -> dict[str, float]:
    """Seconds from SIGKILL of a trainer to the next training, and to its next step."""
    parts = {
        "run": {
            "run_id": "benchmark",
            "total_timesteps": 100_000,
            "checkpoint_freq": 50,
            "env": f"{Path(__file__).stem}:Steady",
            "hyperparameters": ALGORITHMS["PPO"],
        },
        "session": {"device": "cpu"},
    }
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "run.json").write_text(json.dumps(parts))
        command = [sys.executable, "-u", "-m", "kernel", "--config", "run.json"]
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, path])}
        session = subprocess.Popen(command, cwd=name, env=environment, stdout=subprocess.PIPE, text=True)
        assert session.stdout is not None
        killed_at, found = 0.0, {}
        for line in session.stdout:
            if '"checkpoint",' in line and not killed_at:
                trainer = next(p for p in psutil.Process(session.pid).children() if "kernel.train" in p.cmdline())
                killed_at = time.perf_counter()
                trainer.kill()
            elif killed_at and '"training"' in line:
                found["to training"] = time.perf_counter() - killed_at
            elif killed_at and '"checkpoint",' in line and found:
                found["to its next checkpoint"] = time.perf_counter() - killed_at
                break
        session.kill()
        session.wait()
    return found


def milliseconds(values: list[float]) -> str:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return f"{1e3 * statistics.median(ordered):6.2f} {1e3 * ordered[int(0.95 * (len(ordered) - 1))]:6.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--every", type=int, default=50)
    arguments = parser.parse_args()
    step = arguments.step_ms / 1e3
    signals.prepare_trainer()
    print(f"{arguments.steps} steps of {arguments.step_ms} ms, a checkpoint every {arguments.every}; ms: median, p95")
    print(f"{'':4} {'stall':>13} {'writing':>13} {'overhead':>9} {'SB3 stall':>14} {'overhead':>9} {'bytes':>9}")
    for algorithm in ALGORITHMS:
        ours(algorithm, arguments.steps, arguments.steps // 4, step)  # everything is warm after this
        _, stalls, told = ours(algorithm, arguments.every, arguments.steps, step)
        _, others = theirs(algorithm, arguments.every, arguments.steps, step)
        training = arguments.steps * step
        print(
            f"{algorithm:4} {milliseconds(stalls)} {milliseconds(told.written)} {sum(stalls) / training:9.3%}"
            f" {milliseconds(others):>14} {sum(others) / training:9.3%} {told.bytes:9,}"
        )
    for what, seconds in recovery().items():
        print(f"from SIGKILL {what}: {seconds:.2f} s")


if __name__ == "__main__":
    sys.modules[Path(__file__).stem] = sys.modules["__main__"]
    main()
