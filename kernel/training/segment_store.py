"""A replay buffer on the disk, as segments of rows that are written once and shared by the checkpoints that follow.

    checkpoints/replay/replay_0_4000_1f6a09b2.bin    rows [0, 4000), named by the head of its sha256

A checkpoint lists the segments that hold its rows. A new segment takes in the last ones that are not longer than it,
so their number grows as the logarithm of the rows. What the buffer holds is part of the state's digest whatever the
segments are: rows are hashed in blocks of BLOCK, each over the hash of the one before.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernel.checkpoints import checkpoint
from kernel.contract.manifest import CheckpointInvalid
from kernel.training import codec

BLOCK = 1000
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Segment:
    """Rows [first, last) of everything the run ever put into its replay buffer."""

    first: int
    last: int
    name: str
    sha256: str
    size: int


class SegmentStore:
    """Writes rows as they are handed over; lives in the writer's thread."""

    def __init__(self, folder: Path, buffer_size: int) -> None:
        self.folder = folder
        self.rows = 0
        self.segments: list[Segment] = []
        self._buffer_size = buffer_size
        self._chain = ""
        self._block: list[Arrays] = []
        self._pending: list[Arrays] = []

    def add(self, rows: Arrays) -> None:
        """Rows that follow those added before; kept in memory until `commit` has written them."""
        count = len(rows["actions"])
        if count == 0:
            return
        self._pending.append(rows)
        self._block.append(rows)
        self.rows += count
        self._close_blocks()

    def state(self) -> dict[str, Any]:
        """What the exact state says of the buffer."""
        return {"rows": self.rows, "chain": self._chain, "digest": _hash(self._chain, self._block)}

    def commit(self) -> list[dict[str, Any]]:
        """Write what is pending; the segments that hold every row the buffer or the next block needs.

        Raises
        ------
        OSError
            The disk; the rows stay pending.
        """
        if self._pending:
            rows = _joined(self._pending)
            first = self.rows - len(rows["actions"])
            kept = list(self.segments)
            while kept and kept[-1].last - kept[-1].first <= self.rows - first:
                merged = kept.pop()
                rows = _joined([self._read(merged), rows])
                first = merged.first
            self.folder.mkdir(exist_ok=True)
            self.segments = [*kept, self._write(first, rows)]
            self._pending.clear()
        needed = first_needed(self.rows, self._buffer_size)
        self.segments = [s for s in self.segments if s.last > needed]
        return [asdict(segment) for segment in self.segments]

    def load(self, saved: dict[str, Any], listed: list[dict[str, Any]]) -> tuple[int, Arrays]:
        """Begin where a checkpoint ends: (first row, rows) that its segments hold.

        Raises
        ------
        CheckpointInvalid
            A segment is missing, altered or leaves a gap, or the rows are not those of the checkpoint.
        """
        self.segments = [Segment(**entry) for entry in listed]
        self.rows, self._chain = int(saved["rows"]), str(saved["chain"])
        if not self.segments:
            if self.rows:
                raise CheckpointInvalid("it lists no replay segments")
            return 0, {}
        rows = _joined([self._read(segment) for segment in self.segments])
        first = self.segments[0].first
        gap = any(a.last != b.first for a, b in zip(self.segments, self.segments[1:], strict=False))
        short = first > first_needed(self.rows, self._buffer_size)
        if gap or short or first + len(rows["actions"]) != self.rows:
            raise CheckpointInvalid("its replay segments do not hold all rows")
        boundary = self.rows - self.rows % BLOCK
        self._block = [{name: values[boundary - first :] for name, values in rows.items()}]
        if _hash(self._chain, self._block) != saved["digest"]:
            raise CheckpointInvalid("its replay segments are not those it was written with")
        return first, rows

    def _close_blocks(self) -> None:
        boundary = self.rows - self.rows % BLOCK
        block = _joined(self._block)
        begins = self.rows - len(block["actions"])
        while begins + BLOCK <= boundary:
            closed = {name: values[:BLOCK] for name, values in block.items()}
            block = {name: values[BLOCK:] for name, values in block.items()}
            self._chain = _hash(self._chain, [closed])
            begins += BLOCK
        self._block = [block]

    def _write(self, first: int, rows: Arrays) -> Segment:
        data = codec.encode({"first": first, "rows": rows})
        digest = hashlib.sha256(data).hexdigest()
        name = f"replay_{first}_{first + len(rows['actions'])}_{digest[:8]}.bin"
        try:
            checkpoint.write_new(self.folder / name, data)
        except FileExistsError:
            if hashlib.sha256((self.folder / name).read_bytes()).hexdigest() != digest:
                (self.folder / name).unlink()
                checkpoint.write_new(self.folder / name, data)
        return Segment(first, first + len(rows["actions"]), name, digest, len(data))

    def _read(self, segment: Segment) -> Arrays:
        try:
            data = (self.folder / segment.name).read_bytes()
        except OSError as error:
            raise CheckpointInvalid(f"replay segment {segment.name} cannot be read") from error
        if hashlib.sha256(data).hexdigest() != segment.sha256:
            raise CheckpointInvalid(f"replay segment {segment.name} does not have the sha256 that the manifest names")
        return codec.decode(data)["rows"]


def first_needed(rows: int, buffer_size: int) -> int:
    """The oldest row that the buffer still holds or that the open block begins with."""
    return max(0, min(rows - buffer_size, rows - rows % BLOCK))


def _joined(parts: list[Arrays]) -> Arrays:
    return parts[0] if len(parts) == 1 else {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}


def _hash(before: str, parts: list[Arrays]) -> str:
    digest = hashlib.sha256(before.encode())
    if parts:
        for name, values in sorted(_joined(parts).items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
