"""`kaglaunch relay`: chain sessions of a run, unattended, until all of its timesteps are done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from launcher import config, downloads, locks, screen
from launcher.config import WatchSettings
from launcher.errors import BackendUnavailable, Interrupted, LauncherError
from launcher.runs import continuation, report, submission
from launcher.runs import relay as relaying
from launcher.runs.ledger import Ledger, Relay, Run, Session
from launcher.runs.relay import Clock, Relaying, RelayRuns, WallClock
from launcher.runs.watch import Watch
from launcher.targets import target
from launcher.targets.base import Backend, SessionState
from launcher.targets.target import Target, TargetName

POLL_S = {TargetName.kaggle: 600.0, TargetName.local: 1.0}
"""The clock of the embedded Kaggle can be put forward at any time."""


def relay(run_id: str | None, *, flags: Mapping[str, Any]) -> None:
    """Chain sessions of `run_id`, or of the newest run; a relay that was interrupted goes on as it was asked for."""
    book = Ledger()
    run = book.run(run_id)
    chosen = target.of_run(run)
    typer.echo(str(chosen))
    submission.require_training(chosen)
    relay_run(run, chosen, book, flags=flags)


def relay_run(run: Run, chosen: Target, book: Ledger, *, flags: Mapping[str, Any]) -> None:
    """Relay `run` to its end, and say how it ended; the ledger knows it all the while.

    Raises
    ------
    RelayRuns
        Another process is at it.
    """
    pid = locks.holder(run.relay_lock)
    refusal = RelayRuns(
        f"A relay of run {run.run_id} is at work already (process {pid}); two would push the same sessions.\n"
        f"Look on with `kaglaunch watch {run.run_id}`, or end that process."
    )
    with locks.hold(run.relay_lock, refusal):
        wish = _wish(run, book, flags)
        limit = f"{wish.max_hours:g} h a session on {'the CPU' if wish.device == 'cpu' else wish.accelerator}"
        typer.echo(
            f"Relay of run {run.run_id}: sessions follow each other until {run.config.total_timesteps:,} timesteps are "
            f"done, {limit}. It goes on after an interruption: `kaglaunch relay {run.run_id}`."
        )
        limits = config.load({}).watch
        try:
            start = _relaying(run, wish, chosen, book, limits).to_the_end()
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"The relay of run {run.run_id} was interrupted; a session that runs goes on.\n"
                f"`kaglaunch relay {run.run_id}` goes on, `kaglaunch cancel {run.run_id}` ends the session."
            ) from error
        except LauncherError as error:
            book.update_relay(run.run_id, state="ended", note=str(error).split("\n", 1)[0])
            raise
        book.update_relay(run.run_id, state="finished", note=f"all {start.num_timesteps:,} timesteps are done")
    typer.echo(f"Run {run.run_id} is finished: {start.num_timesteps:,} timesteps, in {run.checkpoints}.")
    typer.echo(report.as_table(run, report.report(run, book)))


def _wish(run: Run, book: Ledger, flags: Mapping[str, Any]) -> Relay:
    """What the relay is asked for: an interrupted one as before, else as the last session; flags win."""
    last = book.sessions(run.run_id)[-1]
    before = book.relay(run.run_id)
    asked = flags.get("session", {})
    session = continuation.next_settings(flags, last).session
    interrupted = before is not None and before.state == "on"
    if before is not None and interrupted:
        kept = {"device": before.device, "accelerator": before.accelerator, "max_hours": before.max_hours}
    else:
        accelerator = session.accelerator if asked.get("accelerator") else last.accelerator or session.accelerator
        kept = {"device": session.device, "accelerator": accelerator, "max_hours": session.max_hours}
    wanted = {**kept, **{key: value for key, value in asked.items() if value is not None}}
    since = before.since if before is not None and interrupted else last.number - (last.number == 1)
    return book.begin_relay(run.run_id, since=since, **wanted)


def _relaying(
    run: Run, wish: Relay, chosen: Target, book: Ledger, limits: WatchSettings, clock: Clock | None = None
) -> Relaying:
    clock = clock or WallClock()
    backend = _connected(chosen, clock)

    def follow(session: Session) -> SessionState:
        place = target.of_session(run, session) if session.here else backend
        watched = Watch(run, session, place, book, screen.for_terminal(False), limits, revive=chosen.revive)
        return watched.to_the_end()

    shown = downloads.for_terminal(typer.echo)
    return Relaying(run, wish, chosen, backend, book, follow, shown, POLL_S[chosen.name], clock)


def _connected(chosen: Target, clock: Clock) -> Backend:
    """A backend; a target that cannot be reached yet is waited for."""
    said = False
    while True:
        try:
            return chosen.connect()
        except BackendUnavailable as error:
            if not said:
                typer.echo(f"{error}\nThe relay tries again.", err=True)
            said = True
            clock.sleep(relaying.SLOT_WAIT_S)
