"""The log of a session: what was kept of it here, else what its target still has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import UsageError
from launcher.runs.bound_run import BoundRun
from launcher.runs.records import Session
from launcher.targets.base import LogLine

_KEPT = re.compile(r"(\d+\.\d{3}) (\S+) (.*)", re.DOTALL)


def chosen(bound: BoundRun, number: int | None) -> Session:
    """Session `number`, or the newest one.

    Raises
    ------
    UsageError
        The run has no such session.
    """
    sessions = {one.number: one for one in bound.sessions}
    number = number if number is not None else max(sessions)
    if number not in sessions:
        raise UsageError(f"Run {bound.run_id} has no session {number}; it has {', '.join(map(str, sessions))}.")
    return sessions[number]


def lines(bound: BoundRun, session: Session) -> Iterator[LogLine]:
    """Its lines as they were kept here, else as its target has them."""
    path = bound.run.log(session.number)
    if path.exists():
        yield from kept_lines(path)
    else:
        yield from bound.compute(session).log_lines(bound.run.slug(session.number))


def kept_lines(path: Path) -> Iterator[LogLine]:
    """The lines of a log that was kept."""
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from map(_kept, file)


def _kept(raw: str) -> LogLine:
    """A line of the kept file; one message of several lines goes on in lines without a time."""
    found = _KEPT.fullmatch(raw.rstrip("\n"))
    return LogLine(float(found[1]), found[2], found[3]) if found else LogLine(0.0, "stdout", raw.rstrip("\n"))
