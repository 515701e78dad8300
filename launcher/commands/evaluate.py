"""`kaglaunch evaluate`: controllers and trained agents on the same held-out episodes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from kernel.contract.manifest import checkpoints_in
from launcher import catalogue, tables, training_extra
from launcher.errors import CheckpointError, NotCompared, NotFound
from launcher.runs.ledger import Ledger

DEFAULT_SCENARIO = "crossing"
DELAY = "delay_s"
SIDE_BY_SIDE = 3
"""Figures of one table, so that it fits 80 columns."""
WRONG_USAGE = 2
"""Exit status of the process that compares, where what was asked for is not there."""


def evaluate(
    controllers: Sequence[str], agents: Sequence[str], options: Mapping[str, object], *, as_json: bool
) -> None:
    """Print a comparison of `controllers` and `agents`, runs or checkpoint files.

    Raises
    ------
    NotCompared, CheckpointError, TrainingMissing, NotFound
        See `compared`.
    """
    found = compared(controllers, agents, options)
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(table(found)))


def compared(controllers: Sequence[str], agents: Sequence[str], options: Mapping[str, object]) -> dict[str, Any]:
    """The comparison as `evaluate --json` prints it; `options` are those of the process that compares.

    Raises
    ------
    NotCompared
        Something asked for is not there, or does not go together.
    CheckpointError
        A checkpoint cannot be used.
    TrainingMissing
        This machine cannot simulate.
    NotFound
        A run has no checkpoint on this machine.
    """
    scenario, demand = (None if options.get(key) is None else str(options[key]) for key in ("scenario", "demand"))
    catalogue.require_compared(controllers, scenario if agents else scenario or DEFAULT_SCENARIO, demand)
    checkpoints = [_checkpoint(agent) for agent in agents]
    training_extra.require("`evaluate` simulates on this machine", packages=training_extra.COMPARING)
    words = [*controllers, *(word for path in checkpoints for word in ("--checkpoint", str(path)))]
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "kernel.training.compare", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == WRONG_USAGE:
        raise NotCompared(done.stderr.strip())
    if done.returncode:
        raise CheckpointError(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(found: Mapping[str, Any]) -> list[str]:
    """A comparison as a person reads it: the delay and its difference first, every other figure below."""
    rows, baseline = found["controllers"], found["baseline"]
    figures = found["figures"]
    first = ["controller", "decides every", figures[DELAY], f"difference to {baseline}"]
    delays = [[row["name"], f"{row['decision_interval_s']} s", *_delay(row, rows[0])] for row in rows]
    others = [figure for figure in figures if figure != DELAY]
    limit = tables.width() or tables.NARROW
    return [
        *tables.wrapped(
            f"{found['scenario']}, demand {found['demand']}: {len(found['seeds'])} held-out episodes, "
            "mean ± half-width of the 95 % confidence interval",
            limit,
        ),
        "",
        *tables.columns(first, delays, limit),
        *(
            line
            for at in range(0, len(others), SIDE_BY_SIDE)
            for line in _means(found, others[at : at + SIDE_BY_SIDE], limit)
        ),
    ]


def _means(found: Mapping[str, Any], figures: Sequence[str], limit: int) -> list[str]:
    header = ["controller", *(found["figures"][figure] for figure in figures)]
    body = [[row["name"], *(_interval(row["means"][figure]) for figure in figures)] for row in found["controllers"]]
    return ["", *tables.columns(header, body, limit)]


def _delay(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[str, str]:
    mean, by = row["means"][DELAY], row["difference"][DELAY]
    if row is baseline:
        return _interval(mean), ""
    share = 100 * by["mean"] / baseline["means"][DELAY]["mean"]
    return _interval(mean), f"{by['mean']:+.2f} ± {by['half_width']:.2f} s ({share:+.1f} %)"


def _interval(value: Mapping[str, float]) -> str:
    """Mean and half-width, as many digits as the half-width has two of."""
    mean, half = value["mean"], value["half_width"]
    digits = min(4, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 2
    return f"{mean:,.{digits}f} ± {half:,.{digits}f}".replace(" ", "\N{NO-BREAK SPACE}")


def _checkpoint(agent: str) -> Path:
    if agent.endswith(".zip"):
        path = Path(agent)
        if not path.is_file():
            raise NotCompared(f"There is no checkpoint {agent}.")
        return path
    run = Ledger().run(agent)
    newest = next(iter(checkpoints_in(run.checkpoints)), None)
    if newest is None:
        raise NotFound(
            f"Run {run.run_id} has no checkpoint on this machine. "
            f"Bring it with `kaglaunch fetch-checkpoints {run.run_id}`."
        )
    return newest
