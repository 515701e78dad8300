"""Chunks of a replay buffer as files: where they lie beside a checkpoint, and whether all that it lists are there.

    checkpoints/replay/chunk_5f70bf18…e6a2.bin    named by the sha256 of what is in it, written once, never changed

A chunk holds rows [first, last) of everything the run ever put into its buffer. Checkpoints share chunks: only the last
one of each is its own, until the rows that are still missing in it have come; the others are sealed. Versions up to 0.1
cut rows where their checkpoints happened to be, and named the files otherwise (`replay_0_4000_1f6a09b2.bin`); both are
read.

Standard library only; what is in them is `kernel.training.replay_store`'s.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.contract.files import aside
from kernel.contract.manifest import CheckpointInvalid, Manifest

FOLDER = "replay"
DETAIL = "chunks"
"""Where a manifest's details list them."""
ROWS_DETAIL = "chunk_rows"
"""And say how many rows a whole one has: it is sealed once its last row is a multiple of them."""
_EARLIER_DETAIL = "segments"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EARLIER_NAME = re.compile(r"replay_\d+_\d+_[0-9a-f]{8}\.bin")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Rows [first, last), in a file of `size` bytes [B]."""

    first: int
    last: int
    sha256: str
    size: int
    name: str

    @classmethod
    def named(cls, first: int, last: int, sha256: str, size: int) -> Chunk:
        """One whose name is what is in it."""
        return cls(first, last, sha256, size, f"chunk_{sha256}.bin")

    def entry(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"first": self.first, "last": self.last, "sha256": self.sha256, "size": self.size}


def listed(manifest: Manifest) -> list[Chunk]:
    """The chunks that a checkpoint needs, in the order of their rows; none where it has no replay buffer.

    Raises
    ------
    CheckpointInvalid
        An entry that is not whole, a gap between two, or a name that is none of ours: it could lead anywhere.
    """
    key = DETAIL if DETAIL in manifest.details else _EARLIER_DETAIL
    entries = manifest.details.get(key, [])
    if not isinstance(entries, list):
        raise CheckpointInvalid("its list of replay chunks is none")
    found = [_read(entry, earlier=key == _EARLIER_DETAIL) for entry in entries]
    if any(one.last != following.first for one, following in itertools.pairwise(found)):
        raise CheckpointInvalid("its replay chunks leave a gap")
    return found


def sealed(manifest: Manifest) -> list[Chunk]:
    """Those of `listed` that no later checkpoint changes; none where the manifest does not say which they are.

    Raises
    ------
    CheckpointInvalid
        As `listed` does.
    """
    rows = manifest.details.get(ROWS_DETAIL)
    if type(rows) is not int or rows < 1 or is_of_earlier_version(manifest):
        return []
    return [chunk for chunk in listed(manifest) if chunk.last % rows == 0]


def is_of_earlier_version(manifest: Manifest) -> bool:
    """Whether its rows are cut and named as version 0.1 did."""
    return _EARLIER_DETAIL in manifest.details


def _read(entry: Any, *, earlier: bool) -> Chunk:
    keys = {"first", "last", "sha256", "size"} | ({"name"} if earlier else set())
    if isinstance(entry, Mapping) and set(entry) == keys:
        first, last, sha256, size = (entry[key] for key in ("first", "last", "sha256", "size"))
        numbers = all(type(number) is int and number >= 0 for number in (first, last, size))
        if numbers and first < last and isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            if not earlier:
                return Chunk.named(first, last, sha256, size)
            if _EARLIER_NAME.fullmatch(str(entry["name"])):
                return Chunk(first, last, sha256, size, str(entry["name"]))
    raise CheckpointInvalid(f"it lists a replay chunk {entry!r}"[:200])


def path_of(checkpoint: Path, chunk: Chunk, apart: Path | None = None) -> Path:
    """Where a chunk of a checkpoint lies: in a folder of its own, in `apart`, or flat where it was published."""
    for folder in (checkpoint.parent / FOLDER, *([apart] if apart else [])):
        if (folder / chunk.name).is_file():
            return folder / chunk.name
    return checkpoint.parent / chunk.name


def is_whole(path: Path, chunk: Chunk) -> bool:
    """Whether the file at `path` is that chunk, every byte of it."""
    return path.is_file() and path.stat().st_size == chunk.size and sha256_of(path) == chunk.sha256


def verify(checkpoint: Path, manifest: Manifest, apart: Path | None = None) -> None:
    """Read every chunk that the checkpoint lists; one that does not lie with it is looked for in `apart`.

    Raises
    ------
    CheckpointInvalid
        One is missing or altered.
    """
    for chunk in listed(manifest):
        if not is_whole(path_of(checkpoint, chunk, apart), chunk):
            raise CheckpointInvalid(f"{checkpoint.name}: replay chunk {chunk.name} is missing or altered")


def copy_all(checkpoint: Path, manifest: Manifest, checkpoints: Path) -> None:
    """Bring the chunks of a verified checkpoint beside those in `checkpoints`."""
    for chunk in listed(manifest):
        target = checkpoints / FOLDER / chunk.name
        if not is_whole(target, chunk):
            target.parent.mkdir(parents=True, exist_ok=True)
            with path_of(checkpoint, chunk).open("rb") as source, aside(target) as copy:
                shutil.copyfileobj(source, copy, _BLOCK_BYTES)


def sha256_of(path: Path) -> str:
    """sha256 of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
