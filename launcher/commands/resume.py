"""`kaglaunch resume`: go on from the newest verified checkpoint in a new session, on the target or on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from launcher import transfers
from launcher.commands import push, watch
from launcher.runs import continuation, report, submission
from launcher.runs.continuation import Start
from launcher.runs.ledger import Ledger, Run
from launcher.targets import target


def resume(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool, here: bool = False) -> None:
    """Start the next session of `run_id`, or of the newest run; say so when the run is finished."""
    if here:
        from launcher.commands import resume_here

        resume_here.resume_here(run_id, flags=flags, watch_it=watch_it)
        return
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    typer.echo(str(chosen))
    submission.require_training(chosen)
    backend = chosen.connect()
    last = continuation.settled(run, backend, book)
    settings = continuation.next_settings(flags, last)
    start = continuation.starting_point(run, backend, book, transfers.for_terminal(typer.echo))
    if said_finished(run, start, book):
        return
    say_start(run, start, last.number + 1)
    prepared, address = continuation.push_next(run, last, start, settings, chosen, backend, book, typer.echo)
    push.say_started(run, last.number + 1, prepared, address)
    if watch_it:
        watch.watch_session(run, chosen, backend, book, settings.watch, json_lines=False)


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
