"""`kaglaunch runs`: what was pushed from this machine, or what only the target knows."""

from __future__ import annotations

import typer

from launcher.commands.say import say
from launcher.documents import printed
from launcher.documents.runs import RemoteRun
from launcher.runs import report as reporting
from launcher.runs import standings
from launcher.runs.ledger import Ledger
from launcher.tables import columns, duration
from launcher.targets.target import TargetName
from launcher.waiting import waiting


def runs(*, as_json: bool, remote: bool = False, forced: TargetName | None = None, tag: str | None = None) -> None:
    """Show them, or those with `tag`; with `remote` those that only the target knows."""
    if remote:
        _remote(Ledger(), forced, as_json)
        return
    with waiting("Asking where the runs stand"):
        found = standings.listing()
    rows = [row for row in found if tag is None or tag in row.tags]
    if as_json:
        typer.echo(printed.text(rows))
    elif not rows and tag is not None:
        say(f"No run has the tag {tag!r}. `kaglaunch runs` lists all, `kaglaunch note RUN --tag {tag}` sets it.")
    elif not rows:
        say(
            "No run was pushed from this machine yet. Start one with `kaglaunch push --quick`; `kaglaunch runs "
            "--remote` lists those that other machines pushed."
        )
    else:
        header = ["run", "target", "age", "sessions", "safe", "of", "last session", "note"]
        body = [
            [
                row.run_id,
                row.target,
                duration(row.age_s),
                str(row.sessions),
                f"{row.safe_timesteps:,}",
                f"{row.total_timesteps:,}",
                row.state + (f", {duration(row.seen_age_s)} ago" if row.seen_age_s >= reporting.FRESH_S else ""),
                " ".join([*(f"#{tag}" for tag in row.tags), row.note]).strip(),
            ]
            for row in rows
        ]
        noted = slice(None if any(row[-1] for row in body) else -1)
        typer.echo("\n".join(columns(header[noted], [row[noted] for row in body], reporting.WIDTH)))


def _remote(book: Ledger, forced: TargetName | None, as_json: bool) -> None:
    from launcher.runs import adoption
    from launcher.targets import target

    chosen = target.choose(forced)
    with waiting(f"Asking {chosen.place} for its runs"):
        found = adoption.unknown_runs(chosen.connect(patience_s=target.PERSON_S), book)
    if as_json:
        typer.echo(
            printed.text(
                [RemoteRun(run_id=f.run_id, sessions=tuple(f.sessions), dataset=f.dataset, known=False) for f in found]
            )
        )
        return
    say(str(chosen))
    if not found:
        say("Every run on the target is known here: `kaglaunch runs` lists them.")
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
    typer.echo("\n".join(columns(header, body)))
