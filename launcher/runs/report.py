"""What a run has done, what is safe, what is at risk or was lost: its figures, each with its age."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kernel.contract import names, typed
from kernel.contract.endings import Ending
from kernel.contract.exactness import Exactness
from launcher.documents.runs import RunReport, SessionReport
from launcher.runs import records
from launcher.runs.endings import Submission, ending
from launcher.runs.ledger import Ledger
from launcher.runs.look import Look, settled
from launcher.runs.records import Run, Session
from launcher.tables import columns, duration

WIDTH = 80
"""Columns of a terminal that everybody has."""
FRESH_S = 10.0
"""Figures of a verb that has just looked are told without their age."""
_MEANING = (
    "safe = published, or fetched and verified; at risk = done and not yet safe;\n"
    "lost = done before the end and not safe."
)


def report(run: Run, ledger: Ledger, look: Look | None = None, *, now: Callable[[], float] = time.time) -> RunReport:
    """What the ledger knows of every session of `run`, and `look` besides, which asked the target just now."""
    sessions = ledger.sessions(run.run_id)
    missing = look.missing if look else frozenset()
    later = [*(session.resumed_timesteps or 0 for session in sessions[1:]), _fetched(run)]
    rows = tuple(
        of_session(run, session, had, gone=session.number in missing)
        for session, had in zip(sessions, later, strict=False)
    )
    total = records.total_timesteps(run, sessions)
    safe = max((row.safe_timesteps for row in rows), default=0)
    told_at, known = as_of(sessions, look, now()), exactness_of(sessions)
    return RunReport(
        run_id=run.run_id,
        target=run.target,
        total_timesteps=total,
        note=run.note,
        tags=run.tags,
        safe_timesteps=safe,
        at_risk_timesteps=rows[-1].at_risk_timesteps if rows else 0,
        finished=safe >= total,
        as_of=datetime.fromtimestamp(told_at, UTC).isoformat(timespec="seconds"),
        seen_age_s=max(0, round(now() - told_at)),
        unanswered=str(look.error).splitlines()[0] if look and look.error else "",
        exactness="" if known is None else str(known.standing),
        proved_timesteps=known.proved_to if known else None,
        differs_since_timesteps=known.inexact_since if known else None,
        exactness_reason=known.reason if known else "",
        sessions=rows,
    )


def exactness_of(sessions: Sequence[Session]) -> Exactness | None:
    """What the newest session that said anything knew of the run; None where none did."""
    told = [session.exactness for session in sessions if session.exactness]
    return typed.read(Exactness, json.loads(told[-1])) if told else None


def as_of(sessions: Sequence[Session], look: Look | None, now: float) -> float:
    """The moment for which everything holds that the ledger has of `sessions` [s since the epoch]."""
    if look is not None and look.error is None:
        return now
    seen = [(one.over, max(one.seen_at, one.pushed)) for one in sessions if not settled(one, now)]
    # What is over changes no more; what it published last is seen with the others.
    living = [when for over, when in seen if not over]
    return min(living) if living else max((when for _, when in seen), default=now)


def of_session(run: Run, session: Session, had: int = 0, *, gone: bool = False) -> SessionReport:
    """One session; `had` is a checkpoint of it, or of an earlier one, that was had after its end."""
    total = records.total_timesteps(run, [session])
    began, published = session.resumed_timesteps or 0, session.published_timesteps
    live = not (session.over or gone or session.result)
    finished = session.result == Ending.finished or (session.status == "COMPLETE" and (published or 0) >= total)
    known = [one for one in (session.seen_timesteps, published) if one is not None]
    # Neither a session that waits nor one whose whole log tells no timestep has done any.
    reached = max(known, default=began if session.status == "QUEUED" or session.log_complete else None)
    safe = max(began, published or 0, had, (reached or 0) if session.result == Ending.finished else 0)
    reached = None if reached is None else max(reached, safe)
    unsafe = None if reached is None else reached - safe
    followed = session.log_complete or session.result != ""
    return SessionReport(
        session=session.number,
        slug=run.slug(session.number),
        device=session.trains_on or session.device,
        target=session.target,
        status=session.status,
        result=session.result,
        from_timesteps=began,
        done_timesteps=reached,
        published_timesteps=safe,
        safe_timesteps=safe,
        at_risk_timesteps=unsafe if live else 0,
        lost_timesteps=0 if finished else unsafe if followed and not live else None,
        live=live,
        seen_at=_moment(session.seen_at),
        bound=bound(session, unsafe or 0 if live else 0),
        risk=session.risk_message,
        ended="finished" if finished else "not on the target" if gone else ended(session),
    )


def _fetched(run: Run) -> int:
    """The furthest checkpoint in the run's folder: only what has verified gets its name there."""
    found = (names.num_timesteps_of(path.name) for path in run.checkpoints.glob("checkpoint_t*.zip"))
    return max((timesteps for timesteps in found if timesteps is not None), default=0)


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None


