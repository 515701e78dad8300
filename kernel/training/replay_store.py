"""A replay buffer on the disk, as chunks that are written once and shared by the checkpoints that follow.

Rows come in the order in which the buffer took them in. Every `chunk_rows` of them are a chunk: sealed when it is full,
written once, named by what is in it. What is left over is the open chunk, written again with each checkpoint. Never is
more than one chunk of rows in memory here.

What the buffer holds is part of the state's digest, whatever its files are: the state names the digest of each chunk's
rows, and one of all the chunks that the buffer holds no more. Loading computes them again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernel.checkpoints import checkpoint
from kernel.contract import chunks
from kernel.contract.chunks import Chunk
from kernel.contract.files import write_aside
from kernel.contract.manifest import CheckpointInvalid
from kernel.training import codec, row_packing
from kernel.training.row_packing import Arrays

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8 << 20
"""At most, in memory: over the slowest network that is borne with, one is sent within one upload's time."""
LARGEST_CHUNK_BYTES = 16 << 20
"""Of chunks that are read: versions up to 0.1 cut them so."""
SMALLEST_CHUNK_BYTES = 64 << 10
"""No buffer is so small that files of less are worth their names."""
CHUNKS = 32
"""A buffer is cut into so many, where that makes them neither larger nor smaller than these bytes."""

Put = Callable[[int, Arrays], None]


@dataclass
class Held:
    """A sealed chunk that the buffer still needs; without a file where the disk would not take it."""

    first: int
    last: int
    digest: str
    chunk: Chunk | None


