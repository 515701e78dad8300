"""`kaglaunch quota`: GPU hours of this week."""

from __future__ import annotations

import json

import typer

from launcher import target
from launcher.errors import BackendError
from launcher.target import TargetName


def quota(forced: TargetName | None, *, as_json: bool) -> None:
    """GPU hours used, reserved and left this week."""
    chosen = target.choose(forced)
    found = chosen.connect().quota()
    if found is None:
        raise BackendError("The target does not tell its GPU quota. That is not the same as none being left.")
    values = {
        "used_h": found.used_h,
        "reserved_h": found.reserved_h,
        "allowed_h": found.allowed_h,
        "left_h": found.left_h,
    }
    if as_json:
        refresh = found.refresh.isoformat() if found.refresh else None
        typer.echo(json.dumps({"target": chosen.name.value, **values, "refresh": refresh}, indent=2))
        return
    typer.echo(str(chosen))
    until = f" until {found.refresh:%a %d %b %H:%M} UTC" if found.refresh else ""
    typer.echo(
        f"{found.left_h:.2f} h of GPU left{until}: {found.used_h:.2f} h used and {found.reserved_h:.2f} h reserved by "
        f"running sessions, of {found.allowed_h:.0f} h."
    )
