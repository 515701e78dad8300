"""`kaglaunch evaluate`: controllers and trained agents on the same held-out episodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from kernel.contract.manifest import checkpoints_in
from launcher import training_extra
from launcher.errors import NotCompared, NotFound
from launcher.runs.ledger import Ledger


def evaluate(controllers: Sequence[str], agents: Sequence[str], options: Sequence[str]) -> None:
    """Print a comparison of `controllers` and `agents`, runs or checkpoint files.

    Raises
    ------
    TrainingMissing, NotFound
        See `command`.
    """
    done = subprocess.run(command(controllers, agents, options), check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def plain(controllers: Sequence[str], agents: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """The comparison as `evaluate --json` prints it.

    Raises
    ------
    NotCompared
        Something asked for is not there; the message is the comparison's own.
    """
    asked = command(controllers, agents, [*options, "--json"])
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotCompared(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command(controllers: Sequence[str], agents: Sequence[str], options: Sequence[str]) -> list[str]:
    """The process that compares; `options` go to it as they are.

    Raises
    ------
    TrainingMissing
        This machine cannot simulate.
    NotFound
        An agent that is neither a file nor a run with a checkpoint on this machine.
    """
    training_extra.require("`evaluate` simulates on this machine", packages=training_extra.COMPARING)
    chosen = [argument for agent in agents for argument in ("--checkpoint", str(_checkpoint(agent)))]
    return [sys.executable, "-m", "kernel.training.compare", *controllers, *chosen, *options]


def _checkpoint(agent: str) -> Path:
    if agent.endswith(".zip"):
        path = Path(agent)
        if not path.is_file():
            raise NotFound(f"There is no checkpoint {agent}.")
        return path
    run = Ledger().run(agent)
    newest = next(iter(checkpoints_in(run.checkpoints)), None)
    if newest is None:
        raise NotFound(
            f"Run {run.run_id} has no checkpoint on this machine. "
            f"Bring it with `kaglaunch fetch-checkpoints {run.run_id}`."
        )
    return newest
