"""Speed of the signal environment and of training: `python -m benchmarks.environment`; `--peers` adds sumo-rl.

Rates are medians of repeated calls on this machine. Only the ratios to sumo-rl with libsumo, measured on the same
network file in the same run, mean something elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from arz_model.control import scenarios
from arz_model.control.scenarios import Scenario
from arz_model.control.vector import TrafficSignalVectorEnv
from arz_model.network import Network
from arz_model.sumo.convert import import_sumo
from benchmarks import peers

ROOT = Path(__file__).resolve().parents[1]
REQUIRED_STEPS_PER_S = 40_000
REQUIRED_TIMESTEPS_PER_S = 15_000
LOST_HOURS = (14.0, 16.0)
"""What the lost training, 44,000 timesteps with its evaluations, would have taken on the accelerator."""
LOST = (24_000, 10_000, 10_000)

SUMO_RL = """
import json, os, pathlib, time
os.environ["LIBSUMO_AS_TRACI"] = "1"
import sumo, sumo_rl
os.environ.setdefault("SUMO_HOME", sumo.SUMO_HOME)
folder = pathlib.Path(sumo_rl.__file__).parent / "nets" / "2way-single-intersection"
network, routes = folder / "single-intersection.net.xml", folder / "single-intersection-gen.rou.xml"
env = sumo_rl.SumoEnvironment(str(network), str(routes), use_gui=False, single_agent=True, num_seconds=3600,
                              delta_time=5, sumo_warnings=False)
rates = []
for seed in range(3):
    env.reset(seed=seed)
    start, n, done = time.perf_counter(), 0, False
    while not done:
        *_, done, _ = env.step(n // 4 % env.action_space.n)
        n += 1
    rates.append(n / (time.perf_counter() - start))
env.close()
print(json.dumps({"rates": rates, "network": str(network), "routes": str(routes)}))
"""


def two_hundred_cells() -> Scenario:
    """The crossing with approaches of 50 cells."""
    crossing = scenarios.load("crossing")
    longer = tuple(replace(segment, length=500.0, n_cells=50) for segment in crossing.network.segments)
    return replace(crossing, network=Network(longer, crossing.network.nodes))


def steps_per_second(scenario: Scenario | str, n: int, interval_s: int, n_threads: int, repeats: int = 5) -> float:
    """Environment steps a second of `n` environments side by side, random actions; the median of `repeats` rounds."""
    env = TrafficSignalVectorEnv(
        n, scenario=scenario, decision_interval_s=interval_s, device="cpu", n_threads=n_threads
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(16)]
    rounds = max(16, 12_000 // n)
    rates = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for k in range(rounds):
            env.step(actions[k % 16])
        rates.append(n * rounds / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def train(folder: Path, **run: object) -> tuple[float, list[dict[str, object]]]:
    """Wall time of `python -m kernel` for a run [s], start of the process included, and its events."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run": run, "session": {"device": "cpu"}}))
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-m", "kernel", "--config", "run.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    marks = (line.partition("@kaglaunch ")[2] for line in done.stdout.splitlines())
    events = [json.loads(mark) for mark in marks if mark]
    assert events[-1]["status"] == "finished", events[-1]
    return seconds, events


def ppo(folder: Path) -> float:
    """Timesteps a second of PPO on the crossing, 64 environments, between its calibration and its end."""
    hyperparameters = {"n_steps": 128, "batch_size": 1024, "n_epochs": 4, "learning_rate": 5e-4, "gamma": 0.99}
    _, events = train(
        folder, run_id="bench-ppo", total_timesteps=300_000, checkpoint_freq=150_000, n_envs=64, normalize=True, seed=1,
        env_kwargs={"scenario": "crossing", "demand": "peak"}, hyperparameters=hyperparameters,
    )  # fmt: skip
    progress = [event for event in events if event["event"] in ("calibration", "progress", "result")]
    first, last = progress[0], progress[-1]
    return (last["num_timesteps"] - first["num_timesteps"]) / (last["time"] - first["time"])  # type: ignore[operator]


def lost_training(folder: Path) -> list[float]:
    """Seconds of each part of the training that was lost, through the kernel: 15 s decisions, an evaluation of five
    episodes of an hour every 1,000 timesteps."""
    return [
        train(
            folder / str(i), run_id=f"bench-lost-{i}", total_timesteps=timesteps, checkpoint_freq=1000, seed=i,
            n_envs=8, eval_freq=1000, eval_episodes=5, hyperparameters={"n_steps": 125, "batch_size": 250},
            env_kwargs={"scenario": "lagos", "decision_interval_s": 15, "duration_s": 3600},
        )[0]
        for i, timesteps in enumerate(LOST)
    ]  # fmt: skip


def sumo_rl() -> tuple[float, Scenario] | None:
    """Steps a second of sumo-rl with libsumo, and its network as our scenario, if pip can install both."""
    try:
        said = json.loads(peers.run(peers.SUMO, SUMO_RL).splitlines()[-1])
    except OSError as error:
        print(f"sumo-rl {error}")
        return None
    imported = import_sumo(Path(said["network"]), [Path(said["routes"])])
    return statistics.median(said["rates"]), scenarios.parse(imported.text, "sumo")


def row(what: str, value: float, unit: str, note: str = "") -> None:
    print(f"{what:58} {value:12,.0f} {unit:12} {note}")


def held(value: float, required: float) -> str:
    return f"required {required:,.0f}: {'held' if value >= required else 'NOT HELD'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install and measure sumo-rl too")
    options = parser.parse_args()
    long_roads = two_hundred_cells()
    for n, threads in ((1, 1), (8, 1), (64, 1), (64, 2)):
        rate = steps_per_second(long_roads, n, 15, threads)
        note = held(rate, REQUIRED_STEPS_PER_S) if (n, threads) == (64, 2) else ""
        row(f"200 cells, 15 s decisions, {n} at once, {threads} thread(s)", rate, "steps/s", note)
    for name in scenarios.available():
        row(f"{name}, 5 s decisions, 64 at once, 1 thread", steps_per_second(name, 64, 5, 1), "steps/s")
    if options.peers and (peer := sumo_rl()):
        rate, scenario = peer
        row("sumo-rl + libsumo, its 2-way crossing, 5 s decisions", rate, "steps/s")
        for n in (1, 64):
            ours = steps_per_second(scenario, n, 5, 1)
            row(
                f"the same network and flows here, {n} at once, 1 thread",
                ours,
                "steps/s",
                f"{ours / rate:.0f} x sumo-rl",
            )
    with tempfile.TemporaryDirectory(prefix="kaglaunch-bench-") as folder:
        rate = ppo(Path(folder) / "ppo")
        row("PPO on the crossing through the kernel", rate, "timesteps/s", held(rate, REQUIRED_TIMESTEPS_PER_S))
        seconds = lost_training(Path(folder) / "lost")
        parts = " + ".join(f"{s:.0f}" for s in seconds)
        verdict = "under" if sum(seconds) < 60.0 else "NOT under"
        note = f"{parts} s; {verdict} 60 s; then {LOST_HOURS[0]:g}-{LOST_HOURS[1]:g} h"
        row("the lost training, evaluations and process starts included", sum(seconds), "s", note)


if __name__ == "__main__":
    main()
