"""Sealed replay chunks in a dataset of their own: each of them once, a few a version, none ever sent again.

    version 1    chunk_5f70….bin  chunk_91cc….bin  index.json  run.json
    version 2    chunk_0b1d….bin  …

A version holds new chunks alone; the earlier ones stay to be had by their numbers. Nothing is remembered blindly: what
is sent is what no version lists with its size. A version is small enough for one upload's time, so that a time-out, a
kill or a restart costs one of them. Standard library only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel.checkpoints import staging
from kernel.contract.chunks import Chunk
from kernel.contract.config import Configuration
from kernel.contract.index import Place
from kernel.session.listing import Remote
from kernel.session.remote_dataset import (
    LOOKUP_SECONDS,
    MAX_UPLOAD_SECONDS,
    SLOWEST_BYTES_PER_SECOND,
    RemoteDataset,
)
from kernel.session.upload import UploadFailed

logger = logging.getLogger(__name__)

FIRST_PART_BYTES = int(MAX_UPLOAD_SECONDS * SLOWEST_BYTES_PER_SECOND)
"""Of a version while nothing was measured: over the slowest network it comes through in one upload's time."""
MOST_PART_BYTES = 256_000_000
PART_SECONDS = 60.0
"""What the upload of a version is to take, at the speed of the one before."""
PART_FILES = 40
"""Kaggle's client sends more than 50 files as one archive."""


@dataclass
class ReplayDataset:
    """What the run's dataset of chunks lists, and what it is still to take."""

    dataset: RemoteDataset
    configuration: Configuration
    sent: Callable[[int, int], object] = lambda size, files: None
    """Hears of each version that is listed: its bytes and files."""
    clock: Callable[[], float] = time.monotonic
    part_bytes: int = FIRST_PART_BYTES
    """Of the next version, unless one chunk is more."""
    _identity: int = 0
    _contents: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """Sizes of files of versions that were looked at: a version does not change."""

    def look(self, wanted: Mapping[str, int]) -> dict[str, Place]:
        """Where those of the chunks `wanted` are that it lists; names and sizes [B].

        Raises
        ------
        Fenced, UploadFailed
            A later session wrote to it; it cannot be looked at.
        """
        return self._places(self._ask(), wanted)

    def bring(self, checkpoint: Path, found: Sequence[Chunk]) -> dict[str, Place]:
        """Send what is missing of the chunks of a checkpoint; where each of them is listed then.

        Raises
        ------
        Fenced, UploadFailed
            As `look`; or a version did not come. Those before it stay.
        OSError
            A chunk is not on the disk any more.
        """
        wanted = {chunk.name: chunk.size for chunk in found}
        remote = self.dataset.settled(self._ask())  # what is being processed was sent, by whomever
        while True:
            places = self._places(remote, wanted)
            missing = [chunk for chunk in found if chunk.name not in places]
            if not missing:
                return places
            remote = self._send(checkpoint, self._part(missing), remote)

    def _send(self, checkpoint: Path, part: Sequence[Chunk], before: Remote) -> Remote:
        staged = staging.stage_chunks(self.configuration, checkpoint, part)
        began = self.clock()
        try:
            after = self.dataset.add(staged, before)
        except UploadFailed:
            self.part_bytes = max(FIRST_PART_BYTES // 2, min(self.part_bytes, staged.bytes) // 2)
            raise
        finally:
            staged.remove()
        speed = staged.bytes / max(0.1, self.clock() - began)
        self.part_bytes = int(min(max(PART_SECONDS * speed, FIRST_PART_BYTES), MOST_PART_BYTES))
        self.sent(staged.bytes, len(staged.sizes))
        return after

    def _part(self, missing: Sequence[Chunk]) -> Sequence[Chunk]:
        """As many of the chunks as one version takes; one at the least."""
        size, count = missing[0].size, 1
        while count < min(len(missing), PART_FILES) and size + missing[count].size <= self.part_bytes:
            size, count = size + missing[count].size, count + 1
        return missing[:count]

    def _ask(self) -> Remote:
        remote = self.dataset.ask()
        if remote.refused:
            raise UploadFailed(f"the service does not tell what {self.dataset.handle} has", 403)
        return remote

    def _places(self, remote: Remote, wanted: Mapping[str, int]) -> dict[str, Place]:
        if not remote.exists or remote.identity != self._identity:
            self._contents.clear()
        self._identity = remote.identity
        found: dict[str, Place] = {}
        for number in sorted({*remote.notes, *([remote.version] if remote.version else [])}, reverse=True):
            if len(found) == len(wanted):
                break
            for name, size in self._files(remote, number).items():
                if name not in found and wanted.get(name) == size:
                    found[name] = Place(self.dataset.handle, number)
        return found

    def _files(self, remote: Remote, number: int) -> Mapping[str, int]:
        if number == remote.version:
            self._contents[number] = remote.sizes
        elif number not in self._contents:
            timeout = self.dataset.timeout(LOOKUP_SECONDS)
            self._contents[number] = self.dataset.uploader.files(self.dataset.handle, number, timeout)
        return self._contents[number]
