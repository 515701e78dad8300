"""Whose sessions are not over, as their targets say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.contract import names
from launcher.documents.runs import SessionReport
from launcher.errors import AmbiguousRun, BackendError, NotFound
from launcher.runs import report
from launcher.runs.endings import Submission, ending
from launcher.runs.ledger import Ledger
from launcher.runs.look import look
from launcher.runs.records import Run
from launcher.targets import target


@dataclass(frozen=True)
class Owned:
    """A session that is alive, and whose it is as far as this machine knows."""

    slug: str
    run: Run | None = None
    told: SessionReport | None = None
    """What its run's report says of it; None without a run."""

    @property
    def here(self) -> bool:
        """Whether its run was pushed from the present folder."""
        return self.run is not None and self.run.pushed_from == Path.cwd().resolve()


def owned(book: Ledger, slugs: Sequence[str]) -> list[Owned]:
    """Whose the kernels `slugs` are, which are alive; the targets of their runs are asked how far they have come."""
    runs = {run.run_id: run for run in book.runs()}
    named = {slug: found for slug in slugs if (found := names.session_of_kernel(slug)) and found[0] in runs}
    theirs = [runs[run_id] for run_id in dict.fromkeys(run_id for run_id, _ in named.values())]
    looks = look(theirs, book)
    rows = {
        (run.run_id, row.session): row for run in theirs for row in report.report(run, book, looks[run.run_id]).sessions
    }
    return [
        Owned(slug, runs[named[slug][0]], rows[named[slug]]) if named.get(slug) in rows else Owned(slug)
        for slug in slugs
    ]


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
