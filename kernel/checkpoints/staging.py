"""A folder of what one dataset version holds, fresh each time: re-used names can make a client send old bytes.

    run.json · index.json · metrics.jsonl · checkpoint_t500.zip.bin · checkpoint_t500.manifest.json · chunk_*.bin

Sealed replay chunks that take much are not in it: a dataset of their own takes each of them once, a few a version, and
index.json names for each in which version it is (`kernel.contract.index`).

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernel.contract import chunks, config, index
from kernel.contract import manifest as manifests
from kernel.contract.chunks import Chunk
from kernel.contract.config import Configuration
from kernel.contract.index import Place
from kernel.contract.manifest import Manifest, checkpoints_in
from kernel.contract.names import CHECKPOINTS, INDEX, METRICS, PUBLISHED_SUFFIX, RUN, manifest_name, num_timesteps_of

RECENT_DIGESTS = 1000


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be uploaded."""

    folder: Path
    sizes: dict[str, int]
    num_timesteps: int | None
    """Timestep of the checkpoint in it; None for the version that only proves the write. Of replay chunks alone their
    last row."""

    @property
    def bytes(self) -> int:
        """What an upload of it sends."""
        return sum(self.sizes.values())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def newest_verified(working: Path, configuration: Configuration) -> tuple[Path, Manifest] | None:
    """The newest checkpoint on the disk that verifies."""
    return next(verified(working, configuration), None)


def verified(working: Path, configuration: Configuration) -> Iterator[tuple[Path, Manifest]]:
    """The checkpoints on the disk that verify, newest first."""
    for path in checkpoints_in(working / CHECKPOINTS):
        try:
            manifest = manifests.verify(path, run_id=configuration.run.run_id)
            chunks.verify(path, manifest)
        except (manifests.CheckpointInvalid, OSError):
            continue
        yield path, manifest


def stage(
    working: Path,
    configuration: Configuration,
    checkpoint: tuple[Path, Manifest] | None,
    digests: dict[int, str] | None = None,
    parent: Path | None = None,
    apart: Collection[Chunk] = (),
) -> Staged:
    """Make the folder of a version with `checkpoint`, or with none yet; nothing is left of one that cannot be made.

    The chunks `apart` are left out of it, and `name_places` is to say where they are.
    """
    with _folder(parent) as folder:
        _add_run(folder, configuration)
        entries = []
        if checkpoint is not None:
            path, manifest = checkpoint
            entries.append(_add_checkpoint(folder, path, manifest, {chunk.name for chunk in apart}))
        if (working / METRICS).is_file():
            shutil.copyfile(working / METRICS, folder / METRICS)
        told = {str(t): d for t, d in sorted((digests or {}).items())[-RECENT_DIGESTS:]}
        _add_index(folder, configuration, checkpoints=entries, digests=told)
        return Staged(folder, _sizes(folder), checkpoint[1].num_timesteps if checkpoint else None)


def stage_chunks(
    configuration: Configuration, checkpoint: Path, found: Collection[Chunk], parent: Path | None = None
) -> Staged:
    """Make the folder of a version with these replay chunks of a checkpoint alone.

    Raises
    ------
    FileNotFoundError
        One of them is not on the disk any more.
    """
    with _folder(parent) as folder:
        _add_run(folder, configuration)
        for chunk in found:
            _link(chunks.path_of(checkpoint, chunk), folder / chunk.name)
        _add_index(folder, configuration, chunks=[index.entry(chunk) for chunk in found])
        return Staged(folder, _sizes(folder), max(chunk.last for chunk in found))


def name_places(staged: Staged, places: Mapping[str, Place]) -> Staged:
    """Write into a staged version where the chunks are that it was staged without; `places` by their names."""
    told = json.loads((staged.folder / INDEX).read_text("utf-8"))
    for entry in told["checkpoints"]:
        for chunk in entry.get("chunks", []):
            if chunk["file"] not in staged.sizes:
                chunk.update(vars(places[chunk["file"]]))
    (staged.folder / INDEX).write_text(json.dumps(told, sort_keys=True, indent=1), "utf-8")
    return replace(staged, sizes=_sizes(staged.folder))


@contextlib.contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="version-", dir=parent))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _add_run(folder: Path, configuration: Configuration) -> None:
    run = json.loads(configuration.to_json())["run"]
    told = {"run": run, "session": configuration.session.session}
    (folder / RUN).write_text(config.canonical_json(told), "utf-8")


def _add_index(folder: Path, configuration: Configuration, **told: Any) -> None:
    told |= {"run_id": configuration.run.run_id, "session": configuration.session.session}
    (folder / INDEX).write_text(json.dumps(told, sort_keys=True, indent=1), "utf-8")


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def _add_checkpoint(folder: Path, path: Path, manifest: Manifest, apart: Collection[str]) -> dict[str, object]:
    name = path.name + PUBLISHED_SUFFIX
    _link(path, folder / name)
    (folder / manifest_name(manifest.num_timesteps)).write_text(manifest.to_json(), "utf-8")
    replay = []
    for chunk in chunks.listed(manifest):
        if chunk.name not in apart:
            _link(chunks.path_of(path, chunk), folder / chunk.name)
        replay.append(index.entry(chunk))
    listed: dict[str, object] = {
        "num_timesteps": num_timesteps_of(path.name),
        "file": name,
        "sha256": chunks.sha256_of(folder / name),
        "size": (folder / name).stat().st_size,
        "state_digest": manifest.state_digest,
    }
    if replay:
        listed["chunks"] = replay
    return listed


def _link(source: Path, target: Path) -> None:
    # Checkpoints never change once they have a name, so a second name for the same bytes is as good as a copy.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
