"""`kaglaunch resume`: go on from the newest verified checkpoint in a new session, on the target or on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from launcher import downloads, screen
from launcher.commands import push, watch
from launcher.runs import continuation, report, submission
from launcher.runs import here as on_this_machine
from launcher.runs.continuation import Start
from launcher.runs.ledger import Ledger, Run
from launcher.runs.watch import outcome
from launcher.targets import target


def resume(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool, here: bool = False) -> None:
    """Start the next session of `run_id`, or of the newest run; say so when the run is finished."""
    if here:
        resume_here(run_id, flags=flags, watch_it=watch_it)
        return
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    typer.echo(str(chosen))
    submission.require_training(chosen)
    backend = chosen.connect()
    last = continuation.settled(run, backend, book)
    settings = continuation.next_settings(flags, last)
    start = continuation.starting_point(run, backend, book, downloads.for_terminal(typer.echo))
    if said_finished(run, start, book):
        return
    say_start(run, start, last.number + 1)
    prepared, address = continuation.push_next(run, last, start, settings, chosen, backend, book, typer.echo)
    push.say_started(run, last.number + 1, prepared, address)
    if watch_it:
        watch.watch_session(run, chosen, backend, book, settings.watch, json_lines=False)


def resume_here(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool) -> None:
    """Continue `run_id`, or the newest run, in a process of this machine that outlives this command.

    Raises
    ------
    TrainingMissing
        This machine cannot train.
    SessionRuns, HereBusy
        A session of the run is not over.
    """
    book = Ledger()
    run = book.run(run_id)
    on_this_machine.require_training(run)
    found, last, start = on_this_machine.where_it_stands(run, book, downloads.for_terminal(typer.echo))
    if said_finished(run, start, book):
        return
    settings = continuation.next_settings(flags, last)
    session = on_this_machine.session_config(settings, last.number + 1, flags.get("session", {}).get("max_hours"))
    secrets = found.credentials.secrets if found is not None and found.credentials else ()
    say_start(run, start, session.session)
    pid = on_this_machine.begin(run, book, session, start, secrets)
    typer.echo(
        f"Session {session.session} of run {run.run_id} runs on this machine (process {pid}, {session.device}); its "
        f"checkpoints go to {run.checkpoints}. Ctrl-C writes a last one and ends it."
    )
    if not watch_it:
        typer.echo(f"Next: kaglaunch watch {run.run_id}")
        return
    shown = screen.for_terminal(False)
    state = on_this_machine.follow(run, book, session.session, settings.watch, shown)
    typer.echo(outcome(run, submission.session_of(book, run, session.session), state))
    typer.echo(report.as_table(run, report.report(run, book)))


def said_finished(run: Run, start: Start, book: Ledger) -> bool:
    """Whether nothing is left to do, which is said then."""
    total = run.config.total_timesteps
    if start.newest is None or start.num_timesteps < total:
        return False
    typer.echo(f"Run {run.run_id} is finished: {total:,} of {total:,} timesteps, in {start.newest.path}.")
    typer.echo(report.as_table(run, report.report(run, book)))
    return True


def say_start(run: Run, start: Start, number: int) -> None:
    """Where session `number` starts."""
    if start.newest is None:
        typer.echo(f"No checkpoint of run {run.run_id} was published: session {number} starts at timestep 0.")
    else:
        typer.echo(f"Going on from t{start.num_timesteps:,} ({start.newest.origin}, {start.newest.verdict}).")
