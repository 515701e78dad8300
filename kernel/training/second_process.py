"""A stretch of a training executed again in a process of its own, and what that says.

From one checkpoint to those after it, or between instants drawn at random, as kills would come.
"""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from kernel import signals
from kernel.channel import LOADING
from kernel.checkpoints.stretch import Outcome, Stretch
from kernel.contract.config import Configuration
from kernel.contract.events import Proved, Unproved
from kernel.training.repetition import Points
from kernel.training.straight import MAX_VECTOR_STEPS, Trained, checkpoints_of, train_heard

Beat = Callable[[int, str], None]
UPDATES = 3
"""A training that is killed goes through so many updates, and through MIN_VECTOR_STEPS at least."""
MIN_VECTOR_STEPS = 100
PATIENCE_SECONDS = 60.0
"""A second process has this long besides ten times what the first one took."""


def killed(configuration: Configuration, folder: Path, kills: int, seed: int, beat: Beat) -> Outcome:
    """Train through several updates, and go on from each of `kills` instants to the next, in processes of their own.

    The first that comes elsewhere, or the last. States that are equal need no other beginning than the training's own.
    """
    run = configuration.run
    rollout = int(run.hyperparameters.get("n_steps", 0) or 0)
    steps = min(MAX_VECTOR_STEPS, max(UPDATES * rollout, MIN_VECTOR_STEPS))
    instants = random.Random(seed).sample(range(2, steps + 1), kills + 1)
    points = Points(tuple(sorted(run.n_envs * instant for instant in instants)))
    began = time.monotonic()
    train_heard(configuration, folder, beat, signals.StopFlag.install(), points, close=True)
    patience = PATIENCE_SECONDS + 10 * (time.monotonic() - began)
    outcome: Outcome = Unproved(reason="the training left no two checkpoints")
    for number, (begins, ends) in enumerate(itertools.pairwise(checkpoints_of(folder))):
        stretch = Stretch.make(folder / f"stretch-{number}", configuration)
        stretch.begin_at(*begins)
        stretch.come_to(ends[0])
        outcome = _outcome(stretch, patience, beat)
        stretch.remove()
        if not isinstance(outcome, Proved):
            break
    return outcome


def again(trained: Trained, beat: Beat) -> Outcome:
    """Execute its stretch again."""
    stretch = Stretch.make(trained.folder / "stretch", trained.configuration)
    for path, manifest in checkpoints_of(trained.folder):
        if manifest.num_timesteps == trained.begins_at:
            stretch.begin_at(path, manifest)
        elif manifest.num_timesteps > trained.begins_at:
            stretch.come_to(path)
    return _outcome(stretch, PATIENCE_SECONDS + 10 * trained.seconds, beat)


def _outcome(stretch: Stretch, patience: float, beat: Beat) -> Outcome:
    """Execute it in a process of its own, and wait for what that says."""
    process = stretch.start()
    until = time.monotonic() + patience
    try:
        while process.poll() is None and time.monotonic() < until:
            beat(0, LOADING)
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    finally:
        stretch.end(process)
    if (outcome := stretch.outcome()) is not None:
        return outcome
    if process.returncode == -signal.SIGKILL and time.monotonic() >= until:
        return Unproved(reason=f"the second process came to no end within {patience:.0f} s")
    return Unproved(reason=f"the second process ended with {stretch.last_line() or f'code {process.returncode}'}")
