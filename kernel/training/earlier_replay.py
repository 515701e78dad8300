"""The replay buffer of a checkpoint that version 0.1 wrote: read only.

Its segments are trees of `kernel.training.codec`, cut where checkpoints happened to be. Its digest goes over blocks of
1000 rows, each over the digest of the one before; of these the last, unfinished block can be computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernel.contract.chunks import Chunk
from kernel.contract.manifest import CheckpointInvalid
from kernel.training import codec
from kernel.training.row_packing import Arrays

_BLOCK = 1000


def segments(folder: Path, saved: Any, listed: list[Chunk], buffer_size: int) -> Iterator[tuple[int, Arrays]]:
    """First row and rows of each segment; what is wrong with all of them together is said at the end.

    Raises
    ------
    CheckpointInvalid
        One is missing or altered, or the rows are not those of the checkpoint.
    """
    if not codec.is_like(saved, {"rows": 0, "chain": "", "digest": ""}) or saved["rows"] < 0:
        raise CheckpointInvalid("its state does not say what its replay buffer holds")
    boundary = saved["rows"] - saved["rows"] % _BLOCK
    ends = [listed[0].first, listed[-1].last] if listed else [saved["rows"], 0]
    if ends[0] > max(0, min(saved["rows"] - buffer_size, boundary)) or ends[1] != saved["rows"]:
        raise CheckpointInvalid("its replay segments do not hold all rows")
    block: list[Arrays] = []
    for segment in listed:
        rows = _read(folder, segment)
        block.append({name: values[max(0, boundary - segment.first) :] for name, values in rows.items()})
        yield segment.first, rows
    digest = hashlib.sha256(saved["chain"].encode())
    for name in sorted(block[0] if block else ()):
        digest.update(name.encode())
        for part in block:
            digest.update(np.ascontiguousarray(part[name]).tobytes())
    if digest.hexdigest() != saved["digest"]:
        raise CheckpointInvalid("its replay segments are not those it was written with")


def _read(folder: Path, segment: Chunk) -> Arrays:
    try:
        data = (folder / segment.name).read_bytes()
    except OSError as error:
        raise CheckpointInvalid(f"replay segment {segment.name} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise CheckpointInvalid(f"replay segment {segment.name} does not have the sha256 that the manifest names")
    rows: Arrays = codec.decode(data)["rows"]
    if any(len(values) != segment.last - segment.first for values in rows.values()):
        raise CheckpointInvalid(f"replay segment {segment.name} has not the rows that the manifest names")
    return rows
