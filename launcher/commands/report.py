"""`kaglaunch report`: what a run has done, what is safe, what a kill has cost."""

from __future__ import annotations

import typer

from launcher import documents
from launcher.documents import RunReport
from launcher.runs import report as reporting
from launcher.runs.ledger import Ledger, Run
from launcher.runs.look import look


def asked(run_id: str | None) -> tuple[Run, RunReport]:
    """The report of `run_id`, or of the newest run; its target is asked first, as long as a moment allows."""
    book = Ledger()
    run = book.run(run_id)
    return run, reporting.report(run, book, look([run], book)[run.run_id])


def report(run_id: str | None, *, as_json: bool) -> None:
    """Show it."""
    run, told = asked(run_id)
    typer.echo(documents.text(told) if as_json else reporting.as_table(run, told))
