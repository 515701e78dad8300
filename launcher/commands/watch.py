"""`kaglaunch watch`: follow the newest session of a run to its end, and a relay from session to session."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer

from launcher import config, locks, screen
from launcher.config import WatchSettings
from launcher.errors import Interrupted, KernelFailed, NotFound, SessionCut
from launcher.runs import report, submission
from launcher.runs.ledger import Ledger, Run
from launcher.runs.watch import Watch, outcome
from launcher.targets import target
from launcher.targets.base import Backend
from launcher.targets.target import Target

RELAY_POLL_S = 2.0


def watch(run_id: str | None, *, json_lines: bool) -> None:
    """Follow the newest session of `run_id`, or of the newest run; in a relay, session after session."""
    settings = config.load({})
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    backend = chosen.connect()
    while True:
        number = book.sessions(run.run_id)[-1].number
        try:
            watch_session(run, chosen, backend, book, settings.watch, json_lines=json_lines)
        except (KernelFailed, SessionCut) as ended:
            if not _relayed(run, book):
                raise
            typer.echo(f"{ended}\nA relay of this run is on: waiting for its next session.", err=json_lines)
            if not next_session(run, book, after=number):
                raise
        else:
            return


def next_session(run: Run, book: Ledger, *, after: int, wait: Callable[[float], object] = time.sleep) -> bool:
    """Wait until the relay of `run` has begun the session after session `after`; False when it will not.

    Raises
    ------
    Interrupted
        Ctrl-C; the relay goes on.
    """
    try:
        while True:
            # The relay is asked first: it may end right after it has begun its last session.
            on, newest = _relayed(run, book), book.sessions(run.run_id)[-1]
            if newest.number > after and newest.submission != "pushing":
                return True
            if not on:
                return False
            wait(RELAY_POLL_S)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Stopped watching; the relay of run {run.run_id} goes on. Watch it again with "
            f"`kaglaunch watch {run.run_id}`."
        ) from error


def _relayed(run: Run, book: Ledger) -> bool:
    """Whether a process is relaying `run`; a relay that was interrupted has none."""
    relay = book.relay(run.run_id)
    return relay is not None and relay.state == "on" and locks.holder(run.relay_lock) is not None


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
    shown, quota = screen.for_terminal(json_lines), None if session.here else backend.quota
    watched = Watch(run, session, place, book, shown, limits, revive=chosen.revive, quota=quota)
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
            raise NotFound(
                f"The push of session {session.number} of {run.run_id} was never answered, and the target has no such "
                "kernel: it was not taken, and nothing was spent.\nPush it again."
            ) from error
        raise NotFound(
            f"The kernel {run.slug(session.number)} is not on the target any more (deleted, or another account).\n"
            f"Its published checkpoints are: `kaglaunch fetch-checkpoints {run.run_id}`."
        ) from error
    book.update_session(run.run_id, session.number, submission="pushed")
    session = submission.session_of(book, run, session.number)
    said = outcome(run, session, state)
    if not json_lines:
        typer.echo(said)
        typer.echo(report.as_table(run, report.report(run, book)))
        typer.echo(f"Next: kaglaunch fetch-checkpoints {run.run_id}")
