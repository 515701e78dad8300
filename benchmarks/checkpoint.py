"""What checkpoints cost: the trainer's stall, the writing, the share of training time.

    python -m benchmarks.checkpoint [--steps 1024] [--step-ms 5.0]

The other column is stable-baselines3's own CheckpointCallback, which is neither exact nor whole after a kill. Share of
training time: the stalls that were measured, and the difference between paired runs with and without, which holds what
no stopwatch sees and the noise of the machine.
"""

# ruff: noqa: E402  the environment is pinned before torch is imported
from __future__ import annotations

from kernel import pinning

pinning.pin()

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CheckpointCallback

from benchmarks import steady
from benchmarks.steady import ALGORITHMS, Steady, verdict
from kernel import signals
from kernel.channel import Channel
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.events import Checkpoint, Event
from kernel.training import consistent_point, train

STALLS_MS = {"PPO": 1.5, "DQN": 3.0}
"""Bars of the 95th percentile of a stall; DQN's with a replay buffer of 100,000 rows."""
PAIRS = 3


class Quiet(Channel):
    """Keeps the times that checkpoints took to write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[float] = []
        self.bytes = 0

    def event(self, event: Event) -> None:
        if isinstance(event, Checkpoint):
            self.written.append(event.seconds)
            self.bytes = event.bytes


def ours(algorithm: str, every: int, steps: int, step_seconds: float) -> tuple[float, list[float], Quiet]:
    """Seconds of training, stalls of the trainer, and what the writer told."""
    stalls: list[float] = []
    original = consistent_point.ConsistentPoint._checkpoint

    def timed(self: Any, t: int, finished: bool = False) -> None:
        began = time.perf_counter()
        original(self, t, finished)
        stalls.append(time.perf_counter() - began)

    run = RunConfig(
        run_id="benchmark",
        total_timesteps=steps,
        checkpoint_freq=every,
        algorithm=algorithm,
        env=steady.NAME,
        env_kwargs={"step_seconds": step_seconds},
        hyperparameters=ALGORITHMS[algorithm],
    )
    session = SessionConfig(device="cpu", checkpoint_seconds=0.0)
    told = Quiet()
    consistent_point.ConsistentPoint._checkpoint = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "checkpoints").mkdir()
            began = time.perf_counter()
            train.train(Configuration(run, session), Path(name), told, 1e6)
            return time.perf_counter() - began, stalls, told
    finally:
        consistent_point.ConsistentPoint._checkpoint = original  # type: ignore[method-assign]


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


def p95(values: list[float]) -> float:
    """95th percentile."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def milliseconds(values: list[float]) -> str:
    """Median and 95th percentile."""
    return f"{1e3 * statistics.median(values):6.2f} {1e3 * p95(values):6.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--step-ms", type=float, default=1e3 * steady.STEP_SECONDS)
    parser.add_argument("--every", type=int, default=100)
    arguments = parser.parse_args()
    steps, every, step = arguments.steps, arguments.every, arguments.step_ms / 1e3
    signals.prepare_trainer()
    print(f"{steps} steps of {arguments.step_ms:g} ms, a checkpoint every {every}; ms: median, p95")
    print(f"{'':4} {'stall':>13} {'writing':>13} {'overhead':>9} {'SB3 stall':>14} {'overhead':>9} {'bytes':>9}")
    for algorithm in ALGORITHMS:
        ours(algorithm, steps, steps // 4, step)  # everything is warm after this
        stalls: list[float] = []
        pairs = []
        for _ in range(PAIRS):
            with_them, stalled, told = ours(algorithm, every, steps, step)
            without, _, _ = ours(algorithm, steps, steps, step)
            stalls += stalled
            pairs.append(with_them / without - 1)
        _, others = theirs(algorithm, every, steps, step)
        share = sum(stalls) / (PAIRS * steps * step)
        print(
            f"{algorithm:4} {milliseconds(stalls)} {milliseconds(told.written)} {share:9.3%}"
            f" {milliseconds(others):>14} {sum(others) / (steps * step):9.3%} {told.bytes:9,}"
        )
        print(
            f"     stall, p95 [ms]: {verdict(1e3 * p95(stalls), STALLS_MS[algorithm])}; share: {verdict(share, 0.01)}"
        )
        print(f"     paired runs, with over without: {' '.join(f'{pair:+.1%}' for pair in pairs)}")


if __name__ == "__main__":
    main()
