"""`kaglaunch logs`: the log of a session."""

from __future__ import annotations

import sys

import typer

from launcher import target
from launcher.ledger import Ledger


def logs(run_id: str | None, *, session: int | None) -> None:
    """The log of a session: what was kept here, else what the target still has."""
    book = Ledger()
    run = book.run(run_id)
    number = session if session is not None else book.sessions(run.run_id)[-1].number
    path = run.log(number)
    if path.exists():
        sys.stdout.write(path.read_text(encoding="utf-8"))
        return
    for line in target.of_run(run).connect().log_lines(run.slug(number)):
        typer.echo(f"{line.time:.3f} {line.stream} {line.text}")
