"""Bring checkpoints back: from dataset versions and from kernel outputs, each verified before it counts."""

from __future__ import annotations

import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kernel.manifest import CheckpointInvalid, Manifest, checkpoint_name, num_timesteps_of, verify
from launcher.backends.base import Backend, RemoteFile
from launcher.errors import BackendError, BackendUnavailable
from launcher.ledger import Ledger, Run

logger = logging.getLogger(__name__)

_UNPACKED = re.compile(r"(checkpoint_t(\d+)(?:\.zip)?(?:\.bin)?)/(.+)")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that the target says it has; `files` are its one file, or the members of an unpacked one."""

    num_timesteps: int
    origin: str
    files: tuple[RemoteFile, ...]
    download: Callable[[RemoteFile, Path], None]

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
    """`verified`, `already here`, or why it is not usable."""
    manifest: Manifest | None = None


def fetch(
    run: Run,
    backend: Backend,
    ledger: Ledger,
    *,
    everything: bool = False,
    step: int | None = None,
    note: Callable[[str], None] = logger.info,
) -> list[Fetched]:
    """Bring back the newest checkpoint that verifies, or the one at `step`, or `everything`; newest first.

    A bad one is reported and the one before is taken. Files that are already here and verify are neither fetched
    again nor touched.

    Raises
    ------
    BackendUnavailable
        The target cannot be asked at all.
    """
    results: list[Fetched] = []
    done: set[int] = set()
    for candidate in candidates(run, backend, ledger, everything=everything or step is not None):
        if candidate.num_timesteps in done or (step is not None and candidate.num_timesteps != step):
            continue
        result = _bring(run, candidate, note)
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
    """The newest verified checkpoint that was brought back before."""
    from kernel.manifest import checkpoints_in

    for path in checkpoints_in(run.checkpoints):
        try:
            manifest = verify(path, run_id=run.run_id, config_digest=run.config.digest)
        except CheckpointInvalid as error:
            logger.warning("%s", error)
            continue
        return Fetched(manifest.num_timesteps, "this machine", path, path.stat().st_size, "already here", manifest)
    return None


def candidates(run: Run, backend: Backend, ledger: Ledger, *, everything: bool) -> Iterator[Candidate]:
    """Checkpoints on the target, newest first; lists no further than its consumer goes on asking.

    With `everything` all places are looked through before the first is given, which sorts them by timestep.
    """
    found = _from_versions(run, backend)
    if not everything:
        # A dataset version holds the newest of its moment; outputs hold the last ones of a session that ended well.
        first = next(found, None)
        rest = ([first] if first else []) + list(_from_outputs(run, backend, ledger))
        yield from sorted(rest, key=lambda candidate: -candidate.num_timesteps)
        yield from found
        return
    yield from sorted([*found, *_from_outputs(run, backend, ledger)], key=lambda candidate: -candidate.num_timesteps)


def _from_versions(run: Run, backend: Backend) -> Iterator[Candidate]:
    for version in backend.dataset_versions(run.dataset):
        try:
            files = backend.dataset_files(run.dataset, version.number)
        except BackendUnavailable:
            raise
        except BackendError as error:
            logger.warning("Version %d of %s cannot be listed: %s", version.number, run.dataset, error)
            continue

        def download(file: RemoteFile, to: Path, number: int = version.number) -> None:
            backend.download_dataset_file(run.dataset, number, file.name, to)

        yield from _grouped(files, f"version {version.number}", download)


def _from_outputs(run: Run, backend: Backend, ledger: Ledger) -> Iterator[Candidate]:
    for session in reversed(ledger.sessions(run.run_id)):
        slug = run.slug(session.number)
        try:
            files = backend.output_files(slug)
        except BackendUnavailable:
            raise
        except BackendError as error:
            logger.info("no outputs of %s: %s", slug, error)
            continue

        def download(file: RemoteFile, to: Path, slug: str = slug) -> None:
            backend.download_output(slug, file.name, to)

        yield from _grouped(files, f"outputs of session {session.number}", download)


def _grouped(files: list[RemoteFile], origin: str, download: Callable[[RemoteFile, Path], None]) -> Iterator[Candidate]:
    """Candidates among `files`: whole checkpoint files, and folders that were one before they were unpacked."""
    found: list[Candidate] = []
    unpacked: dict[int, list[RemoteFile]] = {}
    for file in files:
        if (timesteps := num_timesteps_of(file.name.rsplit("/", 1)[-1])) is not None:
            found.append(Candidate(timesteps, origin, (file,), download))
        elif match := _UNPACKED.search(file.name):
            unpacked.setdefault(int(match[2]), []).append(file)
    found += [Candidate(timesteps, origin, tuple(members), download) for timesteps, members in unpacked.items()]
    yield from sorted(found, key=lambda candidate: -candidate.num_timesteps)


def _bring(run: Run, candidate: Candidate, note: Callable[[str], None]) -> Fetched:
    final = run.checkpoints / checkpoint_name(candidate.num_timesteps)
    result = Fetched(candidate.num_timesteps, candidate.origin, None, candidate.size, "")
    digest = run.config.digest
    if final.exists():
        try:
            manifest = verify(final, run_id=run.run_id, config_digest=digest)
            return replace(result, path=final, size=final.stat().st_size, verdict="already here", manifest=manifest)
        except CheckpointInvalid as error:
            note(f"The copy here is not usable ({error}); it is fetched again.")
    incoming = run.checkpoints / f".incoming-{candidate.origin.replace(' ', '-')}-{final.name}"
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        if len(candidate.files) == 1 and not _UNPACKED.search(candidate.files[0].name):
            candidate.download(candidate.files[0], incoming)
        else:
            _assemble(candidate, incoming)
        aside = incoming.with_name(incoming.name + ".verified")
        os.replace(incoming, aside)
        try:
            manifest = verify(aside, run_id=run.run_id, config_digest=digest)
            if manifest.num_timesteps != candidate.num_timesteps:
                raise CheckpointInvalid(f"{final.name}: its manifest is of timestep {manifest.num_timesteps}")
        except CheckpointInvalid as error:
            aside.unlink()
            note(f"{final.name} of {candidate.origin} is not usable: {error}")
            return replace(result, verdict=f"not usable: {error}")
        os.replace(aside, final)
    except BackendError as error:
        note(f"{final.name} of {candidate.origin} could not be fetched: {error}")
        return replace(result, verdict=f"not fetched: {error}")
    return replace(result, path=final, size=final.stat().st_size, verdict="verified", manifest=manifest)


def _assemble(candidate: Candidate, to: Path) -> None:
    """Put the members of an unpacked checkpoint back into one zip; its manifest tells whether it is whole."""
    folder = to.with_name(to.name + ".members")
    try:
        with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
            for index, file in enumerate(candidate.files):
                match = _UNPACKED.search(file.name)
                assert match is not None
                member = folder / str(index)
                candidate.download(file, member)
                archive.write(member, match[3])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
