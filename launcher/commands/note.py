"""`kaglaunch note`: what a person wrote down about a run, shown or changed."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.commands.say import say
from launcher.runs.run import RunHandle


def note(run_id: str, *, text: str | None, tags: Sequence[str], untag: Sequence[str]) -> None:
    """Change note and tags of a run where something is given, and show them."""
    handle = RunHandle.of(run_id)
    before = handle.run.note
    run = handle.describe(note=text, tags=tags, untag=untag)
    say(f"note  {run.note or 'none'}")
    if before and before != run.note:
        say(f"      in place of: {before}")
    say(f"tags  {', '.join(run.tags) or 'none'}")
