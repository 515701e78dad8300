"""`kaglaunch quota`: GPU hours of this week."""

from __future__ import annotations

import typer

from launcher.checks import quota as account_quota
from launcher.commands.say import say
from launcher.documents import printed
from launcher.targets import target
from launcher.targets.target import TargetName
from launcher.waiting import waiting


def quota(forced: TargetName | None, *, as_json: bool) -> None:
    """Show them."""
    chosen = target.choose(forced)
    with waiting(f"Asking {chosen.place} for its quota"):
        found = account_quota.told(chosen)
    if as_json:
        typer.echo(printed.text(account_quota.document(chosen, found)))
        return
    say(str(chosen))
    until = f" until {found.refresh:%a %d %b %H:%M} UTC" if found.refresh else ""
    say(
        f"{found.left_h:.2f} h of GPU left{until}: {found.used_h:.2f} h used and {found.reserved_h:.2f} h reserved by "
        f"running sessions, of {found.allowed_h:.0f} h."
    )
