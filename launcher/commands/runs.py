"""`kaglaunch runs`: what was pushed from this machine, or what only the target knows."""

from __future__ import annotations

import time

import typer

from launcher import documents
from launcher.documents import KnownRun, RemoteRun
from launcher.runs import report as reporting
from launcher.runs.ledger import Ledger
from launcher.runs.report import duration
from launcher.targets.target import TargetName


def listing() -> list[KnownRun]:
    """Every run that is known on this machine, newest first, as `runs --json` has it."""
    book = Ledger()
    rows = []
    for run in book.runs():
        report = reporting.report(run, book)
        safe = max((row.published for row in report), default=0)
        rows.append(
            KnownRun(
                run_id=run.run_id,
                target=run.target,
                age_s=round(time.time() - run.created),
                sessions=len(report),
                safe_timesteps=safe,
                total_timesteps=run.config.total_timesteps,
                state=report[-1].ended if report else "no session",
                folder=str(run.folder),
            )
        )
    return rows


def runs(*, as_json: bool, remote: bool = False, forced: TargetName | None = None) -> None:
    """Show them; with `remote` those that only the target knows."""
    if remote:
        _remote(Ledger(), forced, as_json)
        return
    rows = listing()
    if as_json:
        typer.echo(documents.text(rows))
    elif not rows:
        typer.echo(
            "No run was pushed from this machine yet. Start one with `kaglaunch push --quick`; `kaglaunch runs "
            "--remote` lists those that other machines pushed."
        )
    else:
        header = ["run", "target", "age", "sessions", "safe", "of", "last session"]
        body = [
            [
                row.run_id,
                row.target,
                duration(row.age_s),
                str(row.sessions),
                f"{row.safe_timesteps:,}",
                f"{row.total_timesteps:,}",
                row.state,
            ]
            for row in rows
        ]
        typer.echo("\n".join(reporting.columns(header, body)))


def _remote(book: Ledger, forced: TargetName | None, as_json: bool) -> None:
    from launcher.runs import adoption
    from launcher.targets import target

    chosen = target.choose(forced)
    found = adoption.unknown_runs(chosen.connect(), book)
    if as_json:
        typer.echo(documents.text([RemoteRun(f.run_id, tuple(f.sessions), f.dataset, known=False) for f in found]))
        return
    typer.echo(str(chosen))
    if not found:
        typer.echo("Every run on the target is known here: `kaglaunch runs` lists them.")
        return
    header = ["run", "sessions", "dataset", "take over with"]
    body = [
        [
            f.run_id,
            ", ".join(map(str, f.sessions)) or "none",
            "yes" if f.dataset else "no",
            f"kaglaunch adopt {f.run_id}",
        ]
        for f in found
    ]
    typer.echo("\n".join(reporting.columns(header, body)))
