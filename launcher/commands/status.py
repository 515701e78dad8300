"""`kaglaunch status`: where the newest session of a run stands on its target."""

from __future__ import annotations

from typing import Any

import typer

from launcher import documents, locks
from launcher.errors import NotFound
from launcher.runs.ledger import Ledger
from launcher.targets import target


def standing(run_id: str | None) -> dict[str, Any]:
    """Where the newest session of a run stands, asked on the target now, as `status --json` has it."""
    book = Ledger()
    run = book.run(run_id)
    session = book.sessions(run.run_id)[-1]
    values: dict[str, Any] = {
        "run_id": run.run_id,
        "session": session.number,
        "target": session.target or run.target,
        "slug": run.slug(session.number),
        "code_digest": session.code_digest,
        "config_digest": session.config_digest or run.config.digest,
    }
    try:
        slug = run.slug(session.number)
        state = target.of_session(run, session).state(slug) if session.here else target.of_run(run).state(run, slug)
        values |= {"status": state.status.value, "message": state.message}
        if (session.status, session.message) != (state.status.value, state.message):
            book.update_session(run.run_id, session.number, status=state.status.value, message=state.message)
    except NotFound as error:
        values |= {"status": "NOT_FOUND", "message": str(error)}
    relay = book.relay(run.run_id)
    values["relay"] = relay and {"state": relay.state, "note": relay.note, "process": locks.holder(run.relay_lock)}
    return values


def status(run_id: str | None, *, as_json: bool) -> None:
    """Show it."""
    values = standing(run_id)
    if as_json:
        typer.echo(documents.text(values))
    else:
        message = f" {values['message']}" if values["message"] else ""
        typer.echo(f"Session {values['session']} of run {values['run_id']}: {values['status']}.{message}")
        code = values["code_digest"][:12] or "unknown here"
        typer.echo(f"  code {code}, configuration {values['config_digest'][:12]} (sha256)")
        if values["relay"] is not None:
            typer.echo(f"  relay {_relay(values['run_id'], **values['relay'])}")


def _relay(run_id: str, state: str, note: str, process: int | None) -> str:
    if state != "on":
        return f"{state}: {note}"
    if process is not None:
        return f"at work (process {process}): {note or 'begins'}"
    return f"interrupted ({note or 'at its beginning'}); `kaglaunch relay {run_id}` goes on"
