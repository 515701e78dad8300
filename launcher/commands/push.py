"""`kaglaunch push`: check, pack and start the first session of a new run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from kernel.contract.config import RunConfig
from launcher import config, downloads, transfers
from launcher.checks.preflight import Report
from launcher.commands import relay, watch
from launcher.commands.say import say
from launcher.documents import printed
from launcher.packing import wheels
from launcher.runs import submission
from launcher.runs.proposal import Proposal, document, propose
from launcher.runs.run import Pushed, RunHandle
from launcher.targets import target
from launcher.waiting import waiting


def push(
    *,
    quick: bool,
    forced: target.TargetName | None,
    flags: Mapping[str, Any],
    waive: Sequence[str],
    dry_run: bool,
    watch_it: bool,
    relay_it: bool,
    as_json: bool,
    name: str | None = None,
    note: str = "",
    tags: Sequence[str] = (),
) -> None:
    """Start a new run, or with `dry_run` show what would be pushed.

    Raises
    ------
    PreflightFailed
        A check failed that was not waived; nothing was spent.
    """
    effective = config.resolve(flags, quick=quick)
    chosen = target.choose(forced)
    tell = _stderr if as_json else say
    tell(str(chosen))
    if not dry_run:
        submission.require_training(chosen)
    shown = transfers.PlainTransfers(_stderr) if as_json else downloads.for_terminal(say)
    with waiting(f"Packing, and asking {chosen.place} who we are") as step:
        proposal = propose(
            effective, chosen, quick=quick, waive=waive, name=name, note=note, tags=tags, transfers=shown
        )
        report = proposal.examine(step, relay=relay_it)
    proposed = document(proposal, report)
    if dry_run:
        typer.echo(printed.text(proposed) if as_json else describe(proposal, report))
        report.refuse()
        return
    for line in report.lines(everything=False):
        tell(line)
    with waiting(f"Pushing it to {chosen.place}"):
        pushed = proposal.start(report)
    handle = proposal.handle
    if as_json:
        typer.echo(printed.line(proposed.pushed(handle.run_id, pushed.address)))
    else:
        say_started(handle, pushed)
    if relay_it:
        relay.relay_to_the_end(handle, flags)
    elif watch_it:
        watch.watch_newest(handle, effective.settings.watch, json_lines=as_json)


def say_started(handle: RunHandle, pushed: Pushed) -> None:
    """What was started, and what to type next."""
    run, kernel, run_config = handle.run, pushed.prepared.kernel, pushed.prepared.configuration.run
    say(
        f"Pushed session {pushed.number} of run {run.run_id}: {asked_for(run_config)}, a checkpoint "
        f"every {run_config.checkpoint_freq:,}, {kernel.accelerator or 'CPU'}, at most {kernel.timeout_s / 3600:g} h "
        f"({len(kernel.script):,} bytes)."
    )
    say(f"  page        {pushed.address}")
    say(f"  checkpoints dataset {run.dataset}, and {run.checkpoints} once fetched")
    say(f"Next: kaglaunch watch {run.run_id}")


def asked_for(run: RunConfig) -> str:
    """The timesteps of a run as they were asked for, and what they come to."""
    asked, whole = run.total_timesteps, run.whole_timesteps
    return f"{asked:,} timesteps" + (f", {whole:,} with whole rollouts" if whole != asked else "")


def describe(proposal: Proposal, report: Report) -> str:
    """Exactly what a push would send, for a person."""
    kernel, built, run = proposal.prepared.kernel, proposal.prepared.bundle, proposal.run
    own = {name: built.files[name] for name in built.project}
    library = [size for name, size in built.files.items() if name.startswith(wheels.LIBRARIES)]
    rest = {
        name: size for name, size in built.files.items() if name not in own and not name.startswith(wheels.LIBRARIES)
    }
    libraries = " and ".join(one.project for one in wheels.needed(run.config.algorithm))
    lines = [
        "Nothing was pushed (--dry-run). A push would send:",
        f"  kernel      {run.username}/{kernel.slug}, private, internet on, {kernel.accelerator or 'CPU'}, "
        f"session limit {kernel.timeout_s} s",
        f"  datasets    {', '.join(kernel.dataset_sources) or 'none attached'}; checkpoints go to {run.dataset}",
        f"  script      {len(kernel.script):,} bytes, sha256 {built.digest}",
        f"  holds       {len(built.files)} files, {sum(built.files.values()):,} bytes:",
        *(f"    {size:>9,}  {name}  (yours)" for name, size in own.items()),
        *(f"    {size:>9,}  {name}" for name, size in rest.items()),
        f"    {sum(library):>9,}  {len(library)} files of {libraries}",
        "Its configuration, and where each value comes from:",
        *proposal.effective.lines(),
        "What the kernel is told:",
        json.dumps(json.loads(proposal.prepared.configuration.to_json()), indent=2),
        "The checks and the plan:",
        *report.lines(everything=True),
    ]
    return "\n".join(lines)


def _stderr(text: str) -> None:
    say(text, err=True)
