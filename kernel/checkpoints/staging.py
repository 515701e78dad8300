"""A folder of what one dataset version holds, fresh each time: re-used names can make a client send old bytes.

    run.json · index.json · metrics.jsonl · checkpoint_t500.zip.bin · checkpoint_t500.manifest.json · chunk_*.bin

Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel.contract import chunks, config
from kernel.contract import manifest as manifests
from kernel.contract.config import Configuration
from kernel.contract.manifest import Manifest, checkpoints_in
from kernel.contract.names import CHECKPOINTS, INDEX, METRICS, PUBLISHED_SUFFIX, RUN, manifest_name, num_timesteps_of

RECENT_DIGESTS = 1000


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be uploaded."""

    folder: Path
    sizes: dict[str, int]
    num_timesteps: int | None
    """Timestep of the checkpoint in it; None for the version that only proves the write."""

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
) -> Staged:
    """Make the folder of a version with `checkpoint`, or with none yet; nothing is left of one that cannot be made."""
    folder = Path(tempfile.mkdtemp(prefix="version-", dir=parent))
    try:
        return _filled(folder, working, configuration, checkpoint, digests or {})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _filled(
    folder: Path,
    working: Path,
    configuration: Configuration,
    checkpoint: tuple[Path, Manifest] | None,
    digests: dict[int, str],
) -> Staged:
    run = json.loads(configuration.to_json())["run"]
    session = configuration.session.session
    (folder / RUN).write_text(config.canonical_json({"run": run, "session": session}), "utf-8")
    entries = []
    if checkpoint is not None:
        path, manifest = checkpoint
        entries.append(_add_checkpoint(folder, path, manifest))
    if (working / METRICS).is_file():
        shutil.copyfile(working / METRICS, folder / METRICS)
    index = {
        "run_id": configuration.run.run_id,
        "session": session,
        "checkpoints": entries,
        "digests": {str(t): d for t, d in sorted(digests.items())[-RECENT_DIGESTS:]},
    }
    (folder / INDEX).write_text(json.dumps(index, sort_keys=True, indent=1), "utf-8")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    return Staged(folder, sizes, checkpoint[1].num_timesteps if checkpoint else None)


def _add_checkpoint(folder: Path, path: Path, manifest: Manifest) -> dict[str, object]:
    name = path.name + PUBLISHED_SUFFIX
    _link(path, folder / name)
    (folder / manifest_name(manifest.num_timesteps)).write_text(manifest.to_json(), "utf-8")
    replay = []
    for chunk in chunks.listed(manifest):
        _link(chunks.path_of(path, chunk), folder / chunk.name)
        replay.append({"file": chunk.name, "sha256": chunk.sha256, "size": chunk.size})
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
