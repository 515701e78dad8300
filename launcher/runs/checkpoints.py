"""Bring checkpoints back: from dataset versions and from kernel outputs, each verified before it counts."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kernel.contract import chunks, files, names
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import METRICS
from launcher import locks
from launcher.errors import BackendError, NotFound
from launcher.runs.candidates import UNPACKED, Candidate, candidates
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.runs.replay_chunks import ReplayChunks
from launcher.targets.base import CheckpointStore
from launcher.transfers import OnBytes, PlainTransfers, Transfers

logger = logging.getLogger(__name__)
T = TypeVar("T")


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
    apart = ReplayChunks(store, names.replay_dataset(run.dataset))
    results: list[Fetched] = []
    done: set[int] = set()
    for candidate in candidates(run, store, ledger, everything=everything or step is not None):
        if candidate.num_timesteps in done or (step is not None and candidate.num_timesteps != step):
            continue
        if candidate.weights_alone and not everything and step is None:
            continue
        waits = f"{candidate.name}: waiting for another process that fetches of this run."
        with locks.after_others(run.fetch_lock, functools.partial(shown.note, waits)):
            result = _bring(run, candidate, apart, shown)
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


def _bring(run: Run, candidate: Candidate, apart: ReplayChunks, shown: Transfers) -> Fetched:
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
        if not candidate.weights_alone and _bring_chunks(run, candidate, chunks.listed(manifest), apart, shown):
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
    incoming = _incoming(final, candidate.origin)
    aside = incoming.with_name(incoming.name + ".verified")

    def download(on_bytes: OnBytes) -> None:
        if len(candidate.files) == 1 and not UNPACKED.search(candidate.files[0].name):
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


def _bring_chunks(run: Run, candidate: Candidate, listed: list[Chunk], apart: ReplayChunks, shown: Transfers) -> bool:
    """Bring the replay chunks of a checkpoint, wherever they are; False when all are here already, whole."""
    folder = run.checkpoints / chunks.FOLDER
    missing = [chunk for chunk in listed if not chunks.is_whole(folder / chunk.name, chunk)]
    if any(chunk.name not in candidate.beside for chunk in missing):
        apart.hear(candidate.beside, candidate.download)
    for chunk in missing:
        _bring_chunk(candidate, chunk, folder / chunk.name, apart, shown)
    return bool(missing)


def _bring_chunk(candidate: Candidate, chunk: Chunk, final: Path, apart: ReplayChunks, shown: Transfers) -> None:
    """Bring one replay chunk from the first place that has it.

    Raises
    ------
    CheckpointInvalid
        No place has it as it was written.
    """
    why = CheckpointInvalid(f"its replay chunk {chunk.name} is not with it, nor in {apart.dataset}")
    beside = candidate.beside.get(chunk.name)
    places = apart.places(chunk)
    if beside is not None:
        places = iter([(candidate.origin, functools.partial(candidate.download, beside))])
    for origin, download in places:
        incoming = _incoming(final, origin)
        incoming.parent.mkdir(parents=True, exist_ok=True)

        def check(incoming: Path = incoming) -> None:
            if not chunks.is_whole(incoming, chunk):
                incoming.unlink()
                raise CheckpointInvalid(
                    f"its replay chunk {chunk.name} does not have the size and sha256 that it names"
                )

        bring = functools.partial(download, incoming)
        try:
            _checked(incoming, bring, check, chunk.name, origin, shown)
        except (CheckpointInvalid, NotFound) as error:  # a version of a dataset that was made anew is another one
            why = error if isinstance(error, CheckpointInvalid) else why
            continue
        files.put_in_place(incoming, final)
        return
    raise why


def _bring_metrics(run: Run, candidate: Candidate, shown: Transfers) -> None:
    """The rows of metrics so far, unless as many are here; nothing depends on them."""
    file, final = candidate.beside.get(METRICS), run.folder / METRICS
    here = final.stat().st_size if final.is_file() else 0
    if file is None or 0 <= file.size <= here:
        return
    incoming = _incoming(final, candidate.origin)
    try:
        candidate.download(file, incoming, lambda done, total: None)
        if incoming.stat().st_size > here:
            files.put_in_place(incoming, final)
    except (BackendError, OSError) as error:
        shown.note(f"{METRICS} of {candidate.origin} could not be fetched: {error}")
    finally:
        incoming.unlink(missing_ok=True)


def _incoming(final: Path, origin: str) -> Path:
    """Where a file lies until it is whole: one name for each origin, so that only equal bytes are continued."""
    return final.with_name(f".incoming-{origin.replace(' ', '-')}-{final.name}")


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
                match = UNPACKED.search(file.name)
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
