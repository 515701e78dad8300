"""`kaglaunch doctor`: whether this machine can launch, and what to do where it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from kernel.contract.checks import Check, Verdict
from launcher.checks import machine
from launcher.commands.say import say
from launcher.documents import printed
from launcher.errors import LauncherError
from launcher.targets.target import TargetName
from launcher.waiting import waiting


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
    for check in _examined(forced):
        checks.append(check)
        if not as_json:
            say(line(check))
    if as_json:
        typer.echo(printed.text(machine.document(checks)))
    if failed := [check.name for check in checks if check.verdict is Verdict.FAIL]:
        raise Unhealthy(f"Not ready to launch: {', '.join(failed)}. Do what stands beside FAIL, then try again.")


def _examined(forced: TargetName | None) -> Iterator[Check]:
    """The checks; what is waited for is shown between them, so that no two things write at a time."""
    examined = machine.examine(forced, lambda text: step(text))
    while True:
        with waiting("Looking at this machine") as step:
            check = next(examined, None)
        if check is None:
            return
        yield check


def line(check: Check) -> str:
    """One check as a person reads it."""
    return "\n      ".join([f"{check.verdict}  {check.name}: {check.evidence}", *check.fix.splitlines()])
