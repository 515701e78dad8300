"""Where runs stand now: their targets are asked first, as long as a moment allows."""

from __future__ import annotations

import math
import time

from launcher import locks
from launcher.documents.runs import KnownRun, Relay, RunReport, Standing
from launcher.errors import LauncherError
from launcher.runs import report as reporting
from launcher.runs.ledger import Ledger
from launcher.runs.look import Look, look
from launcher.runs.records import Run


def listing() -> list[KnownRun]:
    """Every run that is known on this machine, newest first; their targets are asked first, all at once."""
    ledger = Ledger()
    known = ledger.runs()
    looks = look(known, ledger)
    return [_row(run, reporting.report(run, ledger, looks[run.run_id])) for run in known]


def _row(run: Run, told: RunReport) -> KnownRun:
    return KnownRun(
        run_id=run.run_id,
        target=run.target,
        age_s=round(time.time() - run.created),
        sessions=len(told.sessions),
        safe_timesteps=told.safe_timesteps,
        total_timesteps=told.total_timesteps,
        at_risk_timesteps=told.at_risk_timesteps,
        state=told.sessions[-1].ended if told.sessions else "no session",
        as_of=told.as_of,
        seen_age_s=told.seen_age_s,
        folder=str(run.folder),
        note=run.note,
        tags=run.tags,
    )


def asked(run_id: str | None) -> tuple[Standing, LauncherError | None]:
    """Where the newest session of a run stands, its target asked first; why it did not answer, if it did not."""
    ledger = Ledger()
    run = ledger.run(run_id)
    found = look([run], ledger, with_quota=True)[run.run_id]
    return _standing(run, ledger, found), found.error


def standing(run_id: str | None) -> Standing:
    """Where the newest session of a run stands.

    Raises
    ------
    BackendUnavailable, CredentialsError
        The target did not answer within a moment.
    """
    found, error = asked(run_id)
    if error is not None:
        raise error
    return found


def _standing(run: Run, ledger: Ledger, found: Look) -> Standing:
    told = reporting.report(run, ledger, found)
    session = ledger.sessions(run.run_id)[-1]
    gone = session.number in found.missing
    slug = run.slug(session.number)
    from launcher.runs.progress import Progress  # with every event's class

    progress = found.progress.get(session.number, Progress())
    row = told.sessions[-1]
    to_go_s = progress.seconds_to_go(progress.last_time) if row.live else None
    if to_go_s == 0.0 and row.at_risk_timesteps != 0:
        to_go_s = None  # the last publish is still to come, and nobody knows how long it takes
    age_s = None if found.published is None else max(0, round(time.time() - found.published.timestamp()))
    return Standing(
        run_id=run.run_id,
        session=session.number,
        target=session.target or run.target,
        slug=slug,
        code_digest=session.code_digest,
        config_digest=session.config_digest or run.config.digest,
        status="NOT_FOUND" if gone else session.status,
        message=f"The target has no kernel {slug} of {run.username}." if gone else session.message,
        as_of=told.as_of,
        seen_age_s=told.seen_age_s,
        total_timesteps=told.total_timesteps,
        done_timesteps=row.done_timesteps,
        safe_timesteps=told.safe_timesteps,
        at_risk_timesteps=row.at_risk_timesteps,
        lost_timesteps=row.lost_timesteps,
        live=row.live,
        risk=row.risk,
        steps_per_s=progress.whole_steps_per_s or progress.steps_per_s,
        to_go_s=None if to_go_s is None else math.ceil(to_go_s),
        published_age_s=age_s,
        quota_used_h=found.quota.used_h if found.quota else None,
        quota_left_h=found.quota.left_h if found.quota else None,
        relay=_relay(run, ledger),
    )


def _relay(run: Run, ledger: Ledger) -> Relay | None:
    relay = ledger.relay(run.run_id)
    return Relay(state=relay.state, note=relay.note, process=locks.holder(run.relay_lock)) if relay else None
