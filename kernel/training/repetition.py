"""A stretch of a training executed again, to prove that its checkpoint can be gone on from.

    python -m kernel.training --config FOLDER/run.json --folder FOLDER --repeat

In a process of its own, from what lies on the disk and nothing else, in a working folder without files: as the next
session would. Where it comes to another state than the training did, the first difference is named by its path.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from kernel.channel import Channel
from kernel.checkpoints.checkpoint import read_state
from kernel.checkpoints.stretch import Outcome, Stretch
from kernel.contract.config import Configuration
from kernel.contract.events import CheckpointRefused, Event, Inexact, Proved, Training, Unproved
from kernel.contract.manifest import CheckpointInvalid, Manifest, verify
from kernel.contract.names import CHECKPOINTS, checkpoint_name
from kernel.training import codec, train
from kernel.training.consistent_point import Wish
from kernel.training.learner import Learner
from kernel.training.state_graph.difference import named


@dataclass
class Points:
    """Checkpoints at these timesteps and no others; the training ends with the last."""

    timesteps: tuple[int, ...]
    last: int = -1

    def __call__(self, learner: Learner) -> Wish:
        before, self.last = self.last, learner.num_timesteps
        if not any(before < point <= self.last for point in self.timesteps):
            return Wish.go_on
        return Wish.end if self.last >= self.timesteps[-1] else Wish.checkpoint


@dataclass
class _Watched(Points):
    """And what of the learner no checkpoint holds, at the beginning and now."""

    at_first: dict[str, str] | None = None
    now: dict[str, str] = field(default_factory=dict)

    def __call__(self, learner: Learner) -> Wish:
        self.now = learner.unkept()
        self.at_first = self.now if self.at_first is None else self.at_first
        return super().__call__(learner)

    @property
    def changed(self) -> list[str]:
        """Paths of what is another thing by now, or was not there."""
        before = self.at_first or {}
        return sorted(path for path in {*before, *self.now} if before.get(path) != self.now.get(path))


class _Ear(Channel):
    """Hears what the training says, and tells nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.began_at: int | None = None
        self.against: list[str] = []

    def event(self, event: Event) -> None:
        match event:
            case Training():
                self.began_at = event.num_timesteps
            case Inexact() | CheckpointRefused():
                self.against += [event.reason] if event.reason not in self.against else []


def repeat(configuration: Configuration, folder: Path) -> Outcome:
    """Execute the stretch in `folder` again and compare.

    Raises
    ------
    CheckpointInvalid, OSError
        What is in the folder cannot be read.
    """
    stretch, ear, began = Stretch(folder), _Ear(), time.monotonic()
    expected = stretch.expected()
    if not expected:
        raise CheckpointInvalid("there is no checkpoint to come to")
    session = replace(configuration.session, gate=False, keep_checkpoints=100, keep_replay_buffers=100)
    points = _Watched(tuple(manifest.num_timesteps for _, manifest in expected))
    train.train(replace(configuration, session=session), folder, ear, 1e9, plan=points)
    t = expected[-1][1].num_timesteps
    if not ear.began_at:
        return Unproved(reason=f"no checkpoint could be begun at ({'; '.join(ear.against) or 'there is none'})")
    if ear.against:
        return Inexact(num_timesteps=ear.began_at, reason="; ".join(ear.against))
    for path, manifest in expected:
        if found := _difference(path, manifest, folder / CHECKPOINTS):
            reason = f"executed again from timestep {ear.began_at:,}, timestep {manifest.num_timesteps:,} {found}"
            return Inexact(num_timesteps=manifest.num_timesteps, reason=reason)
    if points.changed:
        said = f"{points.changed[0]} changes while it learns, and no checkpoint holds it: keep it in a buffer"
        return Unproved(reason=said)
    return Proved(num_timesteps=t, from_timesteps=ear.began_at, seconds=round(time.monotonic() - began, 2))


def _difference(path: Path, manifest: Manifest, checkpoints: Path) -> str:
    """How the state that was come to differs from the one at `path`; empty where it does not."""
    ours = checkpoints / checkpoint_name(manifest.num_timesteps)
    if not ours.exists():
        return "was not come to"
    again = verify(ours)
    if again.state_digest == manifest.state_digest:
        return ""
    return f"is another state: {named(codec.decode(read_state(path, manifest)), codec.decode(read_state(ours, again)))}"
