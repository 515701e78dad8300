"""`kaglaunch runs`: what was pushed from this machine."""

from __future__ import annotations

import json
import time

import typer

from launcher import reporting
from launcher.ledger import Ledger
from launcher.reporting import duration


def runs(*, as_json: bool) -> None:
    """Every run that was pushed from this machine, newest first."""
    book = Ledger()
    rows = []
    for run in book.runs():
        report = reporting.report(run, book)
        safe = max((row.published for row in report), default=0)
        rows.append(
            {
                "run_id": run.run_id,
                "target": run.target,
                "age_s": round(time.time() - run.created),
                "sessions": len(report),
                "safe_timesteps": safe,
                "total_timesteps": run.config.total_timesteps,
                "state": report[-1].ended if report else "no session",
                "folder": str(run.folder),
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo("No run was pushed from this machine yet. Start one with `kaglaunch push --quick`.")
    else:
        header = ["run", "target", "age", "sessions", "safe", "of", "last session"]
        body = [
            [
                str(row["run_id"]),
                str(row["target"]),
                duration(float(str(row["age_s"]))),
                str(row["sessions"]),
                f"{row['safe_timesteps']:,}",
                f"{row['total_timesteps']:,}",
                str(row["state"]),
            ]
            for row in rows
        ]
        typer.echo("\n".join(reporting.columns(header, body)))
