"""Checkpoints that a target says it has, wherever they lie: dataset versions and outputs of sessions, newest first."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel.contract.names import checkpoint_name, num_timesteps_of, weights_name, weights_timesteps_of
from launcher.errors import BackendError, BackendUnavailable
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.targets.base import CheckpointStore, RemoteFile
from launcher.transfers import OnBytes

logger = logging.getLogger(__name__)

UNPACKED = re.compile(r"(checkpoint_t(\d+)(?:\.zip)?(?:\.bin)?)/(.+)")
"""A member of a checkpoint that the target has unpacked."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that the target says it has; `files` are its one file, or the members of an unpacked one."""

    num_timesteps: int
    origin: str
    files: tuple[RemoteFile, ...]
    beside: Mapping[str, RemoteFile]
    """All files of the same place by their own names: replay chunks and metrics are among them."""
    download: Callable[[RemoteFile, Path, OnBytes], None]
    weights_alone: bool = False
    """Whether its replay buffer was not kept: no run goes on from it."""

    @property
    def name(self) -> str:
        """Of its file on this machine."""
        return (weights_name if self.weights_alone else checkpoint_name)(self.num_timesteps)

    @property
    def size(self) -> int:
        """Bytes to fetch, as far as the target tells them."""
        return sum(max(0, file.size) for file in self.files)


def candidates(run: Run, store: CheckpointStore, ledger: Ledger, *, everything: bool) -> Iterator[Candidate]:
    """Checkpoints on the target, newest first; lists no further than its consumer goes on asking.

    With `everything` all places are looked through before the first is given, which sorts them by timestep.
    """
    found = _held(_versions(run, store))
    outputs = _outputs(run, store, ledger)
    if not everything:
        # A dataset version holds the newest of its moment; outputs hold the last ones of a session that ended well.
        first = next(found, None)
        rest = ([first] if first else []) + list(_held(outputs))
        yield from sorted(rest, key=_newest_and_whole_first)
        yield from found
        return
    yield from sorted([*found, *_held(outputs)], key=_newest_and_whole_first)


@dataclass(frozen=True)
class Place:
    """One folder of files on a target: a dataset version, or the outputs of a session."""

    origin: str
    files: Callable[[], list[RemoteFile]]
    download: Callable[[str, Path, OnBytes], None]
    unlisted: int = logging.WARNING
    """Level of what is said where its files cannot be listed."""


def _versions(run: Run, store: CheckpointStore) -> Iterator[Place]:
    """Of the run's dataset, newest first."""
    for version in store.dataset_versions(run.dataset):
        at = (run.dataset, version.number)
        yield Place(
            f"version {version.number}",
            functools.partial(store.dataset_files, *at),
            functools.partial(store.download_dataset_file, *at),
        )


def _outputs(run: Run, store: CheckpointStore, ledger: Ledger) -> Iterator[Place]:
    """Of the run's sessions, newest first; one on this machine wrote into the run's folder."""
    for session in reversed(ledger.sessions(run.run_id)):
        if not session.here:
            slug = run.slug(session.number)
            yield Place(
                f"outputs of session {session.number}",
                functools.partial(store.output_files, slug),
                functools.partial(store.download_output, slug),
                logging.INFO,  # a session that was killed has none
            )


def _held(places: Iterable[Place]) -> Iterator[Candidate]:
    """The checkpoints in `places`; one that cannot be listed has none.

    Raises
    ------
    BackendUnavailable
        The target cannot be asked at all.
    """
    for place in places:
        try:
            files = place.files()
        except BackendUnavailable:
            raise
        except BackendError as error:
            logger.log(place.unlisted, "The files of %s cannot be listed: %s", place.origin, error)
            continue
        yield from _grouped(files, place.origin, functools.partial(_download, place))


def _download(place: Place, file: RemoteFile, to: Path, on_bytes: OnBytes) -> None:
    place.download(file.name, to, on_bytes)


def _grouped(
    files: list[RemoteFile], origin: str, download: Callable[[RemoteFile, Path, OnBytes], None]
) -> Iterator[Candidate]:
    """Candidates among `files`: whole checkpoint files, and folders that were one before they were unpacked."""
    beside = {file.name.rsplit("/", 1)[-1]: file for file in files}
    found: list[Candidate] = []
    unpacked: dict[int, list[RemoteFile]] = {}
    for file in files:
        if (timesteps := num_timesteps_of(file.name.rsplit("/", 1)[-1])) is not None:
            found.append(Candidate(timesteps, origin, (file,), beside, download))
        elif (timesteps := weights_timesteps_of(file.name.rsplit("/", 1)[-1])) is not None:
            found.append(Candidate(timesteps, origin, (file,), beside, download, weights_alone=True))
        elif match := UNPACKED.search(file.name):
            unpacked.setdefault(int(match[2]), []).append(file)
    found += [Candidate(timesteps, origin, tuple(members), beside, download) for timesteps, members in unpacked.items()]
    yield from sorted(found, key=_newest_and_whole_first)


def _newest_and_whole_first(candidate: Candidate) -> tuple[int, bool]:
    return -candidate.num_timesteps, candidate.weights_alone
