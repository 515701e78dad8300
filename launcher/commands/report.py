"""`kaglaunch report`: what a run has done, what is safe, what a kill has cost."""

from __future__ import annotations

import typer

from launcher.documents import printed
from launcher.runs import report as reporting
from launcher.runs.run import RunHandle
from launcher.waiting import waiting


def report(run_id: str | None, *, as_json: bool) -> None:
    """Show the sessions of `run_id`, or of the newest run; its target is asked first, as long as a moment allows."""
    handle = RunHandle.of(run_id)
    with waiting(f"Asking where run {handle.run_id} stands"):
        told = handle.report(ask=True)
    typer.echo(printed.text(told) if as_json else reporting.as_table(handle.run, told))
