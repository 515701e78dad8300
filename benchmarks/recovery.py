"""The way back and the way out: after a kill, at a signal, from a large file, and what publishing costs the training.

    python -m benchmarks.recovery

Sessions run as `python -m kernel` does; publishing goes to an embedded Kaggle, over HTTP, with the unmodified client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import steady
from benchmarks.steady import verdict
from kernel.contract.config import SessionConfig
from launcher.local_kaggle.service import USERNAME, LocalKaggle

ROOT = Path(__file__).resolve().parents[1]
PUBLISH_SECONDS = 3.0
"""Shortest time between two publishes here: what they cost is seen better when they come often."""
DEFAULT_PUBLISH_SECONDS = SessionConfig().publish_interval_seconds
ROUNDS = 3

RESTORE = """
import sys, time, tempfile
from pathlib import Path
from kernel import pinning
pinning.pin()
from kernel.training.sb3 import algorithms, exact_state
from kernel.checkpoints import checkpoint
from kernel.training import codec, environments, train
from kernel.channel import Channel
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.manifest import checkpoints_in, verify
large = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [700, 700]}}
run = RunConfig(run_id="benchmark", total_timesteps=16, checkpoint_freq=16, env="benchmarks.steady:Steady",
                env_kwargs={"step_seconds": 0.0}, hyperparameters=large)
folder = Path(sys.argv[1])
(folder / "checkpoints").mkdir()
train.train(Configuration(run, SessionConfig(device="cpu")), folder, Channel(), 1e6)
path = checkpoints_in(folder / "checkpoints")[0]
model = algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")
best = 1e9
for _ in range(5):
    began = time.perf_counter()
    exact_state.restore(model, codec.decode(checkpoint.read_state(path, verify(path))))
    best = min(best, time.perf_counter() - began)
print(path.stat().st_size, best)
"""


class Session:
    """`python -m kernel` on the steady environment in a folder of its own."""

    def __init__(self, folder: Path, run: dict[str, Any], session: dict[str, Any], environ: dict[str, str]) -> None:
        self.folder = folder
        steady_run = {"run_id": "benchmark", "env": steady.NAME, "hyperparameters": steady.ALGORITHMS["PPO"], **run}
        (folder / "run.json").write_text(json.dumps({"run": steady_run, "session": {"device": "cpu", **session}}))
        path = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "kernel", "--config", "run.json"],
            cwd=folder,
            env={**environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def events(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Each event and when it came [s since the process began]."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@kaglaunch "):
                yield time.perf_counter() - self.began, json.loads(line.removeprefix("@kaglaunch "))

    def trainer(self) -> psutil.Process:
        """The process that trains."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "kernel.training" in child.cmdline())

    def first_step(self, later_than: float) -> float:
        """When the first progress or checkpoint after a `training` event came."""
        begun = False
        for at, event in self.events():
            begun |= event["event"] == "training" and at > later_than
            if begun and event["event"] in ("progress", "checkpoint"):
                return at
        raise RuntimeError(f"the session in {self.folder} ended before its first step")


@contextlib.contextmanager
def session(run: dict[str, Any], *, environ: dict[str, str] | None = None, **settings: Any) -> Iterator[Session]:
    """A session that is ended with its folder."""
    with tempfile.TemporaryDirectory() as name:
        one = Session(Path(name), run, settings, environ or dict(os.environ))
        try:
            yield one
        finally:
            one.process.kill()
            one.process.wait()


def way_back() -> tuple[float, float]:
    """Seconds from the start of the process to the first step, and from SIGKILL of the trainer to its next."""
    with session({"total_timesteps": 100_000, "checkpoint_freq": 10}) as one:
        started = one.first_step(0.0)
        time.sleep(0.5)
        one.trainer().kill()
        killed = time.perf_counter() - one.began
        return started, one.first_step(killed) - killed


