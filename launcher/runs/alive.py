"""Which runs have a session that is not over, as their targets say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from launcher.errors import AmbiguousRun, BackendError, NotFound
from launcher.runs.endings import Submission, ending
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.targets import target


def require_only_one(book: Ledger, folder: Path | None = None) -> None:
    """Raise AmbiguousRun where several runs of `folder`, or of the present one, are alive: none of them is meant.

    Raises
    ------
    UnknownRun
        The folder has no run.
    """
    here = book.run(folder=folder).pushed_from
    maybe = [run for run in book.runs() if run.pushed_from == here and _maybe_alive(book, run)]
    found = alive(book, maybe) if len(maybe) > 1 else []
    if len(found) > 1:
        listed = "\n".join(f"  kaglaunch cancel {run.run_id}" for run in found)
        raise AmbiguousRun(f"{len(found)} runs of this folder are alive, and none was named. Type one of:\n{listed}")


def alive(book: Ledger, runs: Iterable[Run]) -> list[Run]:
    """Those of `runs` whose newest session is not over; one that cannot be asked may be alive."""
    return [run for run in runs if _alive(book, run)]


def _maybe_alive(book: Ledger, run: Run) -> bool:
    """Whether the ledger knows of no end of its newest session."""
    session = next(reversed(book.sessions(run.run_id)), None)
    return session is not None and session.submission != Submission.absent and ending(session) is None


def _alive(book: Ledger, run: Run) -> bool:
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
