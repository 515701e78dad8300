"""Where a session can resume from: its own disk and the dataset that is mounted; the newest that verifies wins.

Standard library only: the supervisor imports it without torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel.checkpoints import checkpoint, digests
from kernel.contract import chunks
from kernel.contract import manifest as manifests
from kernel.contract.config import RunConfig
from kernel.contract.manifest import MANIFEST, CheckpointInvalid, Manifest
from kernel.contract.names import INDEX, METRICS

MOUNT_VARIABLE = "KAGGLE_CACHE_MOUNT_FOLDER"
DEFAULT_MOUNT = "/kaggle/input"
_TREE = re.compile(r"checkpoint_t(\d+)(?:\.zip)?(?:\.bin)?")


class RunChanged(ValueError):
    """Raised when the run to resume was configured otherwise and nobody said that this is meant."""


@dataclass(frozen=True)
class Refused:
    """A checkpoint that was not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Choice:
    """The newest checkpoint that counts, if any, and those that were passed over on the way to it."""

    path: Path | None = None
    manifest: Manifest | None = None
    refused: list[Refused] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Keys of the run that differ and were allowed to."""

    @property
    def finished(self) -> bool:
        """Whether the run had reached its total when it was written."""
        return self.manifest is not None and bool(self.manifest.details.get("finished"))


def mounted_folders(dataset: str, environment: Iterable[tuple[str, str]] | None = None) -> list[Path]:
    """Folders in which the platform may show `dataset` (owner/slug)."""
    if not dataset:
        return []
    variables = dict(os.environ if environment is None else environment)
    root = Path(variables.get(MOUNT_VARIABLE) or DEFAULT_MOUNT)
    owner, slug = dataset.split("/")
    folders = [root / "datasets" / owner / slug, root / slug]
    return [folder for folder in folders if folder.is_dir()]


def candidates_in(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints of `folder` by name, at any depth: files, unpacked trees, and links, which may lead nowhere."""
    if not folder.is_dir():
        return []
    found: list[tuple[int, Path]] = []
    for path in sorted(folder.rglob("*")):
        if (path.is_file() or path.is_symlink()) and (t := manifests.num_timesteps_of(path.name)) is not None:
            found.append((t, path))
        elif path.is_dir() and (match := _TREE.fullmatch(path.name)) and (path / MANIFEST).is_file():
            found.append((int(match[1]), path))
    return found


def newest_whole(folder: Path, run_id: str) -> int | None:
    """Timestep of the newest checkpoint of a run in `folder` that verifies, with its replay chunks."""
    for path in manifests.checkpoints_in(folder):
        try:
            manifest = manifests.verify(path, run_id=run_id)
            chunks.verify(path, manifest)
        except (CheckpointInvalid, OSError):
            continue
        return manifest.num_timesteps
    return None


def choose(
    folders: Iterable[Path],
    run: RunConfig,
    allow_changed: Iterable[str] = (),
    passed_over: Container[Path] = (),
    apart: Path | None = None,
) -> Choice:
    """The newest checkpoint of `run` in `folders` that verifies; earlier folders win where timesteps are equal.

    Those in `passed_over` were found to be no use, and are not looked at. Replay chunks of any of them may lie in the
    folder `apart`.

    Raises
    ------
    RunChanged
        The newest one is whole and of this run, but of another configuration.
    """
    found = [(t, -order, path) for order, folder in enumerate(folders) for t, path in candidates_in(folder)]
    refused: list[Refused] = []
    for _, _, path in sorted(found, key=lambda item: item[:2], reverse=True):
        if path in passed_over:
            continue
        try:
            manifest = manifests.verify(path, run_id=run.run_id)
            chunks.verify(path, manifest, apart)
        except (CheckpointInvalid, OSError) as error:
            refused.append(Refused(path, str(error)))
            continue
        changed = differences(run, manifest)
        if unmeant := {k: v for k, v in changed.items() if k not in set(allow_changed)}:
            raise RunChanged(describe(path.name, unmeant))
        return Choice(path, manifest, refused, sorted(changed))
    return Choice(refused=refused)


def differences(run: RunConfig, manifest: Manifest) -> dict[str, tuple[Any, Any]]:
    """Keys of `run` that the checkpoint was made with otherwise: (its value, ours)."""
    if manifest.config_digest == run.digest:
        return {}
    ours = json.loads(json.dumps(dataclasses.asdict(run)))
    theirs = manifest.details.get("run")
    if not isinstance(theirs, dict):
        return {"configuration": (manifest.config_digest[:12], run.digest[:12])}
    return {k: (theirs.get(k), ours.get(k)) for k in sorted({*ours, *theirs}) if theirs.get(k) != ours.get(k)}


def describe(name: str, changed: dict[str, tuple[Any, Any]]) -> str:
    """What differs, and how to go on knowingly."""
    shown = "; ".join(f"{k}: {_short(was)} in the checkpoint, {_short(now)} now" for k, (was, now) in changed.items())
    allowed = " ".join(f"--allow-changed {k}" for k in changed)
    return f"{name} was made by another version of this run. {shown}. Restore it, or accept it with {allowed}."


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def import_checkpoint(source: Path, manifest: Manifest, checkpoints: Path) -> Path:
    """A verified checkpoint from a mounted dataset, with the replay chunks it needs, as a file of `checkpoints`."""
    chunks.copy_all(source, manifest, checkpoints)
    return checkpoint.import_into(checkpoints, source, manifest)


def import_records(source: Path, working: Path, checkpoints: Path) -> None:
    """The metrics rows and digests that lie beside a mounted checkpoint."""
    metrics = source.parent / METRICS
    if metrics.is_file() and not (working / METRICS).exists():
        shutil.copyfile(metrics, working / METRICS)
    digests.add_published(checkpoints, source.parent / INDEX)
