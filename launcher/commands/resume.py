"""`kaglaunch resume`: go on from the newest verified checkpoint in a new session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import typer

from launcher import config, fetching, pushing, reporting, target, transfers
from launcher.backends.base import Backend, Status
from launcher.commands import push, watch
from launcher.config import Settings
from launcher.errors import LauncherError, NotFound
from launcher.ledger import Ledger, Run, Session


class SessionRuns(LauncherError):
    """Raised when the newest session of the run has not ended yet."""


def resume(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool) -> None:
    """Start the next session of `run_id`, or of the newest run; say so when the run is finished."""
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    typer.echo(str(chosen))
    pushing.require_training(chosen)
    backend = chosen.connect()
    last = _settled(run, backend, book)
    settings = _settings(flags, last)

    shown = transfers.for_terminal(typer.echo)
    newest = next((r for r in fetching.fetch(run, backend, book, transfers=shown) if r.path), None)
    total = run.config.total_timesteps
    if newest is not None and newest.num_timesteps >= total:
        typer.echo(f"Run {run.run_id} is finished: {total:,} of {total:,} timesteps, in {newest.path}.")
        typer.echo(reporting.as_table(run, reporting.report(run, book)))
        return
    if newest is None:
        typer.echo(f"No checkpoint of run {run.run_id} was published: session {last.number + 1} starts at timestep 0.")
    else:
        typer.echo(f"Going on from t{newest.num_timesteps:,} ({newest.origin}, {newest.verdict}).")
    has_dataset = bool(backend.dataset_versions(run.dataset))
    prepared = pushing.prepare(run, run.config, last.number + 1, settings, chosen, resumes=has_dataset)
    address = pushing.start(run, prepared, settings, backend, book, after=last.number)
    push.say_started(run, last.number + 1, prepared, address)
    if watch_it:
        watch.watch_session(run, chosen, backend, book, settings.watch, json_lines=False)


def _settled(run: Run, backend: Backend, book: Ledger) -> Session:
    """The newest session, its final state in the ledger."""
    last = book.sessions(run.run_id)[-1]
    slug = run.slug(last.number)
    try:
        state = backend.state(slug)
    except NotFound:
        return last
    if not state.status.final or state.status is Status.NEW_SCRIPT:
        raise SessionRuns(
            f"Session {last.number} of run {run.run_id} is {state.status.value}; two sessions of one run would undo "
            f"each other's work.\nFollow it with `kaglaunch watch {run.run_id}`, or end it with "
            f"`kaglaunch cancel {run.run_id}`."
        )
    book.update_session(run.run_id, last.number, status=state.status.value, message=state.message, submission="pushed")
    return last


def _settings(flags: Mapping[str, Any], last: Session) -> Settings:
    """This machine's configuration, with what the session before had where nothing else is asked."""
    settings = config.load(flags)
    asked = flags.get("session", {})
    inherited: dict[str, Any] = {
        "device": last.device,
        "max_hours": last.max_seconds / 3600,
        "publish_interval_s": last.publish_interval_seconds,
        "max_timesteps_at_risk": last.max_timesteps_at_risk,
    }
    kept = {name: value for name, value in inherited.items() if asked.get(name) is None}
    return dataclasses.replace(settings, session=dataclasses.replace(settings.session, **kept))
