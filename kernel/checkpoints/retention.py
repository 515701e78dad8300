"""Which checkpoints stay on the disk, and which of them keep their replay buffer; metrics stay for ever.

The newest ones stay, the best, the last published, and milestones: one for each power of two. Replay buffers are what
takes the disk. The newest two keep theirs, and so do older ones as long as all take little more than the newest alone.
Every other one is left with its weights: `checkpoint_t500.weights.zip`, from which no run goes on. Where the disk is
still too small, milestones go, the oldest first.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.checkpoints import checkpoint
from kernel.contract import chunks
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import MANIFEST, Manifest, checkpoints_in
from kernel.contract.names import PUBLISHED, num_timesteps_of, weights_timesteps_of

BEST_KEY = "eval/mean_reward"
WHOLE = 2
"""Newest checkpoints that stay whatever is asked for: one may turn out to be damaged."""
MOST_OF_NEWEST = 1.5
"""What replay buffers of further ones may bring all together to, in that of the newest."""
LITTLE_BYTES = 1 << 20
"""What all of them may take in any case [B]."""
FREE_SHARE = 0.9
"""Part of the free space of a disk that checkpoints may take where no other bound is asked for."""


def kept(timesteps: list[int], newest: int, best: int | None = None, published: int | None = None) -> set[int]:
    """Of these timesteps, those that stay: `newest` many, the best, the last published, one for each power of two.

    For each power of two the oldest checkpoint at or beyond it stays, so their number grows as the logarithm.
    """
    ordered = sorted(timesteps)
    stay = set(ordered[-max(newest, WHOLE) :])
    stay |= {t for t in (best, published) if t in ordered}
    power = 1
    while ordered and power <= ordered[-1]:
        stay.add(next(t for t in ordered if t >= power))
        power *= 2
    return stay


class Scores:
    """What retention must know of checkpoints, read from their manifests once each."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float | None, tuple[Chunk, ...]]] = {}

    def add(self, path: Path, manifest: Manifest) -> None:
        """The checkpoint at `path` was just written with `manifest`: it need not be read for this."""
        self._known[path] = _knowledge(manifest)

    def best(self, paths: Iterable[Path]) -> int | None:
        """Timestep of the checkpoint with the best evaluation, if any has one."""
        scored = [(score, _timesteps(p)) for p in paths if (score := self._score(p)) is not None]
        return max(scored)[1] if scored else None

    def chunks(self, path: Path) -> tuple[Chunk, ...]:
        """The replay chunks that the checkpoint at `path` lists; OSError where it cannot be read."""
        return self._read(path)[1]

    def _score(self, path: Path) -> float | None:
        try:
            return self._read(path)[0]
        except OSError:
            return None

    def _read(self, path: Path) -> tuple[float | None, tuple[Chunk, ...]]:
        if path not in self._known:
            self._known[path] = _read_manifest(path)
        return self._known[path]


def _read_manifest(path: Path) -> tuple[float | None, tuple[Chunk, ...]]:
    if path.exists() and not (path.is_file() or path.is_dir()):
        return None, ()  # opening a pipe that nobody writes to would wait for ever
    try:
        with zipfile.ZipFile(path) as archive:
            return _knowledge(Manifest.from_json(archive.read(MANIFEST)))
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        return None, ()


def _knowledge(manifest: Manifest) -> tuple[float | None, tuple[Chunk, ...]]:
    score: Any = manifest.metrics.get(BEST_KEY)
    return (float(score) if isinstance(score, (int, float)) else None), tuple(chunks.listed(manifest))


