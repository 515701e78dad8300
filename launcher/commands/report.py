"""`kaglaunch report`: what a run has done, what is safe, what a kill has cost."""

from __future__ import annotations

import typer

from launcher import documents
from launcher.runs import report as reporting
from launcher.runs.ledger import Ledger


def report(run_id: str | None, *, as_json: bool) -> None:
    """Show the sessions of `run_id`, or of the newest run, from the ledger alone."""
    book = Ledger()
    run = book.run(run_id)
    rows = reporting.report(run, book)
    typer.echo(documents.text(reporting.document(run, rows)) if as_json else reporting.as_table(run, rows))