def bound(session: Session, at_risk: int = 0) -> str:
    """What a kill of a session can cost: the most that was at risk so far, and before that what was asked for."""
    if session.here:
        return "one checkpoint interval"
    if session.most_at_risk is not None:
        most = max(session.most_at_risk, at_risk)
        return f"{most:,} timesteps, {duration(session.most_at_risk_s or 0.0)} of work, as measured so far"
    if session.max_timesteps_at_risk:
        return f"{session.max_timesteps_at_risk:,} timesteps, as asked for"
    return f"{duration(session.publish_interval_seconds)} and one upload, as asked for"


def ended(session: Session) -> str:
    """How a session ended, or how it stands, in a word or two."""
    if session.result:
        return session.result
    if session.alert_rule:
        return f"stopped by an alert ({session.alert_rule})"
    if session.submission != Submission.pushed:
        return f"submission {session.submission}"
    if how := ending(session):
        return _ENDED[how]
    return session.status.lower().replace("_", " ") or "not watched yet"


_ENDED = {
    Ending.cut: "killed",
    Ending.cancelled: "cancelled",
    Ending.deleted: "deleted",
    Ending.failed: "failed",
    Ending.silent: "ended without a result",
    Ending.never_ran: "never ran",
}


def as_table(run: Run, told: RunReport) -> str:
    """The report as text, a row a session, with what the columns mean below."""
    header = ["#", "device", "from", "done", "safe", "lost", "ended"]
    body = [
        [
            str(row.session),
            row.device + (", here" if row.target == "here" else ""),
            f"{row.from_timesteps:,}",
            "unknown" if row.done_timesteps is None else f"{row.done_timesteps:,}",
            f"{row.safe_timesteps:,}",
            cost(row),
            row.ended,
        ]
        for row in told.sessions
    ]
    state = "finished" if told.finished else "not finished yet"
    heading = f"Run {run.run_id} on {run.target}: {told.safe_timesteps:,} of {told.total_timesteps:,} timesteps safe, "
    lines = [
        *textwrap.wrap(heading + state + ".", WIDTH, break_on_hyphens=False),
        *age(told.as_of, told.seen_age_s, told.unanswered),
        *columns(header, body, WIDTH),
    ]
    if living := [row for row in told.sessions if row.live]:
        said = f"A kill of session {living[-1].session} costs at most {living[-1].bound}."
        lines += textwrap.wrap(said, WIDTH, break_on_hyphens=False)
    for row in told.sessions:
        if row.risk:
            lines += textwrap.wrap(f"ALERT session {row.session}: {row.risk}", WIDTH, break_on_hyphens=False)
    if told.exactness:
        from launcher.sentences import exactness_sentence  # with every event's class, which most reports need not

        known = Exactness(told.proved_timesteps, told.differs_since_timesteps, told.exactness_reason)
        lines += textwrap.wrap(exactness_sentence(known), WIDTH, break_on_hyphens=False, break_long_words=False)
    return "\n".join([*lines, _MEANING])


def cost(row: SessionReport) -> str:
    """What is not safe of a session, by the right word: at risk while it lives, lost after its end."""
    timesteps = row.at_risk_timesteps if row.live else row.lost_timesteps
    known = "unknown" if timesteps is None else f"{timesteps:,}"
    return f"{known}\N{NO-BREAK SPACE}at\N{NO-BREAK SPACE}risk" if row.live else known


def age(moment: str, seen_age_s: int, unanswered: str) -> list[str]:
    """How old figures are, in a line, where they are not those of this moment."""
    if seen_age_s < FRESH_S and not unanswered:
        return []
    when = f"As of {datetime.fromisoformat(moment).astimezone():%H:%M}, {duration(seen_age_s)} ago."
    return textwrap.wrap(f"{when} {unanswered}".strip(), WIDTH, break_on_hyphens=False, break_long_words=False)
