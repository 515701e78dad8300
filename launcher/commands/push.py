"""`kaglaunch push`: check, pack and start the first session of a new run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from kernel.contract import typed
from launcher import catalogue, config, documents
from launcher.checks import preflight
from launcher.checks.preflight import Report
from launcher.commands import relay, watch
from launcher.config import Effective
from launcher.documents import Proposed
from launcher.packing import project
from launcher.packing.project import Project
from launcher.runs import ledger, submission
from launcher.runs.ledger import Ledger, Run
from launcher.runs.submission import Prepared
from launcher.targets import target
from launcher.targets.base import Backend
from launcher.targets.target import Target


@dataclass(frozen=True)
class Proposal:
    """A new run that could be pushed, with everything that a push of it needs."""

    effective: Effective
    target: Target
    backend: Backend
    run: Run
    project: Project
    prepared: Prepared
    waived: tuple[str, ...]

    def examine(self, note: Callable[[str], None], *, relay: bool = False, again: bool = False) -> Report:
        """Its checklist; with `relay` the plan may take more than one session."""
        return preflight.run(
            self.prepared,
            self.project,
            self.effective.settings,
            self.target,
            self.backend,
            waived=self.waived,
            note=note,
            relay=relay,
            again=again,
        )


def propose(
    effective: Effective,
    chosen: Target,
    *,
    quick: bool,
    waive: Sequence[str],
    name: str | None = None,
    note: str = "",
    tags: Sequence[str] = (),
) -> Proposal:
    """A run of this folder under a new name, which begins with `name`; nothing is sent or written.

    Raises
    ------
    ConfigError
        No check is called as in `waive`, no run can be called `name`, or there is no such environment.
    SecretFound, BundleError
        It cannot be packed.
    """
    waived = preflight.require_names(waive)
    settings = effective.settings
    prefix = config.run_prefix(name) if name is not None else "quick" if quick else "run"
    catalogue.require_environment(settings.run.env, effective.called("env"), Path.cwd(), settings.run.include)
    own = project.collect(settings.run, Path.cwd())
    backend = chosen.connect()
    run_id = config.new_run_id(prefix)
    run_config = settings.run_config(run_id)
    run = ledger.new_run(run_id, chosen.name.value, backend.username, run_config, Path.cwd(), note=note, tags=tags)
    prepared = submission.prepare(run, run_config, 1, settings, chosen, resumes=False, project=own, waived=waived)
    return Proposal(effective, chosen, backend, run, own, prepared, waived)


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
) -> str | None:
    """Start a new run and return its name, or with `dry_run` show what would be pushed.

    Raises
    ------
    PreflightFailed
        A check failed that was not waived; nothing was spent.
    """
    effective = config.resolve(flags, quick=quick)
    chosen = target.choose(forced)
    say = _stderr if as_json else typer.echo
    say(str(chosen))
    if not dry_run:
        submission.require_training(chosen)
    proposal = propose(effective, chosen, quick=quick, waive=waive, name=name, note=note, tags=tags)
    report = proposal.examine(say, relay=relay_it)
    proposed = document(proposal, report)
    if dry_run:
        typer.echo(documents.text(proposed) if as_json else describe(proposal, report))
        report.refuse()
        return None
    for line in report.lines(everything=False):
        say(line)
    report.refuse()
    run, settings = proposal.run, effective.settings
    prepared = dataclasses.replace(proposal.prepared, record=typed.plain(proposed))
    book = Ledger()
    address = submission.start(run, prepared, settings, proposal.backend, book, after=0)
    if as_json:
        typer.echo(documents.line(proposed.pushed(run.run_id, address)))
    else:
        say_started(run, 1, prepared, address)
    if relay_it:
        relay.relay_run(run, chosen, book, flags=flags)
    elif watch_it:
        watch.watch_session(run, chosen, proposal.backend, book, settings.watch, json_lines=as_json)
    return run.run_id


def say_started(run: Run, number: int, prepared: Prepared, address: str) -> None:
    """What was started, and what to type next."""
    kernel, run_config = prepared.kernel, prepared.configuration.run
    typer.echo(
        f"Pushed session {number} of run {run.run_id}: {run_config.total_timesteps:,} timesteps, a checkpoint every "
        f"{run_config.checkpoint_freq:,}, {kernel.accelerator or 'CPU'}, at most {kernel.timeout_s / 3600:g} h "
        f"({len(kernel.script):,} bytes)."
    )
    typer.echo(f"  page        {address}")
    typer.echo(f"  checkpoints dataset {run.dataset}, and {run.checkpoints} once fetched")
    typer.echo(f"Next: kaglaunch watch {run.run_id}")


def document(proposal: Proposal, report: Report) -> Proposed:
    """Exactly what a push sends, where each value came from and what was checked: for JSON and the run's folder."""
    kernel, built, run = proposal.prepared.kernel, proposal.prepared.bundle, proposal.run
    return Proposed(
        target=proposal.target.name.value,
        kernel=documents.Kernel(
            id=f"{run.username}/{kernel.slug}",
            title=kernel.slug,
            is_private=True,
            enable_internet=True,
            accelerator=kernel.accelerator,
            session_timeout_s=kernel.timeout_s,
            dataset_sources=kernel.dataset_sources,
        ),
        dataset=run.dataset,
        script_bytes=len(kernel.script),
        script_sha256=built.digest,
        code_sha256=built.code_digest,
        files=built.files,
        left_out=tuple(proposal.project.left_out),
        configuration=proposal.effective.plain(),
        sent=json.loads(proposal.prepared.configuration.to_json()),
        preflight=report.document(),
    )


def describe(proposal: Proposal, report: Report) -> str:
    """Exactly what a push would send, for a person."""
    kernel, built, run = proposal.prepared.kernel, proposal.prepared.bundle, proposal.run
    own = {name: built.files[name] for name in built.project}
    library = [size for name, size in built.files.items() if name.startswith(preflight.LIBRARY)]
    rest = {
        name: size for name, size in built.files.items() if name not in own and not name.startswith(preflight.LIBRARY)
    }
    lines = [
        "Nothing was pushed (--dry-run). A push would send:",
        f"  kernel      {run.username}/{kernel.slug}, private, internet on, {kernel.accelerator or 'CPU'}, "
        f"session limit {kernel.timeout_s} s",
        f"  datasets    {', '.join(kernel.dataset_sources) or 'none attached'}; checkpoints go to {run.dataset}",
        f"  script      {len(kernel.script):,} bytes, sha256 {built.digest}",
        f"  holds       {len(built.files)} files, {sum(built.files.values()):,} bytes:",
        *(f"    {size:>9,}  {name}  (yours)" for name, size in own.items()),
        *(f"    {size:>9,}  {name}" for name, size in rest.items()),
        f"    {sum(library):>9,}  {len(library)} files of the stable-baselines3 wheel",
        "Its configuration, and where each value comes from:",
        *proposal.effective.lines(),
        "What the kernel is told:",
        json.dumps(json.loads(proposal.prepared.configuration.to_json()), indent=2),
        "The checks and the plan:",
        *report.lines(everything=True),
    ]
    return "\n".join(lines)


def _stderr(text: str) -> None:
    typer.echo(text, err=True)
