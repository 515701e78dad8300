"""`kaglaunch relay`: chain sessions of a run, unattended, until all of its timesteps are done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from launcher import downloads, screen
from launcher.commands.say import say
from launcher.runs import report
from launcher.runs.records import Relay
from launcher.runs.run import RunHandle


def relay(run_id: str | None, *, flags: Mapping[str, Any]) -> None:
    """Chain sessions of `run_id`, or of the newest run; a relay that was interrupted goes on as it was asked for."""
    handle = RunHandle.of(run_id, downloads.for_terminal(say))
    say(str(handle.target))
    relay_to_the_end(handle, flags)


def relay_to_the_end(handle: RunHandle, flags: Mapping[str, Any]) -> None:
    """Relay `handle`, and say how it ended."""

    def begins(wish: Relay) -> None:
        limit = f"{wish.max_hours:g} h a session on {'the CPU' if wish.device == 'cpu' else wish.accelerator}"
        say(
            f"Relay of run {handle.run_id}: sessions follow each other until {handle.total_timesteps:,} "
            f"timesteps are done, {limit}. It goes on after an interruption: `kaglaunch relay {handle.run_id}`."
        )

    start = handle.relay(flags, lambda: screen.for_terminal(False), begins)
    say(f"Run {handle.run_id} is finished: {start.num_timesteps:,} timesteps, in {handle.run.checkpoints}.")
    typer.echo(report.as_table(handle.run, handle.report()))
