"""`kaglaunch evaluate`: controllers and trained agents on the same held-out episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import typer

from launcher import comparison, tables
from launcher.comparison import NotPlotted
from launcher.documents import printed
from launcher.documents.comparison import ComparedController, Comparison, Estimate
from launcher.waiting import waiting

DELAY = "delay_s"
SIDE_BY_SIDE = 3
"""Figures of one table, so that it fits 80 columns."""


def evaluate(
    controllers: Sequence[str], agents: Sequence[str], options: Mapping[str, object], *, as_json: bool
) -> None:
    """Print a comparison of `controllers` and `agents`, runs or checkpoint files.

    Raises
    ------
    NotCompared, CheckpointError, TrainingMissing, NotFound
        See `comparison.compared`.
    NotPlotted
        The plot could not be written; the comparison was printed.
    """
    try:
        with waiting("Starting the simulator") as step:
            found = comparison.compared(controllers, agents, options, step)
    except NotPlotted as error:
        _print(error.found, as_json)
        raise
    _print(found, as_json)


def _print(found: Comparison, as_json: bool) -> None:
    typer.echo(printed.text(found) if as_json else "\n".join(table(found)))


def table(found: Comparison) -> list[str]:
    """A comparison as a person reads it: the delay and its difference first, every other figure below."""
    rows = found.controllers
    first = ["controller", "decides every", found.figures[DELAY], f"difference to {found.baseline}"]
    delays = [[row.name, f"{row.decision_interval_s} s", *_delay(row, rows[0])] for row in rows]
    others = [figure for figure in found.figures if figure != DELAY]
    limit = tables.width() or tables.NARROW
    return [
        *tables.wrapped(
            f"{found.scenario}, demand {found.demand}: {len(found.seeds)} held-out episodes, "
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


def _means(found: Comparison, figures: Sequence[str], limit: int) -> list[str]:
    header = ["controller", *(found.figures[figure] for figure in figures)]
    body = [[row.name, *(_interval(row.means[figure]) for figure in figures)] for row in found.controllers]
    return ["", *tables.columns(header, body, limit)]


def _delay(row: ComparedController, baseline: ComparedController) -> tuple[str, str]:
    mean, by = row.means[DELAY], row.difference[DELAY]
    if row is baseline:
        return _interval(mean), ""
    share = 100 * by.mean / baseline.means[DELAY].mean
    return _interval(mean), f"{by.mean:+.2f} ± {by.half_width:.2f} s ({share:+.1f} %)"


def _interval(value: Estimate) -> str:
    """Mean and half-width, as many digits as the half-width has two of."""
    mean, half = value.mean, value.half_width
    digits = min(4, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 2
    return f"{mean:,.{digits}f} ± {half:,.{digits}f}".replace(" ", "\N{NO-BREAK SPACE}")