@dataclass
class Retention:
    """Keeps a folder of checkpoints within its bounds."""

    folder: Path
    newest: int
    """How many of the newest stay."""
    whole: int = WHOLE
    """How many of them keep their replay buffer whatever it takes."""
    budget_bytes: int | None = None
    """What checkpoints and replay chunks may take together [B]; None sets no bound."""

    def __post_init__(self) -> None:
        self.scores = Scores()

    def prune(self, in_use: Container[str] = ()) -> list[str]:
        """Delete what need not stay; the names of the checkpoints that went.

        Called after a newer checkpoint is wholly on the disk; never leaves fewer than two where there were two. Chunks
        named `in_use` are of the checkpoint to come.
        """
        found = self._found()
        milestones = self._milestones(found)
        stay = kept(list(found), self.newest, self.scores.best(found.values()), published_timesteps(self.folder.parent))
        gone = [found.pop(t) for t in sorted(found) if t not in stay]
        _delete(gone)
        self._leave_weights(found)
        self._sweep(in_use)
        if self.budget_bytes is not None:
            gone += self._delete_milestones([t for t in milestones if t in found], found, self.budget_bytes)
        return [path.name for path in gone]

    def make_room(self, in_use: Container[str] = (), *, everything: bool = False) -> bool:
        """The disk is full: delete what was refused and every milestone, with `everything` all but the newest and best.

        Whether anything was there to be deleted.
        """
        found = self._found()
        if everything:
            newest = max((t for t, path in found.items() if num_timesteps_of(path.name) is not None), default=None)
            gone = [path for t, path in found.items() if t not in (newest, self.scores.best(found.values()))]
        else:
            gone = [found[t] for t in self._milestones(found)]
        gone += self.folder.glob(f"*{checkpoint.REFUSED}")
        _delete(gone)
        return self._sweep(in_use) or bool(gone)

    def _found(self) -> dict[int, Path]:
        """Checkpoints by timestep, those with weights alone among them where no whole one is of the same."""
        alone = self.folder.iterdir() if self.folder.is_dir() else ()
        found = {t: path for path in alone if (t := weights_timesteps_of(path.name)) is not None}
        return found | {t: p for p in checkpoints_in(self.folder) if (t := num_timesteps_of(p.name)) is not None}

    def _milestones(self, found: dict[int, Path]) -> list[int]:
        """Those that stay for a power of two alone, the oldest first."""
        others = {self.scores.best(found.values()), published_timesteps(self.folder.parent)}
        return [t for t in sorted(found)[: -max(self.newest, WHOLE)] if t not in others]

    def _leave_weights(self, found: dict[int, Path]) -> None:
        """Give the checkpoints that keep no replay buffer the name that says so."""
        held: dict[str, int] = {}
        keep, most = 0, 0.0
        for t in sorted(found, reverse=True):
            path = found[t]
            try:
                listed = self.scores.chunks(path)
            except OSError:
                continue
            if not listed or num_timesteps_of(path.name) is None:
                continue
            more = held | {chunk.name: chunk.size for chunk in listed}
            most = most or max(LITTLE_BYTES, MOST_OF_NEWEST * sum(more.values()))
            if keep < self.whole or sum(more.values()) <= most:
                held, keep = more, keep + 1
            else:
                found[t] = checkpoint.leave_weights(path)

    def _delete_milestones(self, milestones: list[int], found: dict[int, Path], most: int) -> list[Path]:
        gone: list[Path] = []
        taken = used_bytes(self.folder)
        for t in milestones:
            if taken <= most:
                break
            path = found.pop(t)
            taken -= _size(path)
            _delete([path])
            gone.append(path)
        return gone

    def _sweep(self, in_use: Container[str]) -> bool:
        """Delete the replay chunks that no whole checkpoint lists; whether there were any."""
        folder = self.folder / chunks.FOLDER
        if not folder.is_dir():
            return False
        try:
            needed = {chunk.name for path in checkpoints_in(self.folder) for chunk in self.scores.chunks(path)}
        except OSError:
            return False  # what cannot be read now may list any of them
        gone = [path for path in folder.glob("*.bin") if path.name not in needed and path.name not in in_use]
        _delete(gone)
        return bool(gone)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _timesteps(path: Path) -> int | None:
    whole = num_timesteps_of(path.name)
    return weights_timesteps_of(path.name) if whole is None else whole


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def used_bytes(folder: Path) -> int:
    """What the checkpoints in `folder` and their replay chunks take [B]."""
    files = [*folder.glob("*"), *(folder / chunks.FOLDER).glob("*")]
    return sum(_size(path) for path in files if path.is_file())


def budget_bytes(folder: Path, asked: int = 0) -> int:
    """What checkpoints in `folder` may take [B]: as asked for, else what they take and most of what is free."""
    return asked or int(used_bytes(folder) + FREE_SHARE * shutil.disk_usage(folder).free)


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
