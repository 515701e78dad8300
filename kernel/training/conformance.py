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
import sys
import tempfile
from pathlib import Path

from kernel import signals
from kernel.channel import Channel
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.hyperparameters import TAKEN
from kernel.training.rehearsal import rehearse

NOT_PROVED, FAILED = 3, 1


def certify(configuration: Configuration, folder: Path, kills: int, seed: int = 0) -> Check:
    """Try, and go on from `kills` instants: PASS where all of it was proved, WARN where a resume is inexact.

    Raises
    ------
    Exception
        Whatever the environment or the recipe raises.
    """
    tried = rehearse(configuration, folder, Channel.silent(), thorough=True, kills=kills, seed=seed)
    return next(check for check in tried.checks if check.name == "checkpointing")


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
        check = certify(configuration, Path(temporary), arguments.kills, arguments.seed)
    word, code = {Verdict.PASS: ("proved", 0), Verdict.WARN: ("inexact", NOT_PROVED), Verdict.FAIL: ("failed", FAILED)}[
        check.verdict
    ]
    sys.stdout.write(f"{configuration.run.env}: {word}: {check.evidence}\n")
    return code


def _small(env: str, algorithm: str, n_envs: int) -> Configuration:
    """A training whose updates come soon."""
    taken = TAKEN.get(algorithm, {})
    off_policy = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "train_freq": 4}
    on_policy = {"n_steps": 32 if "batch_size" in taken else 8, "batch_size": 16, "n_epochs": 2, "n_delta": 2}
    small = off_policy if "learning_starts" in taken else on_policy
    hyperparameters = {name: value for name, value in small.items() if name in taken}
    run = RunConfig(
        "conformance-run", 1_000, 10, env=env, algorithm=algorithm, n_envs=n_envs, hyperparameters=hyperparameters
    )
    return Configuration(run, SessionConfig(device="cpu"))


if __name__ == "__main__":
    signals.StopFlag.install()
    raise SystemExit(main())
