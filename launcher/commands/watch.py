"""`kaglaunch watch`: follow the newest session of a run to its end."""

from __future__ import annotations

import typer

from launcher import config, pushing, reporting, screen, target
from launcher.backends.base import Backend
from launcher.config import WatchSettings
from launcher.errors import Interrupted, NotFound, UnknownRun
from launcher.ledger import Ledger, Run
from launcher.target import Target
from launcher.watching import Watch, outcome


def watch(run_id: str | None, *, json_lines: bool) -> None:
    """Follow the newest session of `run_id`, or of the newest run."""
    settings = config.load({})
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    watch_session(run, chosen, chosen.connect(), book, settings.watch, json_lines=json_lines)


def watch_session(
    run: Run, chosen: Target, backend: Backend, book: Ledger, limits: WatchSettings, *, json_lines: bool
) -> None:
    """Follow the newest session of `run` and say how it ended.

    Raises
    ------
    KernelFailed, SessionCut, AlertStop
        The session did not end well.
    """
    session = book.sessions(run.run_id)[-1]
    place = target.of_session(run, session) if session.here else backend
    watched = Watch(run, session, place, book, screen.for_terminal(json_lines), limits, revive=chosen.revive)
    try:
        state = watched.to_the_end()
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Stopped watching; session {session.number} of run {run.run_id} goes on.\n"
            f"Watch it again with `kaglaunch watch {run.run_id}`, end it with `kaglaunch cancel {run.run_id}`."
        ) from error
    except NotFound as error:
        if session.submission != "pushed":
            book.forget_session(run.run_id, session.number)
            raise UnknownRun(
                f"The push of session {session.number} of {run.run_id} was never answered, and the target has no such "
                "kernel: it was not taken, and nothing was spent.\nPush it again."
            ) from error
        raise NotFound(
            f"The kernel {run.slug(session.number)} is not on the target any more (deleted, or another account).\n"
            f"Its published checkpoints are: `kaglaunch fetch-checkpoints {run.run_id}`."
        ) from error
    book.update_session(run.run_id, session.number, submission="pushed")
    session = pushing.session_of(book, run, session.number)
    said = outcome(run, session, state)
    if not json_lines:
        typer.echo(said)
        typer.echo(reporting.as_table(run, reporting.report(run, book)))
        typer.echo(f"Next: kaglaunch fetch-checkpoints {run.run_id}")
