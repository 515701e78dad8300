"""Replay chunks of a mounted checkpoint that lie in the dataset of chunks: brought here before anything is chosen.

Each comes alone, through the process that can be killed, is verified by size and sha256, and stays whole or not at all.
Standard library only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel.checkpoints import sources
from kernel.contract import chunks, index
from kernel.contract import manifest as manifests
from kernel.contract.chunks import Chunk
from kernel.contract.config import Configuration
from kernel.contract.files import put_in_place
from kernel.contract.index import Elsewhere, Place
from kernel.contract.manifest import CheckpointInvalid
from kernel.contract.names import INDEX, replay_dataset
from kernel.session.remote_dataset import (
    LOOKUP_SECONDS,
    MAX_UPLOAD_SECONDS,
    MIN_UPLOAD_SECONDS,
    SLOWEST_BYTES_PER_SECOND,
    Fenced,
    RemoteDataset,
)
from kernel.session.replay_dataset import ReplayDataset
from kernel.session.upload import Uploader, UploadFailed

logger = logging.getLogger(__name__)

TRIES = 5
FIRST_PAUSE_SECONDS = 2.0
NOT_THERE = (403, 404)


class Absent(ValueError):
    """Raised when chunks of a checkpoint cannot be had; says why, and what to do where that helps."""


@dataclass
class ReplayRestore:
    """Brings chunks into the `replay` folder of `checkpoints`."""

    checkpoints: Path
    configuration: Configuration
    uploader: Uploader
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep

    @property
    def folder(self) -> Path:
        """Where they come to lie."""
        return self.checkpoints / chunks.FOLDER

    def bring(self, mounted: Iterable[Path]) -> dict[Path, str]:
        """Bring what checkpoints in the folders `mounted` need; why some of them cannot be had, by their paths.

        One that is not whole itself, or no newer than what is here, needs none.
        """
        here = sources.newest_whole(self.checkpoints, self.configuration.run.run_id)
        refused: dict[Path, str] = {}
        for folder in mounted:
            for num_timesteps, path in sorted(sources.candidates_in(folder), reverse=True):
                if here is not None and num_timesteps <= here:
                    continue
                try:
                    self._bring_all(path)
                    return refused
                except Absent as absent:
                    refused[path] = str(absent)
                except (CheckpointInvalid, OSError) as error:
                    logger.debug("%s: %s", path.name, error)  # whoever chooses says so
        return refused

    def _bring_all(self, checkpoint: Path) -> None:
        manifest = manifests.verify(checkpoint, run_id=self.configuration.run.run_id)
        missing = [
            chunk
            for chunk in chunks.listed(manifest)
            if not chunks.is_whole(chunks.path_of(checkpoint, chunk, self.folder), chunk)
        ]
        if not missing:
            return
        handle = replay_dataset(self.configuration.session.dataset)
        logger.info("%d replay chunks of %s come from %s.", len(missing), checkpoint.name, handle)
        self.folder.mkdir(parents=True, exist_ok=True)
        told = _told(checkpoint, manifest.num_timesteps, handle)
        missing = self._without_fetched(missing, {name: found.place for name, found in told.items()})
        if missing:  # the index is lost, or the dataset was made anew: its versions themselves tell
            missing = self._without_fetched(missing, self._listed(handle, missing))
        if missing:
            raise Absent(f"{len(missing)} of its replay chunks are not in {handle} as they were written")

    def _without_fetched(self, missing: list[Chunk], places: Mapping[str, Place]) -> list[Chunk]:
        return [chunk for chunk in missing if not self._fetched(chunk, places.get(chunk.name))]

    def _fetched(self, chunk: Chunk, place: Place | None) -> bool:
        """Whether the chunk lies here now; False where it is not what lies at its place.

        Raises
        ------
        Absent
            The service does not answer.
        """
        if place is None:
            return False
        aside = self.folder / f".{chunk.name}.aside"
        longest = min(max(chunk.size / SLOWEST_BYTES_PER_SECOND, MIN_UPLOAD_SECONDS), MAX_UPLOAD_SECONDS)
        try:
            for _ in range(2):  # half a file of a broken try may have been gone on from
                aside.unlink(missing_ok=True)
                self._patiently(
                    lambda: self.uploader.download(place.dataset, place.version, chunk.name, aside, longest),
                    place.dataset,
                )
                if chunks.is_whole(aside, chunk):
                    put_in_place(aside, self.folder / chunk.name)
                    return True
        except UploadFailed as failure:
            logger.info("%s of version %d: %s", chunk.name, place.version, failure)
        finally:
            aside.unlink(missing_ok=True)
        return False

    def _listed(self, handle: str, absent: list[Chunk]) -> dict[str, Place]:
        session = self.configuration.session.session
        dataset = RemoteDataset(handle, session, self.uploader, lambda longest: longest, clock=self.clock)
        replay = ReplayDataset(dataset, self.configuration, clock=self.clock)
        found: dict[str, Place] = {}
        try:
            self._patiently(lambda: found.update(replay.look({c.name: c.size for c in absent})), handle)
        except (UploadFailed, Fenced) as failure:
            raise Absent(f"its replay chunks are in {handle}, which cannot be looked at: {failure}") from failure
        return found

    def _patiently(self, do: Callable[[], object], handle: str) -> None:
        """Do it, again and again where that may help.

        Raises
        ------
        UploadFailed
            The service says that it is not there.
        Absent
            The service does not answer.
        """
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                do()
                return
            except UploadFailed as failure:
                if failure.status in NOT_THERE:
                    raise
                if left == 0:
                    raise Absent(
                        f"its replay chunks are in {handle} and could not be downloaded: {failure}{_advice(failure)}"
                    ) from failure
                self.sleep(pause if failure.retry_after is None else min(failure.retry_after, LOOKUP_SECONDS))
                pause *= 2


def _told(checkpoint: Path, num_timesteps: int, handle: str) -> dict[str, Elsewhere]:
    """What the index beside a checkpoint tells of chunks in the dataset `handle`."""
    try:
        return index.elsewhere((checkpoint.parent / INDEX).read_bytes(), handle).get(num_timesteps, {})
    except OSError:
        return {}


def _advice(failure: UploadFailed) -> str:
    if failure.status is not None or not str(failure).startswith("no answer"):
        return ""
    return (
        ". They need internet: switch it on for the kernel, which Kaggle allows once the account's phone number is "
        "verified, and start the session again"
    )
