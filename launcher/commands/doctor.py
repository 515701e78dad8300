"""`kaglaunch doctor`: whether this machine can launch, and what to do where it cannot."""

from __future__ import annotations

import typer

from launcher import documents
from launcher.checks import machine
from launcher.checks.machine import Check, Verdict
from launcher.commands.say import say
from launcher.errors import LauncherError
from launcher.targets.target import TargetName


class Unhealthy(LauncherError):
    """Raised when a check of this machine failed."""


def doctor(forced: TargetName | None, *, as_json: bool) -> None:
    """Look at everything and say so, each line with its fix.

    Raises
    ------
    Unhealthy
        A check failed.
    """
    checks = []
    for check in machine.examine(forced):
        checks.append(check)
        if not as_json:
            say(line(check))
    if as_json:
        typer.echo(documents.text(machine.document(checks)))
    if failed := [check.name for check in checks if check.verdict is Verdict.FAIL]:
        raise Unhealthy(f"Not ready to launch: {', '.join(failed)}. Do what stands beside FAIL, then try again.")


def line(check: Check) -> str:
    """One check as a person reads it."""
    return "\n      ".join([f"{check.verdict.value}  {check.name}: {check.found}", *check.fix.splitlines()])
