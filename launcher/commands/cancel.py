"""`kaglaunch cancel`: end the newest session of a run for certain, and say what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kernel.contract import names
from launcher.commands.logs import kept_lines
from launcher.commands.say import say
from launcher.errors import AmbiguousRun, BackendError, NotFound, Refused
from launcher.runs import cancellation, continuation, submission
from launcher.runs.cancellation import DELETED
from launcher.runs.ledger import Ledger, Run, Session
from launcher.runs.progress import Progress
from launcher.targets import target
from launcher.targets.base import Status


class NotAgreed(Refused):
    """Raised when the question whether to end a session was answered with no, or nobody could be asked."""


def only_one_alive(book: Ledger, folder: Path | None = None) -> None:
    """Raise AmbiguousRun where several runs of `folder`, or of the present one, have a session that is not over."""
    here = book.run(folder=folder).pushed_from
    maybe = [run for run in book.runs() if run.pushed_from == here and _maybe_alive(book, run)]
    alive = [run for run in maybe if _alive(book, run)] if len(maybe) > 1 else []
    if len(alive) > 1:
        listed = "\n".join(f"  kaglaunch cancel {run.run_id}" for run in alive)
        raise AmbiguousRun(f"{len(alive)} runs of this folder are alive, and none was named. Type one of:\n{listed}")


def cancel(run_id: str, *, agreed: Callable[[str], bool] = lambda question: True) -> None:
    """End the newest session of `run_id`, where `agreed` says yes to the question that names what is at risk.

    Raises
    ------
    NotAgreed
        It said no; the session goes on.
    """
    book = Ledger()
    run = book.run(run_id)
    session = book.sessions(run.run_id)[-1]
    backend = target.of_session(run, session)
    slug = run.slug(session.number)
    try:
        state = backend.state(slug)
    except NotFound:
        say(f"Session {session.number} of run {run.run_id} is not on the target: nothing to cancel.")
        return
    if state.status.final:
        book.update_session(run.run_id, session.number, status=state.status.value, message=state.message)
        say(f"Session {session.number} of run {run.run_id} is over already ({state.status.value}).")
        return
    log: Path | None = None
    session_id = session.session_id
    if not session.here and state.status is not Status.QUEUED:
        log, session_id = cancellation.save_log(backend, run, session)
    if not agreed(f"End session {session.number} of run {run.run_id} on {run.target}? {at_risk(run, session, log)}"):
        raise NotAgreed(f"Nothing was ended: session {session.number} of run {run.run_id} goes on.")
    done = cancellation.cancel_session(backend, run, session, session_id)
    say(str(done))
    message = "deleted from here" if done.status == DELETED else "cancelled from here"
    book.update_session(run.run_id, session.number, status=done.status, message=message)
    if session.here:
        continuation.settle_here(run, book)
    say("\n".join(["Kept:", *(f"  {line}" for line in kept(run, book, session, log))]))
    say(f"Go on with `kaglaunch resume {run.run_id}`.")


def at_risk(run: Run, session: Session, log: Path | None) -> str:
    """What ending it now costs, as far as its log tells; a session on this machine writes a last checkpoint."""
    if session.here:
        return "It writes a last checkpoint first."
    progress = Progress()
    for line in kept_lines(log) if log is not None else ():
        progress.observe(line)
    done = max(progress.num_timesteps, session.seen_timesteps or 0)
    safe = max(progress.published_timesteps or 0, session.published_timesteps or 0, session.resumed_timesteps or 0)
    if not done:
        return "No timestep of it is known yet."
    return f"{done:,} of {run.config.total_timesteps:,} timesteps are done, {max(0, done - safe):,} not published yet."


def _maybe_alive(book: Ledger, run: Run) -> bool:
    """Whether the ledger knows of no end of its newest session."""
    session = next(reversed(book.sessions(run.run_id)), None)
    if session is None or session.submission == "absent" or session.result:
        return False
    return session.status not in {DELETED, *(status.value for status in Status if status.final)}


def _alive(book: Ledger, run: Run) -> bool:
    """Asked where it runs; one that cannot be asked may be alive."""
    session = book.sessions(run.run_id)[-1]
    try:
        state = target.of_session(run, session).state(run.slug(session.number))
    except NotFound:
        return False
    except BackendError:
        return True
    if state.status.final:
        book.update_session(run.run_id, session.number, status=state.status.value, message=state.message)
    return not state.status.final


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
