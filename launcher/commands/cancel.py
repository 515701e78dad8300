"""`kaglaunch cancel`: end the newest session of a run for certain, and say what is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kernel.contract import names
from launcher.commands.say import say
from launcher.errors import BackendError, NotAgreed
from launcher.runs import alive, records
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, Session
from launcher.runs.run import RunHandle
from launcher.tables import counted
from launcher.waiting import waiting


def require_only_one_alive() -> None:
    """Raise AmbiguousRun where several runs of the present folder are alive."""
    with waiting("Asking which runs of this folder are alive"):
        alive.require_only_one(Ledger())


def cancel(run_id: str, *, agreed: Callable[[str], bool] = lambda question: True) -> None:
    """End the newest session of `run_id`, where `agreed` says yes to the question that names what is at risk.

    Raises
    ------
    NotAgreed
        It said no; the session goes on.
    """
    handle = RunHandle.of(run_id)
    run, shown = handle.run, contextlib.ExitStack()

    def asks(session: Session) -> None:
        shown.close()  # nothing moves beside a question
        if not agreed(f"End session {session.number} of run {run.run_id} on {run.target}? {at_risk(run, session)}"):
            raise NotAgreed(f"Nothing was ended: session {session.number} of run {run.run_id} goes on.")
        shown.enter_context(waiting(f"Ending session {session.number} of run {run.run_id}"))

    with shown:
        shown.enter_context(waiting(f"Asking where run {run.run_id} stands, and for its log"))
        if not handle.newest.here:
            handle.connect()
        cancelled = handle.cancel(asks)
    session = cancelled.session
    if cancelled.found is None:
        say(f"Session {session.number} of run {run.run_id} is not on the target: nothing to cancel.")
        return
    if cancelled.done is None:
        say(f"Session {session.number} of run {run.run_id} is over already ({cancelled.found.value}).")
        return
    say(str(cancelled.done))
    say("\n".join(["Kept:", *(f"  {line}" for line in kept(handle, session))]))
    say(f"Go on with `kaglaunch resume {run.run_id}`.")


def at_risk(run: Run, session: Session) -> str:
    """What ending it now costs, as far as its log tells; a session on this machine writes a last checkpoint."""
    if session.here:
        return "It writes a last checkpoint first."
    if session.seen_timesteps is None:
        return "No timestep of it is known yet."
    done, safe = session.seen_timesteps, max(session.published_timesteps or 0, session.resumed_timesteps or 0)
    total = records.total_timesteps(run, [session])
    return f"{done:,} of {total:,} timesteps are done, {max(0, done - safe):,} not published yet."


def kept(handle: RunHandle, session: Session) -> list[str]:
    """What a cancelled session leaves behind, and what its end has cost."""
    lines, run = [], handle.run
    here, log = list(run.checkpoints.glob("checkpoint_t*.zip")), run.log(session.number)
    if not session.here:
        try:
            notes = [version.notes for version in handle.backend.dataset_versions(run.dataset)]
            held = [names.told_by_version(note) for note in notes if names.holds_checkpoint(note)]
            step = f", the newest at t{held[0][0]:,}" if held and held[0] else ""
            lines.append(f"published  {counted(len(held), 'version')} of {run.dataset}{step}")
        except BackendError as error:
            lines.append(f"published  {run.dataset}, which cannot be listed now ({str(error).splitlines()[0]})")
    else:
        safe = session.published_timesteps or 0
        lines.append(f"safe here  up to t{safe:,}")
    lines.append(f"here       {counted(len(here), 'checkpoint')} in {run.checkpoints}")
    if not session.here and log.exists() and log.stat().st_size:
        lines.append(f"log        {log}")
    return lines
