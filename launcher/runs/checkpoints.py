"""Bring checkpoints back: from dataset versions and from kernel outputs, each verified before it counts."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kernel.contract import chunks, files
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import METRICS, checkpoint_name, num_timesteps_of, weights_name, weights_timesteps_of
from launcher import locks
from launcher.errors import BackendError, BackendUnavailable
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.targets.base import CheckpointStore, RemoteFile
from launcher.transfers import OnBytes, PlainTransfers, Transfers

logger = logging.getLogger(__name__)
T = TypeVar("T")


_UNPACKED = re.compile(r"(checkpoint_t(\d+)(?:\.zip)?(?:\.bin)?)/(.+)")


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


@dataclass(frozen=True)
class Fetched:
    """What became of one candidate."""

    num_timesteps: int
    origin: str
    path: Path | None
    """Where the verified checkpoint lies; None when it is not usable."""
    size: int
    verdict: str
    """`verified`, `already here`, `weights alone` of one without its replay buffer, or why it is not usable."""
    manifest: Manifest | None = None


def fetch(
    run: Run,
    store: CheckpointStore,
    ledger: Ledger,
    *,
    everything: bool = False,
    step: int | None = None,
    transfers: Transfers | None = None,
) -> list[Fetched]:
    """Bring back the newest checkpoint that verifies, or the one at `step`, or `everything`; newest first.

    A checkpoint counts with every replay chunk that it lists. A bad one is reported and the one before is taken. One
    with its weights alone is brought only where it is asked for: nothing can go on from it.
    Files that are already here and verify are neither fetched again nor touched; what was broken off goes on. Of two
    processes that fetch at once the second one finds what the first one has brought.

    Raises
    ------
    BackendUnavailable
        The target cannot be asked at all.
    """
    shown = transfers or PlainTransfers(logger.info)
    results: list[Fetched] = []
    done: set[int] = set()
    for candidate in candidates(run, store, ledger, everything=everything or step is not None):
        if candidate.num_timesteps in done or (step is not None and candidate.num_timesteps != step):
            continue
        if candidate.weights_alone and not everything and step is None:
            continue
        waits = f"{candidate.name}: waiting for another process that fetches of this run."
        with locks.after_others(run.fetch_lock, functools.partial(shown.note, waits)):
            result = _bring(run, candidate, shown)
            if result.manifest is not None and not done:
                _bring_metrics(run, candidate, shown)
        results.append(result)
        if result.manifest is not None:
            done.add(candidate.num_timesteps)
            if candidate.origin.startswith("version"):
                ledger.update_session(
                    run.run_id, result.manifest.session, published_timesteps=result.manifest.num_timesteps
                )
            if not everything:
                break
    return results


def newest_here(run: Run) -> Fetched | None:
    """The newest verified checkpoint in the run's folder, its replay chunks with it."""
    for path in checkpoints_in(run.checkpoints):
        try:
            manifest = verify(path, run_id=run.run_id, config_digest=run.config.digest)
            chunks.verify(path, manifest)
        except (CheckpointInvalid, OSError) as error:
            logger.warning("%s", error)
            continue
        return Fetched(manifest.num_timesteps, "this machine", path, path.stat().st_size, "already here", manifest)
    return None


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
        elif match := _UNPACKED.search(file.name):
            unpacked.setdefault(int(match[2]), []).append(file)
    found += [Candidate(timesteps, origin, tuple(members), beside, download) for timesteps, members in unpacked.items()]
    yield from sorted(found, key=_newest_and_whole_first)


def _newest_and_whole_first(candidate: Candidate) -> tuple[int, bool]:
    return -candidate.num_timesteps, candidate.weights_alone


def _bring(run: Run, candidate: Candidate, shown: Transfers) -> Fetched:
    final = run.checkpoints / candidate.name
    result = Fetched(candidate.num_timesteps, candidate.origin, None, candidate.size, "")
    aside: Path | None = None
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        manifest = _verified_here(run, final, shown)
        verdict = "verified" if manifest is None else "already here"
        if candidate.weights_alone:
            verdict = "weights alone"
        if manifest is None:
            aside, manifest = _bring_checkpoint(run, candidate, final, shown)
        for chunk in () if candidate.weights_alone else chunks.listed(manifest):
            if _bring_chunk(candidate, chunk, run.checkpoints / chunks.FOLDER, shown):
                verdict = "verified"
        if aside is not None:
            files.put_in_place(aside, final)
            aside = None
    except CheckpointInvalid as error:
        shown.note(f"{final.name} of {candidate.origin} is not usable: {error}")
        return replace(result, verdict=f"not usable: {error}")
    except (BackendError, OSError) as error:
        shown.note(f"{final.name} of {candidate.origin} could not be fetched: {error}")
        return replace(result, verdict=f"not fetched: {error}")
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
    return replace(result, path=final, size=final.stat().st_size, verdict=verdict, manifest=manifest)


