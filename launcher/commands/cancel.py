"""`kaglaunch cancel`: end the newest session of a run for certain, and say what is kept."""

from __future__ import annotations

import typer

from launcher import target
from launcher.cancelling import cancel_session
from launcher.errors import NotFound
from launcher.ledger import Ledger
from launcher.progress import Progress


def cancel(run_id: str | None) -> None:
    """End the newest session of `run_id`, or of the newest run."""
    book = Ledger()
    run = book.run(run_id)
    backend = target.of_run(run).connect()
    session = book.sessions(run.run_id)[-1]
    slug = run.slug(session.number)
    try:
        state = backend.state(slug)
    except NotFound:
        typer.echo(f"Session {session.number} of run {run.run_id} is not on the target: nothing to cancel.")
        return
    if state.status.final:
        typer.echo(f"Session {session.number} of run {run.run_id} is over already ({state.status.value}).")
        return
    progress = Progress(session_id=session.session_id)
    if progress.session_id is None:
        # The first line of the log tells the number that cancels the session.
        for line in backend.log_lines(slug):
            progress.observe(line)
            if progress.session_id is not None or line.time > 30:
                break
    typer.echo(cancel_session(backend, run, session, progress.session_id))
    book.update_session(run.run_id, session.number, status="CANCEL_ACKNOWLEDGED", message="cancelled from here")
    typer.echo(
        f"Kept: what was published ({run.dataset}) and what was fetched ({run.checkpoints}). "
        f"Go on with `kaglaunch resume {run.run_id}`."
    )
