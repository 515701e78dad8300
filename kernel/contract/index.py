"""What index.json of a dataset version tells of replay chunks that are not in it: in which version of which dataset.

    {"checkpoints": [{"num_timesteps": 4000, "chunks": [
        {"file": "chunk_5f70….bin", "sha256": "5f70…", "size": 8388608, "dataset": "alice/my-run-replay", "version": 3},
        {"file": "chunk_91cc….bin", "sha256": "91cc…", "size": 120331}]}]}

It came over the network: what is no such text tells nothing. A chunk is known by its sha256 wherever it is found, so a
place that is wrong costs a look and never a run. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel.contract.chunks import Chunk


@dataclass(frozen=True)
class Place:
    """Where a replay chunk was published."""

    dataset: str
    """`owner/slug`."""
    version: int


def entry(chunk: Chunk) -> dict[str, Any]:
    """What is told of a chunk, but for its place."""
    return {"file": chunk.name, "sha256": chunk.sha256, "size": chunk.size}


@dataclass(frozen=True)
class Elsewhere:
    """A chunk that another dataset holds, as told."""

    size: int
    place: Place


def elsewhere(text: str | bytes, dataset: str) -> dict[int, dict[str, Elsewhere]]:
    """Chunks by their names that `dataset` holds, of each checkpoint that the index tells of, by its timestep."""
    try:
        return {
            int(checkpoint["num_timesteps"]): {
                str(chunk["file"]): Elsewhere(int(chunk["size"]), Place(dataset, int(chunk["version"])))
                for chunk in checkpoint.get("chunks", [])
                if chunk.get("dataset") == dataset
            }
            for checkpoint in json.loads(text)["checkpoints"]
        }
    except _UNREADABLE:
        return {}


def is_of(text: str | bytes, sizes: Mapping[str, int]) -> bool:
    """Whether a version that lists files of these `sizes` [B] is what its index says: files came in half before now."""
    try:
        checkpoints = json.loads(text)["checkpoints"]
        told = [*checkpoints, *(chunk for one in checkpoints for chunk in one.get("chunks", []))]
        return all(sizes.get(one["file"], one["size"]) == one["size"] for one in told)
    except _UNREADABLE:
        return False


_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
