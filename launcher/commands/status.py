"""`kaglaunch status`: where the newest session of a run stands on its target."""

from __future__ import annotations

import typer

from launcher.documents import printed
from launcher.documents.runs import Relay, Standing
from launcher.runs import report as reporting
from launcher.runs import standings
from launcher.tables import duration
from launcher.waiting import waiting


def status(run_id: str | None, *, as_json: bool) -> None:
    """Show it; what was last seen where the target does not answer.

    Raises
    ------
    BackendUnavailable, CredentialsError
        The target did not answer within a moment.
    """
    with waiting("Asking where the run stands"):
        found, error = standings.asked(run_id)
    if as_json and error is None:
        typer.echo(printed.text(found))
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
    cost = found.at_risk_timesteps if found.live else found.lost_timesteps
    cost_said = f"{'unknown' if cost is None else f'{cost:,}'} {'at risk' if found.live else 'lost'}"
    said.append(f"  timesteps  {done} of {found.total_timesteps:,} done, {found.safe_timesteps:,} safe, {cost_said}")
    if found.steps_per_s is not None:
        said.append(f"  speed      {found.steps_per_s:,.1f} timesteps/s{_to_go(found)}")
    if found.published_age_s is not None:
        said.append(f"  published  the newest {duration(found.published_age_s)} ago")
    if found.quota_used_h is not None and found.quota_left_h is not None:
        said.append(f"  GPU quota  {found.quota_used_h:.2f} h used this week, {found.quota_left_h:.2f} h left")
    if found.relay is not None:
        said.append(f"  relay      {_told(found, found.relay)}")
    code = found.code_digest[:12] or "unknown here"
    return [*said, f"  digests    code {code}, configuration {found.config_digest[:12]} (sha256)"]


def _to_go(found: Standing) -> str:
    if found.to_go_s is not None:
        return f", to go {duration(found.to_go_s)}"
    if found.live and found.done_timesteps is not None and found.done_timesteps >= found.total_timesteps:
        return ", all timesteps are done; the last publish is to come"
    return ""


def _told(found: Standing, relay: Relay) -> str:
    if relay.state != "on":
        return f"{relay.state}: {relay.note}"
    if relay.process is not None:
        return f"at work (process {relay.process}): {relay.note or 'begins'}"
    if found.safe_timesteps >= found.total_timesteps:
        return "over: all timesteps are done and safe"
    return f"interrupted ({relay.note or 'at its beginning'}); `kaglaunch relay {found.run_id}` goes on"
