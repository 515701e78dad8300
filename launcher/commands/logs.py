"""`kaglaunch logs`: the log of a session."""

from __future__ import annotations

import sys

import typer

from launcher import target
from launcher.errors import UnknownRun
from launcher.ledger import Ledger


def logs(run_id: str | None, *, session: int | None) -> None:
    """The log of a session: what was kept here, else what the target still has."""
    book = Ledger()
    run = book.run(run_id)
    sessions = {one.number: one for one in book.sessions(run.run_id)}
    number = session if session is not None else max(sessions)
    if number not in sessions:
        raise UnknownRun(f"Run {run.run_id} has no session {number}; it has {', '.join(map(str, sessions))}.")
    path = run.log(number)
    if path.exists():
        sys.stdout.write(path.read_text(encoding="utf-8"))
        return
    for line in target.of_session(run, sessions[number]).log_lines(run.slug(number)):
        typer.echo(f"{line.time:.3f} {line.stream} {line.text}")
