"""`kaglaunch logs`: the log of a session."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer

from launcher import documents
from launcher.documents import LoggedLine
from launcher.errors import UnknownRun
from launcher.runs.ledger import Ledger
from launcher.targets import target
from launcher.targets.base import LogLine

_KEPT = re.compile(r"(\d+\.\d{3}) (\S+) (.*)", re.DOTALL)


def lines(run_id: str | None, session: int | None) -> Iterator[LogLine]:
    """The log of a session: what was kept here, else what the target still has.

    Raises
    ------
    UnknownRun
        The run has no such session.
    """
    book = Ledger()
    run = book.run(run_id)
    sessions = {one.number: one for one in book.sessions(run.run_id)}
    number = session if session is not None else max(sessions)
    if number not in sessions:
        raise UnknownRun(f"Run {run.run_id} has no session {number}; it has {', '.join(map(str, sessions))}.")
    path = run.log(number)
    if path.exists():
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from map(_kept, file)
    else:
        yield from target.of_session(run, sessions[number]).log_lines(run.slug(number))


def logs(run_id: str | None, *, session: int | None, as_json: bool = False) -> None:
    """Print it, a line at a time."""
    for line in lines(run_id, session):
        if as_json:
            typer.echo(documents.line(LoggedLine(line.time, line.stream, line.text)))
        else:
            typer.echo(f"{line.time:.3f} {line.stream} {line.text}")


def _kept(raw: str) -> LogLine:
    """A line of the kept file; one message of several lines goes on in lines without a time."""
    found = _KEPT.fullmatch(raw.rstrip("\n"))
    return LogLine(float(found[1]), found[2], found[3]) if found else LogLine(0.0, "stdout", raw.rstrip("\n"))
