"""End a session for certain: by its id where the log told it, else by deleting its kernel, its log saved before."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel.contract.stopping import END_SECONDS
from launcher.errors import BackendError, BackendUnavailable, NotFound
from launcher.runs.endings import DELETED
from launcher.runs.follower import Ended, Follower
from launcher.runs.kept_log import Copy
from launcher.runs.patience import patiently
from launcher.runs.progress import Progress
from launcher.runs.records import Run, Session
from launcher.targets.base import Compute, LogLine

WAIT_S = 60.0
"""For an end that the target makes; a kernel that is asked to end, as on this machine, has what it promises."""
LOST_ANSWER_S = 5.0
LOG_WAIT_S = 20.0
"""Longest time for reading a log from its first line to its newest."""
LOG_QUIET_S = 1.0
"""A log that says nothing for this long has been read up to now."""


@dataclass(frozen=True)
class Cancelled:
    """How a session was ended."""

    status: str
    """The platform's final state, or DELETED."""
    said: str
    """What was done, in words."""

    def __str__(self) -> str:
        return self.said


def cancel_session(
    backend: Compute,
    run: Run,
    session: Session,
    session_id: int | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Cancelled:
    """End session `session` of `run` and see that it ended.

    Raises
    ------
    BackendUnavailable
        The end could not be confirmed.
    """
    slug = run.slug(session.number)
    session_id = backend.session_id(slug) or session_id
    reason = "its log did not tell its id"
    if session_id is not None:
        wait_s = END_SECONDS if session.here else WAIT_S
        reason = f"it still runs {wait_s:.0f} s after the request"
        try:
            backend.cancel(session_id)
        except BackendError as error:
            # The request may have been carried out all the same, and only its answer lost.
            reason, wait_s = str(error).split("\n", 1)[0], LOST_ANSWER_S
        if status := _wait_until_final(backend, slug, wait_s, sleep, clock):
            how = "wrote a last checkpoint and ended" if session.here else "was cancelled"
            return Cancelled(status, f"Session {session.number} of {run.run_id} {how} ({status}).")
    _delete(backend, slug, sleep, clock)
    if session.here:
        return Cancelled("ERROR", f"Session {session.number} of {run.run_id} was killed ({reason}).")
    if not _gone(backend, slug, sleep, clock):
        raise BackendUnavailable(
            f"Session {session.number} of {run.run_id} was to end, and its kernel {slug} is still there.\n"
            f"Delete it on kaggle.com, or try `kaglaunch cancel {run.run_id}` again."
        )
    return Cancelled(DELETED, f"The kernel {slug} was deleted, which ends its session ({reason}).")


def save_log(
    backend: Compute, run: Run, session: Session, *, clock: Callable[[], float] = time.monotonic
) -> tuple[Path | None, int | None]:
    """Read the log up to now into the run's folder, unless a longer one is there: (file, session id that it tells).

    Nothing of a cancelled or deleted session's log is left on the target.
    """
    path = run.log(session.number)
    progress = Progress(session_id=session.session_id)
    follower = Follower(backend, run.slug(session.number))
    follower.start()
    until = clock() + LOG_WAIT_S
    try:
        with Copy(run, session.number) as log:
            while clock() < until:
                try:
                    happening = follower.happenings.get(timeout=LOG_QUIET_S if progress.log_lines else 0.2)
                except queue.Empty:
                    if progress.log_lines:
                        break
                    continue
                if isinstance(happening, LogLine):
                    progress.observe(happening)
                    log.write(happening)
                elif isinstance(happening, Ended):
                    break
    finally:
        follower.stop()
    return (path if path.stat().st_size else None), progress.session_id


def _wait_until_final(
    backend: Compute, slug: str, wait_s: float, sleep: Callable[[float], None], clock: Callable[[], float]
) -> str | None:
    """The state that the session ended in; None when it has not ended within `wait_s`."""

    def status() -> str:
        try:
            state = backend.state(slug)
        except NotFound:
            return DELETED
        if not state.status.final:
            raise _NotYet(f"The session is {state.status.value}.")
        return state.status.value

    try:
        return patiently(status, sleep=sleep, clock=clock, within_s=wait_s)
    except BackendUnavailable:
        return None


def _delete(backend: Compute, slug: str, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
    """Delete the kernel; an answer that was lost is settled by asking again."""
    with contextlib.suppress(NotFound):
        patiently(lambda: backend.delete(slug), sleep=sleep, clock=clock, within_s=WAIT_S)


def _gone(backend: Compute, slug: str, sleep: Callable[[float], None], clock: Callable[[], float]) -> bool:
    def look() -> None:
        state = backend.state(slug)
        raise _NotYet(f"The kernel is there, and its session is {state.status.value}.")

    try:
        patiently(look, sleep=sleep, clock=clock, within_s=WAIT_S)
    except NotFound:
        return True
    except BackendUnavailable:
        return False
    return False


class _NotYet(BackendUnavailable):
    """Raised to ask once more: the answer is not the one that is waited for."""
