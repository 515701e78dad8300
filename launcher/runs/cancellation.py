"""End a session for certain: by its id where the log told it, else by deleting its kernel, its log saved before."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

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
LAST_LINES_S = 5.0
"""Longest time for reading what a session said up to its end, once it has ended."""


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


class LastWords:
    """The log of a session that is to end, kept up to now before and to its last line after.

    Nothing of a cancelled or deleted session's log is left on the target. Used as a context, in which it listens.
    """

    def __init__(
        self, backend: Compute, run: Run, session: Session, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.progress = Progress(total_timesteps=run.config.total_timesteps, session_id=session.session_id)
        """What the log has told so far."""
        self._follower, self._copy = Follower(backend, run.slug(session.number)), Copy(run, session.number)
        self._clock, self._over = clock, False

    def __enter__(self) -> Self:
        self._follower.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._follower.stop()
        self._copy.__exit__(*raised)

    def read(self, longest_s: float) -> None:
        """Take in what was said since the last call, for at most so long, and keep it."""
        until = self._clock() + longest_s
        while not self._over and (left_s := until - self._clock()) > 0:
            quiet_s = LOG_QUIET_S if self.progress.log_lines else longest_s
            try:
                happening = self._follower.happenings.get(timeout=min(left_s, quiet_s))
            except queue.Empty:
                break
            if isinstance(happening, LogLine):
                self.progress.observe(happening)
                self._copy.write(happening)
            self._over = isinstance(happening, Ended)
        self._copy.keep()


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
