"""Whether a run equals one that was never interrupted: proved up to a timestep, not known, or not so since one.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path

from kernel.contract import typed
from kernel.contract.files import write_aside
from kernel.contract.names import EXACTNESS
from kernel.contract.record import Record


class Standing(StrEnum):
    """What may be said of a run."""

    proved = "proved"
    """A fresh process began at an earlier checkpoint and came to the same state, bit for bit."""
    unproved = "unproved"
    """Nothing speaks against it, and nobody has looked."""
    inexact = "inexact"
    """From some timestep on it may be another run than one that was never interrupted."""


class Exactness(Record):
    """What is known of a run up to one of its checkpoints."""

    proved_to: int | None = None
    """Newest timestep whose state a fresh process gave again from an earlier checkpoint; null where none did."""
    inexact_since: int | None = None
    """Timestep from which on it may be another run; null where nothing says so."""
    reason: str = ""
    """Why it is inexact, or why nothing was proved."""

    @property
    def standing(self) -> Standing:
        """In one word."""
        if self.inexact_since is not None:
            return Standing.inexact
        return Standing.unproved if self.proved_to is None else Standing.proved

    @property
    def is_exact(self) -> bool:
        """Whether nothing speaks against it."""
        return self.inexact_since is None

    def inexact(self, num_timesteps: int, reason: str) -> Exactness:
        """What is known once `reason` was found at `num_timesteps`; the first one found stays."""
        if self.inexact_since is not None:
            return self
        return dataclasses.replace(self, inexact_since=num_timesteps, reason=reason)

    def proved(self, num_timesteps: int) -> Exactness:
        """What is known once the state of `num_timesteps` was given again; of an inexact run that proves nothing."""
        if self.inexact_since is not None and num_timesteps >= self.inexact_since:
            return self
        reason = self.reason if self.inexact_since is not None else ""
        return dataclasses.replace(self, proved_to=max(self.proved_to or 0, num_timesteps), reason=reason)

    def unproved(self, reason: str) -> Exactness:
        """What is known once proving it did not come to an end, because of `reason`."""
        return self if self.inexact_since is not None else dataclasses.replace(self, reason=reason)

    def joined(self, other: Exactness) -> Exactness:
        """What is known by both: the earliest reason against it, the newest proof before that."""
        both = [one for one in (self, other) if one.inexact_since is not None]
        first = min(both, key=lambda one: one.inexact_since or 0) if both else dataclasses.replace(self, proved_to=None)
        known = dataclasses.replace(first, proved_to=None)
        for proved_to in (self.proved_to, other.proved_to):
            if proved_to is not None:
                known = known.proved(proved_to)
        return known if known.reason or not known.is_exact else known.unproved("" if known.proved_to else other.reason)


def tell(known: Exactness, folder: Path) -> None:
    """Write what a session's parent knows to its `folder`, for the trainer's next checkpoints.

    Raises
    ------
    OSError
        The disk.
    """
    write_aside(folder / EXACTNESS, json.dumps(typed.plain(known), sort_keys=True).encode())


def told(folder: Path) -> Exactness:
    """What the parent wrote to `folder`; nothing where it wrote nothing that can be read."""
    try:
        return typed.read(Exactness, json.loads((folder / EXACTNESS).read_text("utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        return Exactness()
