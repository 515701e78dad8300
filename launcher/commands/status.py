"""`kaglaunch status`: where the newest session of a run stands on its target."""

from __future__ import annotations

import typer

from launcher import documents, locks
from launcher.documents import Relay, Standing
from launcher.errors import NotFound
from launcher.runs.ledger import Ledger, Run
from launcher.targets import target


def standing(run_id: str | None) -> Standing:
    """Where the newest session of a run stands, asked on the target now."""
    book = Ledger()
    run = book.run(run_id)
    session = book.sessions(run.run_id)[-1]
    slug = run.slug(session.number)
    try:
        state = target.of_session(run, session).state(slug) if session.here else target.of_run(run).state(run, slug)
        status, message = state.status.value, state.message
        if (session.status, session.message) != (status, message):
            book.update_session(run.run_id, session.number, status=status, message=message)
    except NotFound as error:
        status, message = "NOT_FOUND", str(error)
    return Standing(
        run_id=run.run_id,
        session=session.number,
        target=session.target or run.target,
        slug=slug,
        code_digest=session.code_digest,
        config_digest=session.config_digest or run.config.digest,
        status=status,
        message=message,
        relay=_relay(run, book),
    )


def status(run_id: str | None, *, as_json: bool) -> None:
    """Show it."""
    found = standing(run_id)
    if as_json:
        typer.echo(documents.text(found))
        return
    message = f" {found.message}" if found.message else ""
    typer.echo(f"Session {found.session} of run {found.run_id}: {found.status}.{message}")
    code = found.code_digest[:12] or "unknown here"
    typer.echo(f"  code {code}, configuration {found.config_digest[:12]} (sha256)")
    if found.relay is not None:
        typer.echo(f"  relay {_told(found.run_id, found.relay)}")


def _relay(run: Run, book: Ledger) -> Relay | None:
    relay = book.relay(run.run_id)
    return Relay(relay.state, relay.note, locks.holder(run.relay_lock)) if relay else None


def _told(run_id: str, relay: Relay) -> str:
    if relay.state != "on":
        return f"{relay.state}: {relay.note}"
    if relay.process is not None:
        return f"at work (process {relay.process}): {relay.note or 'begins'}"
    return f"interrupted ({relay.note or 'at its beginning'}); `kaglaunch relay {run_id}` goes on"
