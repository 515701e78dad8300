"""Which checkpoints stay on the disk: the newest few, the best, the last published, powers of two; metrics for ever.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Any

from kernel.contract import segments
from kernel.contract.manifest import MANIFEST, Manifest, checkpoints_in
from kernel.contract.names import PUBLISHED, num_timesteps_of

BEST_KEY = "eval/mean_reward"


def kept(timesteps: list[int], newest: int, best: int | None = None, published: int | None = None) -> set[int]:
    """Of these timesteps, those that stay: `newest` many, the best, the last published, one for each power of two.

    For each power of two the oldest checkpoint at or beyond it stays, so their number grows as the logarithm.
    """
    ordered = sorted(timesteps)
    stay = set(ordered[-max(newest, 2) :])
    stay |= {t for t in (best, published) if t in ordered}
    power = 1
    while ordered and power <= ordered[-1]:
        stay.add(next(t for t in ordered if t >= power))
        power *= 2
    return stay


def _prune_segments(folder: Path, scores: Scores, checkpoints: list[Path]) -> None:
    """Delete the replay segments that no checkpoint lists any more."""
    try:
        needed = {name for path in checkpoints for name in scores.segments(path)}
    except OSError:
        return  # what cannot be read now may list any of them
    for path in (folder / segments.FOLDER).glob("*.bin"):
        if path.name not in needed:
            with contextlib.suppress(OSError):
                path.unlink()


class Scores:
    """What retention must know of checkpoints, read from their manifests once each."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float | None, tuple[str, ...]]] = {}

    def add(self, path: Path, manifest: Manifest) -> None:
        """The checkpoint at `path` was just written with `manifest`: it need not be read for this."""
        self._known[path] = _knowledge(manifest)

    def best(self, paths: list[Path]) -> int | None:
        """Timestep of the checkpoint with the best evaluation, if any has one."""
        scored = [(score, num_timesteps_of(p.name)) for p in paths if (score := self._score(p)) is not None]
        return max(scored)[1] if scored else None

    def segments(self, path: Path) -> tuple[str, ...]:
        """Names of the replay segments that the checkpoint at `path` needs; OSError where it cannot be read."""
        return self._read(path)[1]

    def _score(self, path: Path) -> float | None:
        try:
            return self._read(path)[0]
        except OSError:
            return None

    def _read(self, path: Path) -> tuple[float | None, tuple[str, ...]]:
        if path not in self._known:
            self._known[path] = _read_manifest(path)
        return self._known[path]


def _read_manifest(path: Path) -> tuple[float | None, tuple[str, ...]]:
    try:
        with zipfile.ZipFile(path) as archive:
            return _knowledge(Manifest.from_json(archive.read(MANIFEST)))
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        return None, ()


def _knowledge(manifest: Manifest) -> tuple[float | None, tuple[str, ...]]:
    score: Any = manifest.metrics.get(BEST_KEY)
    names = tuple(str(entry["name"]) for entry in segments.listed(manifest))
    return (float(score) if isinstance(score, (int, float)) else None), names


def prune(folder: Path, newest: int, scores: Scores) -> list[str]:
    """Delete the checkpoints of `folder` that need not stay; their names.

    Called after a newer checkpoint is wholly on the disk; never leaves fewer than two where there were two.
    """
    paths = checkpoints_in(folder)
    by_timestep = {t: p for p in paths if (t := num_timesteps_of(p.name)) is not None}
    stay = kept(list(by_timestep), newest, scores.best(paths), published_timesteps(folder.parent))
    gone = [path for t, path in by_timestep.items() if t not in stay]
    for path in gone:
        with contextlib.suppress(OSError):
            path.unlink()
    if (folder / segments.FOLDER).is_dir():
        _prune_segments(folder, scores, [by_timestep[t] for t in stay])
    return [path.name for path in gone]


def published_timesteps(folder: Path) -> int | None:
    """Timestep of the last checkpoint that is in a dataset version; None before the first."""
    try:
        return int(json.loads((folder / PUBLISHED).read_text("utf-8"))["num_timesteps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publishing_given_up(folder: Path) -> bool:
    """Whether the supervisor has said that nothing can be published for now."""
    try:
        return bool(json.loads((folder / PUBLISHED).read_text("utf-8")).get("given_up"))
    except (OSError, ValueError, AttributeError):
        return False


def publish_patience(folder: Path) -> float | None:
    """How long a publish may take by what the ones before took [s]; None where the supervisor did not say."""
    try:
        return float(json.loads((folder / PUBLISHED).read_text("utf-8"))["patience_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