def way_out() -> float:
    """Seconds from SIGTERM of the session to a checkpoint on the disk, while it collects and no update is near."""
    run = {"total_timesteps": 100_000, "checkpoint_freq": 50_000}
    run["hyperparameters"] = {**steady.ALGORITHMS["PPO"], "n_steps": 16_384}
    with session(run, checkpoint_seconds=0.0) as one:
        for _, event in one.events():
            if event["event"] == "progress":
                break
        time.sleep(0.5)
        began = time.perf_counter()
        one.process.send_signal(signal.SIGTERM)
        while not list((one.folder / "checkpoints").glob("checkpoint_t*.zip")):
            time.sleep(0.0005)
        return time.perf_counter() - began


def restoring() -> tuple[int, float]:
    """Bytes of a large checkpoint, and seconds to verify it and to put its state back."""
    with tempfile.TemporaryDirectory() as name:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "ignore", "-c", RESTORE, name]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    size, seconds = done.stdout.split()[-2:]
    return int(size), float(seconds)


def publishing(seconds: float = 20.0) -> tuple[list[float], float]:
    """What part of the training time publishes took, of each pair of runs with and without; seconds between two."""
    ratios, count = [], 0
    with tempfile.TemporaryDirectory() as name:
        kaggle = LocalKaggle(Path(name) / "kaggle")
        kaggle.ensure_running()
        environ = kaggle.client_env(Path(name))
        try:
            for pair in range(ROUNDS):
                speeds = {}
                for dataset in ("", f"{USERNAME}/benchmark-{pair}-ckpt"):
                    run = {"total_timesteps": 1_000_000, "checkpoint_freq": 100}
                    settings = {"dataset": dataset, "publish_interval_seconds": PUBLISH_SECONDS}
                    with session(run, environ=environ, **settings) as one:
                        speeds[bool(dataset)], published = speed(one, seconds)
                        count += published
                ratios.append(1.0 - speeds[True] / speeds[False])
        finally:
            kaggle.stop()
    return ratios, ROUNDS * seconds / count


def speed(one: Session, seconds: float) -> tuple[float, int]:
    """Timesteps a second over that time, from the second checkpoint on; and the publishes in it."""
    first: tuple[float, int] | None = None
    published = seen = 0
    for at, event in one.events():
        published += event["event"] == "published" and first is not None
        if event["event"] != "checkpoint":
            continue
        seen += 1
        if first is None and seen >= 2:
            first = at, event["num_timesteps"]
        elif first is not None and at - first[0] >= seconds:
            return (event["num_timesteps"] - first[1]) / (at - first[0]), published
    raise RuntimeError(f"the session in {one.folder} ended while it was measured")


def row(name: str, value: float, unit: str, bar: float | None = None) -> None:
    """One figure beside its bar."""
    print(f"{name:64} {value:9.3f} {unit:3} {verdict(value, bar)}")


def main() -> None:
    """Print the table."""
    starts, kills = zip(*(way_back() for _ in range(ROUNDS)), strict=True)
    print(f"medians of {ROUNDS}")
    row("process start to first step", statistics.median(starts), "s", 5.0)
    row("SIGKILL of the trainer to its next step", statistics.median(kills), "s")
    bar = 1e3 * steady.STEP_SECONDS + 50.0
    row("SIGTERM to checkpoint on disk", 1e3 * statistics.median(way_out() for _ in range(ROUNDS)), "ms", bar)
    size, seconds = restoring()
    row(f"verify and restore {size / 1e6:.1f} MB", 1e3 * seconds, "ms", 100.0)
    costs, spacing = publishing()
    print(
        f"publishes {spacing:.0f} s apart slow training by {' '.join(f'{cost:+.1%}' for cost in costs)}, pair by pair"
    )
    share = statistics.median(costs) * spacing / DEFAULT_PUBLISH_SECONDS
    row(f"publishing each {DEFAULT_PUBLISH_SECONDS:g} s, share of training time", 100 * share, "%", 1.0)


if __name__ == "__main__":
    main()
