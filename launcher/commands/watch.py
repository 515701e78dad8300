"""`kaglaunch watch`: follow the newest session of a run to its end, and a relay from session to session."""

from __future__ import annotations

import typer

from launcher import screen, streams
from launcher.commands.say import say
from launcher.config import WatchSettings
from launcher.errors import LauncherError
from launcher.runs import report
from launcher.runs.run import RunHandle, Watched
from launcher.waiting import waiting


def watch(run_id: str | None, *, json_lines: bool) -> None:
    """Follow the newest session of `run_id`, or of the newest run; in a relay, session after session."""
    streams.end_with_reader()
    handle = RunHandle.of(run_id)
    if not handle.newest.here:
        with waiting(f"Asking {handle.target.place} for run {handle.run_id}"):
            handle.connect()

    def waits(ended: LauncherError) -> None:
        say(f"{ended}\nA relay of this run is on: waiting for its next session.", err=json_lines)

    watched = handle.watch_to_the_end(lambda: screen.for_terminal(json_lines), waits=waits)
    if not json_lines:
        say_end(handle, watched)
        say(f"Next: kaglaunch fetch-checkpoints {handle.run_id}")


def watch_newest(handle: RunHandle, limits: WatchSettings, *, json_lines: bool) -> None:
    """Follow the newest session and say how it ended.

    Raises
    ------
    KernelFailed, SessionCut, AlertStop
        The session did not end well.
    """
    watched = handle.watch(screen.for_terminal(json_lines), limits)
    if json_lines:
        handle.outcome(watched)
        return
    say_end(handle, watched)
    say(f"Next: kaglaunch fetch-checkpoints {handle.run_id}")


def say_end(handle: RunHandle, watched: Watched) -> None:
    """How a session ended that finished its run; raises what it ended with otherwise."""
    say(handle.outcome(watched))
    typer.echo(report.as_table(handle.run, handle.report()))