def _verified_here(run: Run, final: Path, shown: Transfers) -> Manifest | None:
    if not final.exists():
        return None
    try:
        return verify(final, run_id=run.run_id, config_digest=run.config.digest)
    except CheckpointInvalid as error:
        shown.note(f"The copy here is not usable ({error}); it is fetched again.")
        return None


def _bring_checkpoint(run: Run, candidate: Candidate, final: Path, shown: Transfers) -> tuple[Path, Manifest]:
    """The checkpoint file, verified, still under a name that nothing takes for a checkpoint."""
    incoming = _incoming(final, candidate)
    aside = incoming.with_name(incoming.name + ".verified")

    def download(on_bytes: OnBytes) -> None:
        if len(candidate.files) == 1 and not _UNPACKED.search(candidate.files[0].name):
            candidate.download(candidate.files[0], incoming, on_bytes)
        else:
            _assemble(candidate, incoming, on_bytes)

    def check() -> Manifest:
        files.put_in_place(incoming, aside)
        try:
            manifest = verify(aside, run_id=run.run_id, config_digest=run.config.digest)
            if manifest.num_timesteps != candidate.num_timesteps:
                raise CheckpointInvalid(f"{final.name}: its manifest is of timestep {manifest.num_timesteps}")
            return manifest
        except CheckpointInvalid:
            aside.unlink()
            raise

    return aside, _checked(incoming, download, check, final.name, candidate.origin, shown)


def _bring_chunk(candidate: Candidate, chunk: Chunk, folder: Path, shown: Transfers) -> bool:
    """Bring one replay chunk to `folder`; False when it is there already, whole."""
    name = chunk.name
    final = folder / name
    if chunks.is_whole(final, chunk):
        return False
    file = candidate.beside.get(name)
    if file is None:
        raise CheckpointInvalid(f"its replay chunk {name} is not with it")
    incoming = _incoming(final, candidate)
    incoming.parent.mkdir(parents=True, exist_ok=True)

    def check() -> None:
        if not chunks.is_whole(incoming, chunk):
            incoming.unlink()
            raise CheckpointInvalid(f"its replay chunk {name} does not have the size and sha256 that it names")

    _checked(
        incoming, lambda on_bytes: candidate.download(file, incoming, on_bytes), check, name, candidate.origin, shown
    )
    files.put_in_place(incoming, final)
    return True


def _bring_metrics(run: Run, candidate: Candidate, shown: Transfers) -> None:
    """The rows of metrics so far, unless as many are here; nothing depends on them."""
    file, final = candidate.beside.get(METRICS), run.folder / METRICS
    here = final.stat().st_size if final.is_file() else 0
    if file is None or 0 <= file.size <= here:
        return
    incoming = _incoming(final, candidate)
    try:
        candidate.download(file, incoming, lambda done, total: None)
        if incoming.stat().st_size > here:
            files.put_in_place(incoming, final)
    except (BackendError, OSError) as error:
        shown.note(f"{METRICS} of {candidate.origin} could not be fetched: {error}")
    finally:
        incoming.unlink(missing_ok=True)


def _incoming(final: Path, candidate: Candidate) -> Path:
    """Where a file lies until it is whole: one name for each origin, so that only equal bytes are continued."""
    return final.with_name(f".incoming-{candidate.origin.replace(' ', '-')}-{final.name}")


def _checked(
    incoming: Path,
    download: Callable[[OnBytes], None],
    check: Callable[[], T],
    name: str,
    origin: str,
    shown: Transfers,
) -> T:
    """`download` into `incoming`, then `check`; a file that was continued and is bad is fetched once more, anew.

    Raises
    ------
    CheckpointInvalid
        It is bad although it came in one piece.
    """
    while True:
        continued = incoming.with_name(incoming.name + ".part").exists()
        with shown.file(name, origin) as on_bytes:
            download(on_bytes)
        try:
            return check()
        except CheckpointInvalid:
            if not continued:
                raise
            shown.note(f"{name}: the continued download does not verify; it is fetched anew.")


def _assemble(candidate: Candidate, to: Path, on_bytes: OnBytes) -> None:
    """Put the members of an unpacked checkpoint back into one zip; its manifest tells whether it is whole."""
    folder = to.with_name(to.name + ".members")
    done = 0
    try:
        with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
            for index, file in enumerate(candidate.files):
                match = _UNPACKED.search(file.name)
                assert match is not None
                member = folder / str(index)
                candidate.download(file, member, functools.partial(_further, on_bytes, done, candidate.size))
                done += member.stat().st_size
                archive.write(member, match[3])
        with to.open("rb") as whole:
            os.fsync(whole.fileno())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _further(on_bytes: OnBytes, before: int, total: int, got: int, _: int) -> None:
    on_bytes(before + got, total)
