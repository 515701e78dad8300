"""`kaglaunch push`: check, pack and start the first session of a new run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from launcher import config, ledger, project, pushing, target
from launcher.commands import relay, watch
from launcher.ledger import Ledger, Run
from launcher.pushing import Prepared

logger = logging.getLogger(__name__)


def push(
    *,
    quick: bool,
    forced: target.TargetName | None,
    flags: Mapping[str, Any],
    dry_run: bool,
    watch_it: bool,
    relay_it: bool = False,
) -> None:
    """Start a new run, or with `dry_run` show what would be pushed."""
    settings = config.load(flags, quick=quick)
    chosen = target.choose(forced)
    typer.echo(str(chosen))
    if not dry_run:
        pushing.require_training(chosen)
    backend = chosen.connect()
    run_id = config.new_run_id("quick" if quick else "run")
    run_config = settings.run_config(run_id)
    run = ledger.new_run(run_id, chosen.name.value, backend.username, run_config, Path.cwd())
    own = project.collect(settings.run, Path.cwd())
    prepared = pushing.prepare(run, run_config, 1, settings, chosen, resumes=False, project=own)
    if dry_run:
        typer.echo(describe(run, prepared))
        return
    book = Ledger()
    address = pushing.start(run, prepared, settings, backend, book, after=0)
    say_started(run, 1, prepared, address)
    if relay_it:
        relay.relay_run(run, chosen, book, flags=flags)
    elif watch_it:
        watch.watch_session(run, chosen, backend, book, settings.watch, json_lines=False)


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


def describe(run: Run, prepared: Prepared) -> str:
    """Exactly what a push would send."""
    kernel, built = prepared.kernel, prepared.bundle
    library = {name: size for name, size in built.files.items() if name.startswith("stable_baselines3")}
    own = {name: size for name, size in built.files.items() if name not in library}
    lines = [
        "Nothing was pushed (--dry-run). A push would send:",
        f"  kernel      {run.username}/{kernel.slug}, private, internet on, {kernel.accelerator or 'CPU'}, "
        f"session limit {kernel.timeout_s} s",
        f"  datasets    {', '.join(kernel.dataset_sources) or 'none attached'}; checkpoints go to {run.dataset}",
        f"  script      {len(kernel.script):,} bytes, sha256 {built.digest}",
        f"  holds       {len(built.files)} files, {sum(built.files.values()):,} bytes:",
        *(f"    {size:>9,}  {name}" for name, size in own.items()),
        f"    {sum(library.values()):>9,}  {len(library)} files of the stable-baselines3 wheel",
        "Its configuration:",
        json.dumps(json.loads(prepared.configuration.to_json()), indent=2),
    ]
    return "\n".join(lines)
