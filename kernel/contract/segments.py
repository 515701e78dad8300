"""Replay segments as files: where they lie beside a checkpoint, and whether all that it lists are there and whole.

Standard library only; what is in them is `kernel.training.segment_store`'s.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel.contract.manifest import CheckpointInvalid, Manifest

FOLDER = "replay"
_NAME = re.compile(r"replay_\d+_\d+_[0-9a-f]{8}\.bin")


def listed(manifest: Manifest) -> list[Mapping[str, Any]]:
    """The segments that a checkpoint needs.

    Raises
    ------
    CheckpointInvalid
        An entry that is not whole, or a name that is none of ours: it could lead anywhere.
    """
    entries = manifest.details.get("segments", [])
    if not isinstance(entries, list):
        raise CheckpointInvalid("its list of replay segments is none")
    for entry in entries:
        if not isinstance(entry, Mapping) or not _is_whole(entry):
            raise CheckpointInvalid(f"it lists a replay segment {entry!r}"[:200])
    return entries


def _is_whole(entry: Mapping[str, Any]) -> bool:
    numbers = [entry.get(key) for key in ("first", "last", "size")]
    return (
        bool(_NAME.fullmatch(str(entry.get("name"))))
        and set(entry) == {"first", "last", "name", "sha256", "size"}
        and isinstance(entry["sha256"], str)
        and all(type(number) is int and number >= 0 for number in numbers)
    )


def path_of(checkpoint: Path, name: str) -> Path:
    """Where segment `name` of a checkpoint lies: in a folder of its own, or flat where it was published."""
    own = checkpoint.parent / FOLDER / name
    return own if own.is_file() else checkpoint.parent / name


def verify(checkpoint: Path, manifest: Manifest) -> None:
    """Read every segment that the checkpoint lists.

    Raises
    ------
    CheckpointInvalid
        One is missing or altered.
    """
    for entry in listed(manifest):
        path = path_of(checkpoint, entry["name"])
        if not path.is_file() or path.stat().st_size != entry["size"] or sha256_of(path) != entry["sha256"]:
            raise CheckpointInvalid(f"{checkpoint.name}: replay segment {entry['name']} is missing or altered")


def copy_all(checkpoint: Path, manifest: Manifest, checkpoints: Path) -> None:
    """Bring the segments of a verified checkpoint beside those in `checkpoints`."""
    for entry in listed(manifest):
        target = checkpoints / FOLDER / entry["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file():
            shutil.copyfile(path_of(checkpoint, entry["name"]), target)


def sha256_of(path: Path) -> str:
    """sha256 of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
