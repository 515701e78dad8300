"""The table that says what a run has done, what is safe, and what a kill has cost."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contract.endings import Ending
from launcher import documents
from launcher.runs.ledger import Ledger, Run, Session


@dataclass(frozen=True)
class SessionReport:
    """One session of a run, in timesteps; None where nobody can know."""

    session: Session
    began: int
    """Timestep that it started from."""
    reached: int | None
    """Furthest timestep that its log told."""
    published: int
    """Furthest timestep that was safe when it ended."""
    lost: int | None
    """Work that ended with it: reached less published."""
    bound: str
    """What a kill of it can cost at the most."""
    ended: str


def report(run: Run, ledger: Ledger) -> list[SessionReport]:
    """What the ledger knows of every session of `run`."""
    return [of_session(session) for session in ledger.sessions(run.run_id)]


def of_session(session: Session) -> SessionReport:
    """What the ledger knows of one session."""
    began = session.resumed_timesteps or 0
    published = max(began, session.published_timesteps or 0)
    reached = session.seen_timesteps
    if session.result == Ending.finished and reached is not None:
        published = max(published, reached)
    lost = None if reached is None else max(0, reached - published)
    return SessionReport(session, began, reached, published, lost, bound(session), ended(session))


def bound(session: Session) -> str:
    """The publish interval of a session, which is what a kill can cost."""
    if session.here:
        return "one checkpoint interval"
    if session.max_timesteps_at_risk:
        return f"{session.max_timesteps_at_risk:,} timesteps"
    return f"{duration(session.publish_interval_seconds)} and one upload"


def ended(session: Session) -> str:
    """How a session ended, in a word or two."""
    if session.result:
        return session.result
    if session.alert_rule:
        return f"stopped by an alert ({session.alert_rule})"
    if session.submission != "pushed":
        return f"submission {session.submission}"
    return {
        "CANCEL_ACKNOWLEDGED": "killed or cancelled",
        "DELETED": "deleted",
        "ERROR": "failed",
        "COMPLETE": "ended without a result",
        "RUNNING": "running",
        "QUEUED": "queued",
    }.get(session.status, session.status.lower().replace("_", " ") or "not watched yet")


def as_table(run: Run, rows: list[SessionReport]) -> str:
    """The report as text, a row a session, with what the columns mean below."""
    header = ["session", "device", "from", "done", "published", "lost", "at most", "ended"]
    body = [
        [
            str(row.session.number),
            (row.session.trains_on or row.session.device) + (", here" if row.session.here else ""),
            f"t{row.began:,}",
            "unknown" if row.reached is None else f"t{row.reached:,}",
            f"t{row.published:,}",
            "unknown" if row.lost is None else f"{row.lost:,} timesteps",
            row.bound,
            row.ended,
        ]
        for row in rows
    ]
    total = run.config.total_timesteps
    final = max(
        (max(row.published, row.reached or 0 if row.session.result == "finished" else 0) for row in rows), default=0
    )
    state = "finished" if final >= total else "not finished yet"
    return "\n".join(
        [
            f"Run {run.run_id} on {run.target}: {final:,} of {total:,} timesteps safe, {state}.",
            *columns(header, body),
            "lost = done before the end, less the last published checkpoint; "
            "at most = one publish interval, the most that a kill can cost.",
        ]
    )


def document(run: Run, rows: list[SessionReport]) -> documents.RunReport:
    """What `report --json` has."""
    return documents.RunReport(
        run_id=run.run_id,
        target=run.target,
        total_timesteps=run.config.total_timesteps,
        sessions=tuple(
            documents.SessionReport(
                session=row.session.number,
                slug=run.slug(row.session.number),
                device=row.session.trains_on or row.session.device,
                target=row.session.target,
                status=row.session.status,
                result=row.session.result,
                from_timesteps=row.began,
                done_timesteps=row.reached,
                published_timesteps=row.published,
                lost_timesteps=row.lost,
                bound=row.bound,
                ended=row.ended,
            )
            for row in rows
        ),
    )


def columns(header: list[str], body: list[list[str]]) -> list[str]:
    """Rows of text in aligned columns under `header`."""
    widths = [max(len(row[at]) for row in [header, *body]) for at in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *body]]
    return [lines[0].rstrip(), "  ".join("-" * width for width in widths), *(line.rstrip() for line in lines[1:])]


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    seconds = max(0, round(seconds))
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"
