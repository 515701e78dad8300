"""`kaglaunch preflight`: the checklist of a push, and nothing is pushed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from launcher import config
from launcher.checks import preflight
from launcher.checks.preflight import Report
from launcher.commands.say import say
from launcher.documents import printed
from launcher.errors import BundleError, SecretFound
from launcher.runs.proposal import propose
from launcher.targets import target
from launcher.waiting import waiting

KILLS = 5
"""Of a thorough trial."""


def run(
    *,
    quick: bool,
    forced: target.TargetName | None,
    flags: Mapping[str, Any],
    waive: Sequence[str],
    again: bool,
    thorough: bool,
    as_json: bool,
) -> None:
    """Show every check of what a push with the same flags would send.

    Raises
    ------
    PreflightFailed
        A check failed that was not waived.
    """
    effective = config.resolve(flags, quick=quick)
    chosen = target.choose(forced)

    say(str(chosen), err=as_json)
    try:
        with waiting(f"Packing, and asking {chosen.place} who we are") as step:
            report = propose(effective, chosen, quick=quick, waive=waive).examine(
                step, again=again, kills=KILLS if thorough else 0
            )
    except (SecretFound, BundleError) as error:
        report = Report((preflight.not_packed(error),))
    if as_json:
        typer.echo(printed.text(report.document()))
    else:
        say("\n".join(report.lines(everything=True)))
    report.refuse()
