"""What the service lists of a dataset, and what that means: whether it holds what was sent, and how far it goes.

A version is known by what it holds, never by the number that it should have: a dataset may be deleted, made anew, or
written by another session meanwhile. Standard library only.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel.contract.names import PUBLISHED_SUFFIX, num_timesteps_of, told_by_version


@dataclass(frozen=True)
class Remote:
    """What the service says of a dataset."""

    exists: bool = False
    ready: bool = False
    """Nothing of it is being processed."""
    version: int | None = None
    """Number of the newest version that is ready."""
    session: int | None = None
    """The session that wrote the newest version, as its notes or its index.json say."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Files of `version` and their bytes."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """Versions that are ready, and their notes."""
    failed: int | None = None
    """Number of the newest version where the service could not process it."""

    refused: bool = False
    """The service did not tell whether there is such a dataset."""
    identity: int = 0
    """Of the dataset: another one where it was deleted and made anew."""

    @property
    def settled(self) -> bool:
        """Whether no version of it is still to come."""
        return not self.exists or self.ready or self.failed is not None


def holds(remote: Remote, num_timesteps: int, session: int, sizes: Mapping[str, int]) -> bool:
    """Whether the newest version that is ready is the one of `session` at `num_timesteps`, with the files of `sizes`.

    The first version of a dataset has a note of the service's own: it is known by its checkpoints, or else its chunks.
    """
    if remote.version is None:
        return False
    told = told_by_version(remote.notes.get(remote.version, ""))
    if told is not None:
        return told == (num_timesteps, session)
    return remote.session == session and _known_by(remote.sizes) == _known_by(sizes)


def wrong_files(sent: Mapping[str, int], listed: Mapping[str, int]) -> list[str]:
    """Files that are missing, and checkpoint files of another size."""
    return [
        name
        for name, size in sorted(sent.items())
        if name not in listed or (name.endswith(PUBLISHED_SUFFIX) and listed[name] != size)
    ]


def safe_timesteps(remote: Remote, spoilt: Container[int] = (), torn: Container[int] = ()) -> int | None:
    """Timestep of the newest checkpoint that the dataset has now; None without one.

    `spoilt` are versions that do not list what was sent, `torn` timesteps whose replay chunks are gone.
    """
    for number in sorted({*remote.notes, *([] if remote.version is None else [remote.version])}, reverse=True):
        if number in spoilt:
            continue
        told = told_by_version(remote.notes.get(number, ""))
        found = max(_checkpoints(remote.sizes), default=None) if number == remote.version else None
        if found is None and number != remote.version and told is not None and told[0] > 0:
            found = told[0]
        if found is not None and found not in torn:
            return found
    return None


def _known_by(sizes: Mapping[str, int]) -> set[Any]:
    return set(_checkpoints(sizes)) or {name for name in sizes if name.endswith(PUBLISHED_SUFFIX)}


def _checkpoints(sizes: Mapping[str, int]) -> set[int]:
    """Timesteps of the checkpoint files: a manifest without its state is none."""
    return {t for name in sizes if (t := num_timesteps_of(name)) is not None}
