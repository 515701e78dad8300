"""`kaglaunch status`: where the newest session of a run stands on its target."""

from __future__ import annotations

import time

import typer

from launcher import documents, locks
from launcher.documents import Relay, Standing
from launcher.errors import LauncherError
from launcher.runs import report as reporting
from launcher.runs.ledger import Ledger, Run
from launcher.runs.look import Look, look
from launcher.runs.progress import Progress
from launcher.tables import duration
from launcher.waiting import waiting


def asked(run_id: str | None) -> tuple[Standing, LauncherError | None]:
    """Where the newest session of a run stands, its target asked first; why it did not answer, if it did not."""
    book = Ledger()
    run = book.run(run_id)
    found = look([run], book, with_quota=True)[run.run_id]
    return _standing(run, book, found), found.error


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


def status(run_id: str | None, *, as_json: bool) -> None:
    """Show it; what was last seen where the target does not answer.

    Raises
    ------
    BackendUnavailable, CredentialsError
        The target did not answer within a moment.
    """
    with waiting("Asking where the run stands"):
        found, error = asked(run_id)
    if as_json and error is None:
        typer.echo(documents.text(found))
    elif not as_json:
        typer.echo("\n".join(lines(found)))
    if error is not None:
        raise error


def lines(found: Standing) -> list[str]:
    """The same for a person."""
    message = f" {found.message}" if found.message else ""
    said = [f"Session {found.session} of run {found.run_id}: {found.status or 'not asked yet'}.{message}"]
    said += [f"  {line}" for line in reporting.age(found.as_of, found.seen_age_s, "")]
    done = "unknown" if found.done_timesteps is None else f"{found.done_timesteps:,}"
    risk = "" if found.at_risk_timesteps is None else f", {found.at_risk_timesteps:,} at risk"
    said.append(f"  timesteps  {done} of {found.total_timesteps:,} done, {found.safe_timesteps:,} safe{risk}")
    if found.steps_per_s is not None:
        to_go = "" if found.to_go_s is None else f", to go {duration(found.to_go_s)}"
        said.append(f"  speed      {found.steps_per_s:,.1f} timesteps/s{to_go}")
    if found.published_age_s is not None:
        said.append(f"  published  the newest {duration(found.published_age_s)} ago")
    if found.quota_used_h is not None and found.quota_left_h is not None:
        said.append(f"  GPU quota  {found.quota_used_h:.2f} h used this week, {found.quota_left_h:.2f} h left")
    if found.relay is not None:
        said.append(f"  relay      {_told(found.run_id, found.relay)}")
    code = found.code_digest[:12] or "unknown here"
    return [*said, f"  digests    code {code}, configuration {found.config_digest[:12]} (sha256)"]


def _standing(run: Run, book: Ledger, found: Look) -> Standing:
    told = reporting.report(run, book, found)
    session = book.sessions(run.run_id)[-1]
    gone = session.number in found.missing
    slug = run.slug(session.number)
    progress = found.progress.get(session.number, Progress())
    to_go_s = progress.seconds_to_go(progress.last_time) if told.sessions[-1].live else None
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
        done_timesteps=told.sessions[-1].done_timesteps,
        safe_timesteps=told.safe_timesteps,
        at_risk_timesteps=told.sessions[-1].at_risk_timesteps,
        steps_per_s=progress.whole_steps_per_s or progress.steps_per_s,
        to_go_s=None if to_go_s is None else round(to_go_s),
        published_age_s=age_s,
        quota_used_h=found.quota.used_h if found.quota else None,
        quota_left_h=found.quota.left_h if found.quota else None,
        relay=_relay(run, book),
    )


def _relay(run: Run, book: Ledger) -> Relay | None:
    relay = book.relay(run.run_id)
    return Relay(relay.state, relay.note, locks.holder(run.relay_lock)) if relay else None


def _told(run_id: str, relay: Relay) -> str:
    if relay.state != "on":
        return f"{relay.state}: {relay.note}"
    if relay.process is not None:
        return f"at work (process {relay.process}): {relay.note or 'begins'}"
    return f"interrupted ({relay.note or 'at its beginning'}); `kaglaunch relay {run_id}` goes on"
