"""Replay chunks of published checkpoints that the run's dataset of chunks holds: where each is, found once a fetch."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contract import index
from kernel.contract.chunks import Chunk
from kernel.contract.names import INDEX
from launcher.errors import BackendError, BackendUnavailable
from launcher.targets.base import CheckpointStore, RemoteFile
from launcher.transfers import OnBytes

logger = logging.getLogger(__name__)

Download = Callable[[Path, OnBytes], None]


@dataclass
class ReplayChunks:
    """The versions of `dataset` (`owner/slug`), listed only where an index does not name the right one."""

    store: CheckpointStore
    dataset: str
    _named: dict[str, int] = field(default_factory=dict)
    """Versions by names of chunks, as indexes told."""
    _listed: dict[str, list[int]] | None = None

    def hear(self, beside: Mapping[str, RemoteFile], download: Callable[[RemoteFile, Path, OnBytes], None]) -> None:
        """Learn what the index of a version tells, from its files."""
        if (file := beside.get(INDEX)) is None:
            return
        with tempfile.TemporaryDirectory(prefix="kaglaunch-index-") as folder:
            to = Path(folder) / INDEX
            try:
                download(file, to, lambda done, total: None)
                told = index.elsewhere(to.read_bytes(), self.dataset)
            except BackendUnavailable:
                raise
            except (BackendError, OSError) as error:  # the versions themselves tell
                logger.info("%s could not be fetched: %s", INDEX, error)
                return
        self._named |= {name: found.place.version for chunks in told.values() for name, found in chunks.items()}

    def places(self, chunk: Chunk) -> Iterator[tuple[str, Download]]:
        """Where the chunk may be, as words and what downloads it; the likeliest first."""
        named = self._named.get(chunk.name)
        if named is not None:
            yield self._place(named, chunk)
        for number in self._versions_with(chunk):
            if number != named:
                yield self._place(number, chunk)

    def _place(self, number: int, chunk: Chunk) -> tuple[str, Download]:
        slug = self.dataset.partition("/")[2]
        download = functools.partial(self.store.download_dataset_file, self.dataset, number, chunk.name)
        return f"version {number} of {slug}", download

    def _versions_with(self, chunk: Chunk) -> list[int]:
        if self._listed is None:
            self._listed = {}
            for version in self.store.dataset_versions(self.dataset):
                for file in self.store.dataset_files(self.dataset, version.number):
                    self._listed.setdefault(file.name.rsplit("/", 1)[-1], []).append(version.number)
        return self._listed.get(chunk.name, [])
