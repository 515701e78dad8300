"""`kaglaunch quota`: GPU hours of this week."""

from __future__ import annotations

import typer

from launcher import documents
from launcher.commands.say import say
from launcher.documents import QuotaLeft
from launcher.errors import BackendError
from launcher.targets import target
from launcher.targets.base import Quota
from launcher.targets.target import Target, TargetName


def left(chosen: Target) -> Quota:
    """GPU hours used, reserved and left this week on `chosen`.

    Raises
    ------
    BackendError
        The target does not tell.
    """
    found = chosen.connect().quota()
    if found is None:
        raise BackendError("The target does not tell its GPU quota. That is not the same as none being left.")
    return found


def document(chosen: Target, found: Quota) -> QuotaLeft:
    """What `quota --json` has."""
    return QuotaLeft(
        target=chosen.name.value,
        used_h=found.used_h,
        reserved_h=found.reserved_h,
        allowed_h=found.allowed_h,
        left_h=found.left_h,
        refresh=found.refresh.isoformat() if found.refresh else None,
    )


def quota(forced: TargetName | None, *, as_json: bool) -> None:
    """Show them."""
    chosen = target.choose(forced)
    found = left(chosen)
    if as_json:
        typer.echo(documents.text(document(chosen, found)))
        return
    say(str(chosen))
    until = f" until {found.refresh:%a %d %b %H:%M} UTC" if found.refresh else ""
    say(
        f"{found.left_h:.2f} h of GPU left{until}: {found.used_h:.2f} h used and {found.reserved_h:.2f} h reserved by "
        f"running sessions, of {found.allowed_h:.0f} h."
    )
