"""End a session for certain: by its id where the log told it, else by deleting its kernel."""

from __future__ import annotations

import time
from collections.abc import Callable

from launcher.backends.base import Backend
from launcher.errors import BackendError, BackendUnavailable, NotFound
from launcher.ledger import Run, Session

WAIT_S = 60.0


def cancel_session(
    backend: Backend,
    run: Run,
    session: Session,
    session_id: int | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """End session `session` of `run` and see that it ended; returns what was done, in words.

    Raises
    ------
    BackendUnavailable
        The end could not be confirmed.
    """
    slug = run.slug(session.number)
    if session_id is not None:
        try:
            backend.cancel(session_id)
            if status := _wait_until_final(backend, slug, sleep, clock):
                return f"Session {session.number} of {run.run_id} was cancelled ({status})."
        except BackendError as error:
            reason = str(error)
        else:
            reason = f"it still runs {WAIT_S:.0f} s after the request"
    else:
        reason = "its log did not tell its id"
    backend.delete(slug)
    if not _gone(backend, slug):
        raise BackendUnavailable(
            f"Session {session.number} of {run.run_id} was to end, and its kernel {slug} is still there.\n"
            f"Delete it on kaggle.com, or try `kaglaunch cancel {run.run_id}` again."
        )
    return f"The kernel {slug} was deleted, which ends its session ({reason}). Published checkpoints are kept."


def _wait_until_final(
    backend: Backend, slug: str, sleep: Callable[[float], None], clock: Callable[[], float]
) -> str | None:
    began = clock()
    while clock() - began < WAIT_S:
        state = backend.state(slug)
        if state.status.final:
            return state.status.value
        sleep(1.0)
    return None


def _gone(backend: Backend, slug: str) -> bool:
    try:
        backend.state(slug)
    except NotFound:
        return True
    return False