class ReplayStore:
    """Writes rows as they are handed over; lives in the writer's thread.

    Parameters
    ----------
    like : Arrays
        Columns of the buffer, with no rows: their names, dtypes and shapes (rows, environments, ...).
    buffer_size : int
        Rows that the buffer holds.
    chunk_rows : int, optional
        Rows of a chunk; by default what CHUNK_BYTES, SMALLEST_CHUNK_BYTES and CHUNKS say.
    """

    def __init__(self, folder: Path, like: Arrays, buffer_size: int, chunk_rows: int = 0) -> None:
        self.folder = folder
        self.buffer_size = buffer_size
        self.rows = 0
        """That came so far, since the run began."""
        self.chunk_rows = chunk_rows or _chunk_rows(row_packing.row_bytes(like), buffer_size)
        self.write: Callable[[Path, bytes], None] = checkpoint.write_new
        """Creates a file, whole or not at all; FileExistsError where it is there."""
        self._like = like
        self._held: list[Held] = []
        self._earlier = ""
        self._failure: OSError | None = None
        self._open: Arrays = {}
        self._written: tuple[str, Chunk] | None = None
        self._begin_chunk()

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory [B]."""
        return row_packing.row_bytes(self._like)

    @property
    def buffer_bytes(self) -> int:
        """What the whole buffer takes in memory, and at most on the disk, give or take a chunk [B]."""
        return self.row_bytes * self.buffer_size

    @property
    def in_use(self) -> set[str]:
        """Names of files that the next checkpoint lists, though none lists them yet."""
        names = {held.chunk.name for held in list(self._held) if held.chunk is not None}
        return names | ({self._written[1].name} if self._written else set())

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Rows [first, last) of chunks that the disk did not take: to be handed over `again`."""
        return [(held.first, held.last) for held in list(self._held) if held.chunk is None]

    def add(self, rows: Arrays) -> None:
        """Rows that follow those added before. What the disk does not take is `missing`, and no error yet."""
        count, at = len(next(iter(rows.values()))), 0
        while at < count:
            taken = min(count - at, self._ends - self.rows)
            for name, values in rows.items():
                part = values[at : at + taken]
                self._open[name][self.rows - self._begins : self.rows - self._begins + taken] = part
                self._digests[name].update(_bytes_of(part))
            at += taken
            self.rows += taken
            if self.rows == self._ends:
                self._seal()
        self._forget()

    def again(self, first: int, rows: Arrays) -> None:
        """The rows of a chunk that is `missing`."""
        for held in self._held:
            if held.first == first and held.chunk is None and len(next(iter(rows.values()))) == held.last - first:
                held.chunk = self._try_to_write(first, held.last, rows)

    def state(self) -> dict[str, Any]:
        """What the exact state says of the buffer; the same whenever the same rows were added."""
        digests = [held.digest for held in self._held]
        return {
            "rows": self.rows,
            "chunk_rows": self.chunk_rows,
            "earlier": self._earlier,
            "digests": [*digests, self._open_digest()] if self.rows > self._begins else digests,
        }

    def commit(self) -> list[dict[str, Any]]:
        """Write the open chunk; what a manifest says of the chunks that hold every row of the buffer.

        Raises
        ------
        OSError
            The disk: now, or when one of them was sealed.
        """
        if self.missing:
            raise self._failure or OSError("rows of the replay buffer could not be written")
        found = [held.chunk for held in self._held if held.chunk is not None]
        if self.rows > self._begins:
            digest = self._open_digest()
            if self._written is None or self._written[0] != digest:
                filled = {name: values[: self.rows - self._begins] for name, values in self._open.items()}
                self._written = digest, self._write(self._begins, self.rows, filled)
            found.append(self._written[1])
        return [chunk.entry() for chunk in found]

    def load(self, saved: Any, listed: list[Chunk], put: Put) -> None:
        """Begin where a checkpoint ends; each of its chunks goes through `put(first, rows)` on its own.

        Raises
        ------
        CheckpointInvalid
            A chunk is missing, altered or none of these rows; `put` may have been called by then.
        """
        self.rows, self.chunk_rows, self._earlier, digests = _require_saved(saved, self._like)
        needed = max(0, self.rows - self.buffer_size)
        ends = [listed[0].first, listed[-1].last] if listed else [self.rows, self.rows]
        cut = all(chunk.first % self.chunk_rows == 0 for chunk in listed[1:])
        if ends[0] > needed or ends[1] != self.rows or len(digests) != len(listed) or not cut:
            raise CheckpointInvalid("its replay chunks do not hold all rows")
        for chunk, digest in zip(listed, digests, strict=True):
            rows = self._read(chunk)
            if _digest(_digests_of(rows), self._like) != digest:
                raise CheckpointInvalid(f"replay chunk {chunk.name} holds other rows than it was written with")
            put(chunk.first, rows)
            if chunk.last % self.chunk_rows == 0:
                self._held.append(Held(chunk.first, chunk.last, digest, chunk))
                self._begin_chunk(chunk.last)
            else:
                self._begin_chunk(chunk.first)
                for name, values in rows.items():
                    self._open[name][: len(values)] = values
                self._digests = _digests_of(rows)
                self._written = digest, chunk
        self._forget()

    def adopt(self, parts: Iterable[tuple[int, Arrays]], earlier: str, put: Put) -> None:
        """Begin with rows that another version has written: they are cut, and written, anew."""
        for first, rows in parts:
            if not self.rows:
                self._begin_chunk(first)
                self.rows, self._earlier = first, earlier
            self.add(rows)
            put(first, rows)

    def _begin_chunk(self, first: int = 0) -> None:
        self._begins, self._ends = first, (first // self.chunk_rows + 1) * self.chunk_rows
        size = self._ends - self._begins
        if not self._open or len(next(iter(self._open.values()))) < size:
            self._open = {name: np.empty((size, *kind.shape[1:]), kind.dtype) for name, kind in self._like.items()}
        self._digests = {name: hashlib.sha256() for name in self._like}
        self._written = None

    def _seal(self) -> None:
        first, last = self._begins, self._ends
        rows = {name: values[: last - first] for name, values in self._open.items()}
        self._held.append(Held(first, last, self._open_digest(), self._try_to_write(first, last, rows)))
        self._begin_chunk(last)

    def _forget(self) -> None:
        """Leave out the chunks of which the buffer holds no row any more."""
        while self._held and self._held[0].last <= self.rows - self.buffer_size:
            gone = self._held.pop(0)
            self._earlier = hashlib.sha256((self._earlier + gone.digest).encode()).hexdigest()

    def _open_digest(self) -> str:
        return _digest(self._digests, self._like)

    def _try_to_write(self, first: int, last: int, rows: Arrays) -> Chunk | None:
        try:
            return self._write(first, last, rows)
        except OSError as error:
            logger.warning("Rows %d to %d of the replay buffer could not be written: %s", first, last, error)
            self._failure = error
            return None

    def _write(self, first: int, last: int, rows: Arrays) -> Chunk:
        data = row_packing.pack(rows)
        chunk = Chunk.named(first, last, hashlib.sha256(data).hexdigest(), len(data))
        path = self.folder / chunk.name
        self.folder.mkdir(exist_ok=True)
        try:
            self.write(path, data)
        except FileExistsError:
            if not chunks.is_whole(path, chunk):
                write_aside(path, data)
        return chunk

    def _read(self, chunk: Chunk) -> Arrays:
        count = chunk.last - chunk.first
        if chunk.first // self.chunk_rows != (chunk.last - 1) // self.chunk_rows:
            raise CheckpointInvalid(f"replay chunk {chunk.name} is not cut where chunks are")
        if chunk.size > row_packing.largest(self._like, count):
            raise CheckpointInvalid(f"replay chunk {chunk.name} is larger than its rows can be")
        try:
            with (self.folder / chunk.name).open("rb") as file:
                data = file.read(chunk.size + 1)
        except OSError as error:
            raise CheckpointInvalid(f"replay chunk {chunk.name} cannot be read ({error.strerror})") from error
        if len(data) != chunk.size or hashlib.sha256(data).hexdigest() != chunk.sha256:
            raise CheckpointInvalid(f"replay chunk {chunk.name} does not have the sha256 that the manifest names")
        try:
            return row_packing.unpack(data, self._like, count)
        except codec.Undecodable as error:
            raise CheckpointInvalid(f"replay chunk {chunk.name}: {error}") from error


def _chunk_rows(row_bytes: int, buffer_size: int) -> int:
    wanted = min(CHUNK_BYTES, max(SMALLEST_CHUNK_BYTES, row_bytes * buffer_size // CHUNKS))
    return max(1, wanted // max(1, row_bytes))


def _require_saved(saved: Any, like: Arrays) -> tuple[int, int, str, list[str]]:
    """Rows, rows of a chunk, digest of those before and digests, of what `state` gave.

    Raises
    ------
    CheckpointInvalid
        It never gave that; so many rows of a chunk would take more memory than a chunk may.
    """
    sample = {"rows": 0, "chunk_rows": 0, "earlier": "", "digests": []}
    if not codec.is_like(saved, sample) or saved["rows"] < 0 or saved["chunk_rows"] < 1:
        raise CheckpointInvalid("its state does not say what its replay buffer holds")
    if saved["chunk_rows"] > 1 and saved["chunk_rows"] * row_packing.row_bytes(like) > LARGEST_CHUNK_BYTES:
        raise CheckpointInvalid("its replay chunks are larger than chunks may be")
    return saved["rows"], saved["chunk_rows"], saved["earlier"], saved["digests"]


def _digests_of(rows: Arrays) -> dict[str, Any]:
    return {name: hashlib.sha256(_bytes_of(values)) for name, values in rows.items()}


def _bytes_of(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _digest(digests: dict[str, Any], like: Arrays) -> str:
    """One digest of the columns' own, and of what kinds they are."""
    kinds = [f"{name} {like[name].dtype.str} {like[name].shape[1:]}" for name in sorted(digests)]
    values = [digests[name].hexdigest() for name in sorted(digests)]
    return hashlib.sha256("\n".join([*kinds, *values]).encode()).hexdigest()
