"""`kaglaunch resume`: go on from the newest verified checkpoint in a new session, on the target or on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import typer

from launcher import downloads, screen
from launcher.commands import push, watch
from launcher.commands.say import say
from launcher.errors import CredentialsError
from launcher.runs import report
from launcher.runs.run import Next, RunHandle
from launcher.waiting import waiting


def resume(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool, here: bool = False) -> None:
    """Start the next session of `run_id`, or of the newest run; say so when the run is finished."""
    handle = RunHandle.of(run_id, downloads.for_terminal(say))
    if here:
        _resume_here(handle, flags, watch_it)
        return
    say(str(handle.target))
    with waiting(f"Asking {handle.target.place} for run {handle.run_id}"):
        handle.connect()
    with downloads.between_files(handle, f"Looking for the newest checkpoint of run {handle.run_id}"):
        following = handle.next_session(flags)
    if _said_finished(handle, following):
        return
    _say_start(handle, following)
    with downloads.between_files(handle, f"Pushing session {following.number} to {handle.target.place}"):
        pushed = handle.push(following)
    push.say_started(handle, pushed)
    if watch_it:
        watch.watch_newest(handle, following.settings.watch, json_lines=False)


def _resume_here(handle: RunHandle, flags: Mapping[str, Any], watch_it: bool) -> None:
    """The next session in a process of this machine that outlives this command."""
    with contextlib.suppress(CredentialsError):  # what is here is gone on from, and that is said then
        say(str(handle.target))
    with downloads.between_files(handle, f"Looking for the newest checkpoint of run {handle.run_id}"):
        following = handle.next_session_here(flags)
    if _said_finished(handle, following):
        return
    _say_start(handle, following)
    process = handle.start_here(following, flags.get("session", {}).get("max_hours"))
    say(
        f"Session {following.number} of run {handle.run_id} runs on this machine (process {process}, "
        f"{following.settings.session.device}); its checkpoints go to {handle.run.checkpoints}. Ctrl-C writes a last "
        "one and ends it."
    )
    if not watch_it:
        say(f"Next: kaglaunch watch {handle.run_id}")
        return
    watched = handle.watch_here(screen.for_terminal(False), following.settings.watch)
    watch.say_end(handle, watched)


def _said_finished(handle: RunHandle, following: Next) -> bool:
    """Whether nothing is left to do, which is said then."""
    if not following.finished or following.start.newest is None:
        return False
    total = following.total_timesteps
    say(f"Run {handle.run_id} is finished: {total:,} of {total:,} timesteps, in {following.start.newest.path}.")
    typer.echo(report.as_table(handle.run, handle.report()))
    return True


def _say_start(handle: RunHandle, following: Next) -> None:
    """Where the next session starts."""
    start = following.start
    if start.newest is None:
        say(f"No checkpoint of run {handle.run_id} was published: session {following.number} starts at timestep 0.")
    else:
        say(f"Going on from t{start.num_timesteps:,} ({start.newest.origin}, {start.newest.verdict}).")
