"""`kaglaunch runs`, `status`, `logs`, `quota`: what is known, here and on the target."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import typer

from launcher import reporting, target
from launcher.errors import BackendError, NotFound
from launcher.ledger import Ledger
from launcher.screen import duration
from launcher.target import TargetName


def runs(*, as_json: bool) -> None:
    """Every run that was pushed from this machine, newest first."""
    book = Ledger()
    rows = []
    for run in book.runs():
        report = reporting.report(run, book)
        safe = max((row.published for row in report), default=0)
        rows.append(
            {
                "run_id": run.run_id,
                "target": run.target,
                "age_s": round(time.time() - run.created),
                "sessions": len(report),
                "safe_timesteps": safe,
                "total_timesteps": run.config.total_timesteps,
                "state": report[-1].ended if report else "no session",
                "folder": str(run.folder),
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo("No run was pushed from this machine yet. Start one with `kaglaunch push --quick`.")
    else:
        header = ["run", "target", "age", "sessions", "safe", "of", "last session"]
        body = [
            [
                str(row["run_id"]),
                str(row["target"]),
                duration(float(str(row["age_s"]))),
                str(row["sessions"]),
                f"{row['safe_timesteps']:,}",
                f"{row['total_timesteps']:,}",
                str(row["state"]),
            ]
            for row in rows
        ]
        typer.echo("\n".join(reporting.columns(header, body)))


def status(run_id: str | None, *, as_json: bool) -> None:
    """Where the newest session of a run stands, asked on the target now."""
    book = Ledger()
    run = book.run(run_id)
    session = book.sessions(run.run_id)[-1]
    backend = target.of_run(run).connect()
    values: dict[str, Any] = {
        "run_id": run.run_id,
        "session": session.number,
        "slug": run.slug(session.number),
        "code_digest": session.code_digest,
        "config_digest": session.config_digest or run.config.digest,
    }
    try:
        state = backend.state(run.slug(session.number))
        values |= {"status": state.status.value, "message": state.message}
        book.update_session(run.run_id, session.number, status=state.status.value, message=state.message)
    except NotFound as error:
        values |= {"status": "NOT_FOUND", "message": str(error)}
    if as_json:
        typer.echo(json.dumps(values, indent=2))
    else:
        message = f" {values['message']}" if values["message"] else ""
        typer.echo(f"Session {session.number} of run {run.run_id}: {values['status']}.{message}")
        code = values["code_digest"][:12] or "unknown here"
        typer.echo(f"  code {code}, configuration {values['config_digest'][:12]} (sha256)")


def logs(run_id: str | None, *, session: int | None) -> None:
    """The log of a session: what was kept here, else what the target still has."""
    book = Ledger()
    run = book.run(run_id)
    number = session if session is not None else book.sessions(run.run_id)[-1].number
    path = run.log(number)
    if path.exists():
        sys.stdout.write(path.read_text(encoding="utf-8"))
        return
    for line in target.of_run(run).connect().log_lines(run.slug(number)):
        typer.echo(f"{line.time:.3f} {line.stream} {line.text}")


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
