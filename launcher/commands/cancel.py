"""`kaglaunch cancel`: end the newest session of a run for certain, and say what is kept."""

from __future__ import annotations

from pathlib import Path

import typer

from kernel.contract import names
from launcher.errors import BackendError, NotFound
from launcher.runs import cancellation, continuation, submission
from launcher.runs.cancellation import DELETED
from launcher.runs.ledger import Ledger, Run, Session
from launcher.targets import target
from launcher.targets.base import Status


def cancel(run_id: str | None) -> None:
    """End the newest session of `run_id`, or of the newest run."""
    book = Ledger()
    run = book.run(run_id)
    session = book.sessions(run.run_id)[-1]
    backend = target.of_session(run, session)
    slug = run.slug(session.number)
    try:
        state = backend.state(slug)
    except NotFound:
        typer.echo(f"Session {session.number} of run {run.run_id} is not on the target: nothing to cancel.")
        return
    if state.status.final:
        typer.echo(f"Session {session.number} of run {run.run_id} is over already ({state.status.value}).")
        return
    log: Path | None = None
    session_id = session.session_id
    if not session.here and state.status is not Status.QUEUED:
        log, session_id = cancellation.save_log(backend, run, session)
    done = cancellation.cancel_session(backend, run, session, session_id)
    typer.echo(str(done))
    message = "deleted from here" if done.status == DELETED else "cancelled from here"
    book.update_session(run.run_id, session.number, status=done.status, message=message)
    if session.here:
        continuation.settle_here(run, book)
    typer.echo("\n".join(["Kept:", *(f"  {line}" for line in kept(run, book, session, log))]))
    typer.echo(f"Go on with `kaglaunch resume {run.run_id}`.")


def kept(run: Run, book: Ledger, session: Session, log: Path | None) -> list[str]:
    """What a cancelled session leaves behind."""
    lines = []
    here = [path.name for path in run.checkpoints.glob("checkpoint_t*.zip")]
    if not session.here:
        try:
            versions = target.of_run(run).connect().dataset_versions(run.dataset)
            newest = next((told[0] for version in versions if (told := names.told_by_version(version.notes))), None)
            step = f", the newest at t{newest:,}" if newest else ""
            lines.append(f"published  {len(versions)} versions of {run.dataset}{step}")
        except BackendError as error:
            lines.append(f"published  {run.dataset}, which cannot be listed now ({str(error).splitlines()[0]})")
    else:
        safe = submission.session_of(book, run, session.number).published_timesteps or 0
        lines.append(f"safe here  up to t{safe:,}")
    lines.append(f"here       {len(here)} checkpoints in {run.checkpoints}")
    if log is not None:
        lines.append(f"log        {log}")
    return lines
