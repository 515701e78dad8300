"""`kaglaunch adopt`: take over a run that another machine pushed."""

from __future__ import annotations

from pathlib import Path

import typer

from launcher.commands.say import say
from launcher.runs import adoption, report
from launcher.runs.ledger import Ledger
from launcher.targets import target
from launcher.targets.target import TargetName
from launcher.waiting import waiting


def adopt(run_id: str, forced: TargetName | None) -> None:
    """Write `run_id` and its sessions into this machine's ledger, so that every other command works on it.

    Raises
    ------
    UnknownRun
        The target has no such run, or nothing of it that can be read.
    """
    chosen = target.choose(forced)
    say(str(chosen))
    book = Ledger()
    with waiting(f"Asking {chosen.place} for run {run_id}"):
        backend = chosen.connect(patience_s=target.PERSON_S)
        run = adoption.adopt(run_id, backend, book, chosen.name.value, Path.cwd(), say)
    say(f"Run {run.run_id} is known here now; what is fetched of it goes to {run.checkpoints}.")
    typer.echo(report.as_table(run, report.report(run, book)))
    watch, fetch, resume = (f"kaglaunch {verb} {run.run_id}" for verb in ("watch", "fetch-checkpoints", "resume"))
    say(f"Next: {watch}, {fetch}, or {resume}")
