"""What of a run is published: what its datasets list now, and nothing that was once said of them.

A checkpoint counts with every replay chunk that its version names in the dataset of chunks. Standard library only.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contract import index
from kernel.contract.events import PublishLost
from kernel.contract.names import INDEX, told_by_version
from kernel.session.listing import Remote, safe_timesteps
from kernel.session.remote_dataset import LOOKUP_SECONDS, RemoteDataset
from kernel.session.replay_dataset import ReplayDataset
from kernel.session.upload import UploadFailed

logger = logging.getLogger(__name__)


@dataclass
class Standing:
    """Held to what `dataset` and the chunks in `replay` list, each time that they are looked at."""

    dataset: RemoteDataset
    replay: ReplayDataset
    changed: Callable[[PublishLost | None], object] = lambda lost: None
    """Hears of each change that a look finds, and what was lost by it."""
    clock: Callable[[], float] = time.monotonic
    published: int | None = None
    """Timestep of the newest checkpoint that can be had."""
    seen: bool = False
    """The dataset was listed in this session."""
    looked_at: float = 0.0
    _needs: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """Chunks of published checkpoints that the dataset of chunks holds, and their sizes [B]."""
    _torn: set[int] = field(default_factory=set)
    """Timesteps whose chunks are not all listed."""

    def look(self) -> Remote:
        """What the dataset lists now; what cannot be had any more is taken back.

        Raises
        ------
        Fenced, UploadFailed
            As `RemoteDataset.ask`.
        """
        remote = self.dataset.ask()
        if not remote.refused:
            self._torn = self._torn_of(remote)
        self.take_back(remote)
        return remote

    def take_back(self, remote: Remote) -> None:
        """Hold what is said to be published to what `remote` lists."""
        if remote.refused:
            return
        self.looked_at = self.clock()
        safe, was = safe_timesteps(remote, self.dataset.spoilt, self._torn), self.published
        if not self.seen and remote.exists:
            self.seen, self.published = True, safe
            self.changed(None)
        elif was is not None and (safe is None or safe < was):
            self.published = safe
            self.changed(PublishLost(num_timesteps=was, published_timesteps=safe, reason=self._said(remote, was, safe)))

    def succeeded(self, num_timesteps: int, needs: Mapping[str, int]) -> None:
        """A version with the checkpoint at `num_timesteps` is listed, and the chunks that it `needs` of the others."""
        self.published, self.seen = num_timesteps, True
        self._needs[num_timesteps] = dict(needs)
        self._torn.discard(num_timesteps)

    def _said(self, remote: Remote, was: int, safe: int | None) -> str:
        if was in self._torn:
            left = "there is none left" if safe is None else f"the newest that is whole is that at t={safe}"
            return f"{self.replay.dataset.handle} was changed from elsewhere: replay chunks of t={was} are gone; {left}"
        left = "it holds no checkpoint" if remote.exists else "there is no such dataset"
        left = left if safe is None else f"its newest checkpoint is that at t={safe}"
        return f"{self.dataset.handle} was changed from elsewhere: {left}"

    def _torn_of(self, remote: Remote) -> set[int]:
        """Timesteps that `remote` tells of, and that cannot be had for want of chunks."""
        newest = safe_timesteps(remote, self.dataset.spoilt)
        if newest is None:
            return set()
        if newest not in self._needs:
            self._read_index(remote, newest)
            newest = safe_timesteps(remote, self.dataset.spoilt)
        if newest is None or self._is_whole(newest):
            return set()
        told = {found[0] for note in remote.notes.values() if (found := told_by_version(note))}
        # Of what an earlier session published nothing is known here, but that it may need the same chunks.
        return {newest} | {t for t in told if t not in self._needs or not self._is_whole(t)}

    def _is_whole(self, num_timesteps: int) -> bool:
        needs = self._needs.get(num_timesteps)
        return not needs or len(self.replay.look(needs)) == len(needs)

    def _read_index(self, remote: Remote, num_timesteps: int) -> None:
        """Learn whether the newest version, which another process has published, is whole, and what it needs."""
        if remote.version is None or INDEX not in remote.sizes:
            return
        with tempfile.TemporaryDirectory(prefix="index-") as folder:
            to = Path(folder) / INDEX
            timeout = self.dataset.timeout(LOOKUP_SECONDS)
            try:
                self.dataset.uploader.download(self.dataset.handle, remote.version, INDEX, to, timeout)
                text = to.read_bytes()
            except (UploadFailed, OSError) as failure:
                logger.info("%s of %s could not be read: %s", INDEX, self.dataset.handle, failure)
                return  # what cannot be seen is not gone
        if not index.is_of(text, remote.sizes):
            self.dataset.spoilt.add(remote.version)
            return
        told = index.elsewhere(text, self.replay.dataset.handle)
        self._needs[num_timesteps] = {name: found.size for name, found in told.get(num_timesteps, {}).items()}
