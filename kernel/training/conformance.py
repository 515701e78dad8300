"""Whether an environment's training can be gone on from, at several instants: proved, or inexact and why.

    python -m kernel.training.conformance MODULE:FACTORY [--kills 5] [--n-envs 2] [--algorithm PPO] [--seed 0]
    python -m kernel.training.conformance --config run.json

A trial first (`kernel.training.rehearsal`). Then a training through several updates and episodes leaves checkpoints at
instants drawn at random, as kills would come; from each of them a process of its own goes on to the next, and must
come to the same state, bit for bit. It ends with 0 where that was proved, and with 3 where it was not, having said why.
"""

# ruff: noqa: E402  pinning must come before the imports that it governs
from __future__ import annotations

from kernel import pinning

pinning.pin()

import argparse
import os
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from kernel import signals
from kernel.channel import Channel
from kernel.contract.checks import Verdict
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.events import Inexact, Proved, Unproved
from kernel.training import rehearsal
from kernel.training.repetition import Points

NOT_PROVED, FAILED = 3, 1
UPDATES = 3
"""A training of so many updates leaves the checkpoints, and of at least MIN_VECTOR_STEPS."""
MIN_VECTOR_STEPS = 100


def certify(configuration: Configuration, folder: Path, kills: int, seed: int = 0) -> Proved | Inexact | Unproved:
    """Try, then go on from `kills` instants; the first that leads elsewhere, or the whole stretch that is proved.

    Raises
    ------
    Exception
        Whatever the environment or the recipe raises.
    """
    tried = rehearsal.rehearse(configuration, folder / "trial", Channel.silent(), thorough=True)
    (checked,) = [check for check in tried.checks if check.name == "checkpointing"]
    if checked.verdict is Verdict.FAIL:
        return Unproved(reason=checked.evidence)
    if because := tried.measured.get("inexact"):
        return Inexact(num_timesteps=0, reason=because)
    way = str(tried.measured.get("environment_state", ""))
    run = configuration.run
    rollout = int(run.hyperparameters.get("n_steps", 64) if run.algorithm != "DQN" else 64)
    steps = max(UPDATES * rollout, MIN_VECTOR_STEPS)
    drawn = random.Random(seed).sample(range(2, steps + 1), kills + 1)
    points = tuple(sorted(run.n_envs * step for step in drawn))
    proved = rehearsal.stretches(rehearsal.prepared(configuration, way), folder / "kills", Points(points))
    return next((one for one in proved if not isinstance(one, Proved)), proved[-1])


def main(argv: list[str] | None = None) -> int:
    """Certify what the command line names, and say so in one line."""
    parser = argparse.ArgumentParser(prog="python -m kernel.training.conformance")
    parser.add_argument("env", nargs="?", help="MODULE:FACTORY, or an id that gymnasium knows")
    parser.add_argument("--config", type=Path, help="a run's configuration, in place of an environment's name")
    parser.add_argument("--kills", type=int, default=5, help="how many times the training is gone on from")
    parser.add_argument("--n-envs", type=int, default=2)
    parser.add_argument("--algorithm", default="PPO")
    parser.add_argument("--seed", type=int, default=0, help="draws the instants")
    arguments = parser.parse_args(argv)
    if (arguments.env is None) == (arguments.config is None):
        parser.error("name an environment, or give --config")
    if arguments.kills < 1:
        parser.error("--kills must be 1 or more")
    if arguments.config is not None:
        configuration = Configuration.from_json(arguments.config.read_text("utf-8"))
    else:
        configuration = _small(arguments.env, arguments.algorithm, arguments.n_envs)
    sys.path.insert(0, os.getcwd())
    with tempfile.TemporaryDirectory(prefix="kaglaunch-conformance-") as temporary:
        outcome = certify(configuration, Path(temporary), arguments.kills, arguments.seed)
    match outcome:
        case Proved():
            said = f"proved: {arguments.kills} kills, gone on from in fresh processes, bit for bit"
        case Inexact():
            said = f"inexact: {outcome.reason}"
        case Unproved():
            said = f"failed: {outcome.reason}"
    sys.stdout.write(f"{configuration.run.env}: {said}\n")
    return {Proved: 0, Inexact: NOT_PROVED, Unproved: FAILED}[type(outcome)]


def _small(env: str, algorithm: str, n_envs: int) -> Configuration:
    """A training whose updates come soon."""
    hyperparameters = {
        "PPO": {"n_steps": 32, "batch_size": 16, "n_epochs": 2},
        "A2C": {"n_steps": 8},
        "DQN": {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "train_freq": 4},
    }.get(algorithm, {})
    run = RunConfig(
        "conformance-run", 1_000, 10, env=env, algorithm=algorithm, n_envs=n_envs, hyperparameters=hyperparameters
    )
    return replace(Configuration(run, SessionConfig(device="cpu")))


if __name__ == "__main__":
    signals.StopFlag.install()
    raise SystemExit(main())
