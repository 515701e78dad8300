"""`kaglaunch note`: what a person wrote down about a run, shown or changed."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.commands.say import say
from launcher.runs.ledger import Ledger


def note(run_id: str, *, text: str | None, tags: Sequence[str], untag: Sequence[str]) -> None:
    """Change note and tags of a run where something is given, and show them."""
    book = Ledger()
    run = book.run(run_id)
    if text is not None or tags or untag:
        kept = [tag for tag in dict.fromkeys((*run.tags, *tags)) if tag not in untag]
        book.describe_run(run.run_id, note=text, tags=kept)
        run = book.run(run.run_id)
    say(f"note  {run.note or 'none'}")
    say(f"tags  {', '.join(run.tags) or 'none'}")
