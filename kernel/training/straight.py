"""The training that a rehearsal executes twice: its plan, what was heard of it, and what it left.

It leaves a checkpoint inside an episode, and ends two episode ends later with a SIGTERM.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kernel import signals
from kernel.channel import STEPPING, Channel
from kernel.checkpoints.checkpoint import read_state
from kernel.checkpoints.room import Takes
from kernel.contract import chunks
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration
from kernel.contract.events import Event, Training
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS
from kernel.training import codec, train
from kernel.training.consistent_point import Wish
from kernel.training.learner import Learner
from kernel.training.pace import Pauses

E = TypeVar("E", bound=Event)
Beat = Callable[[int, str], None]
TRIAL_TIMESTEPS = 10
EPISODE_ENDS = 2
MAX_SECONDS = 10.0
MAX_VECTOR_STEPS_BEFORE = 400
MAX_SECONDS_BEFORE = 2.0
"""So much is waited for an episode's end before a stretch begins: what outlives a reset is seen after one only."""
MAX_VECTOR_STEPS = 4_000
"""A stretch whose episodes are longer ends before two of them are over."""
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
MEASURABLE_BYTES = 1 << 16
"""Rows of less say nothing of how small the others can be made."""


class Ear(Channel):
    """Hears the training."""

    def __init__(self, beat: Beat) -> None:
        super().__init__()
        self.heard: list[Event] = []
        self.pauses = Pauses()
        self._beat = beat

    def event(self, event: Event) -> None:
        self.heard.append(event)

    def beat(self, num_timesteps: int, phase: str = STEPPING) -> None:
        self.pauses.heard(phase)
        self._beat(0, phase)

    def first(self, kind: type[E]) -> E | None:
        """The first event of that kind."""
        return next((event for event in self.heard if isinstance(event, kind)), None)


@dataclass
class Straight:
    """The plan of the training that is executed twice."""

    stop: signals.StopFlag
    begins_at: int | None = None
    """Timestep of the checkpoint that the stretch begins at."""
    began: float = 0.0
    started_at: float = 0.0
    """When TRIAL_TIMESTEPS were over."""
    ready_at: float = 0.0
    """When the stretch began."""
    episode_ends: int = 0
    sent_at: int | None = None
    """Timestep of the SIGTERM."""
    _seen: int = 0
    _vector_steps_before: int = 0
    _first_at: float = 0.0
    _may_begin_at: int | None = None
    """Timestep by which the second episode is under way."""
    _vector_steps: int = 0
    _ends_at: int = 0

    def __call__(self, learner: Learner) -> Wish:
        t, seen = learner.num_timesteps, len(learner.returns())
        ended, self._seen = seen - self._seen, seen
        if self.begins_at is None:
            if not self._is_inside_an_episode(t, ended):
                return Wish.go_on
            self.begins_at, self.ready_at = t, time.monotonic()
            return Wish.checkpoint
        self.episode_ends += ended
        self._vector_steps += 1
        steps = self._vector_steps
        if self.sent_at is not None:
            return Wish.end if t >= self._ends_at else Wish.go_on
        if (
            self.episode_ends >= EPISODE_ENDS
            or steps >= MAX_VECTOR_STEPS
            or time.monotonic() - self.ready_at > MAX_SECONDS
        ):
            self.sent_at, self._ends_at = t, t + TRIAL_TIMESTEPS  # where the signal is to end it, this is for the case
            if self.stop.is_installed():
                os.kill(os.getpid(), signal.SIGTERM)
        return Wish.checkpoint if steps & (steps - 1) == 0 else Wish.go_on

    def _is_inside_an_episode(self, t: int, ended: int) -> bool:
        """And no first one, where that is over soon: the state inside is what a reset would lose."""
        self._vector_steps_before += 1
        if not self._first_at:
            self._first_at = time.monotonic()
        if ended and self._may_begin_at is None:
            self._may_begin_at = t + TRIAL_TIMESTEPS // 2
        if t < TRIAL_TIMESTEPS:
            return False
        if not self.started_at:
            self.started_at = time.monotonic()
        if self._vector_steps_before >= MAX_VECTOR_STEPS_BEFORE:
            return True
        if time.monotonic() - self._first_at > MAX_SECONDS_BEFORE:
            return not ended or t >= 2 * TRIAL_TIMESTEPS
        return not ended and self._may_begin_at is not None and t >= self._may_begin_at


def prepared(configuration: Configuration, way: str) -> Configuration:
    """`configuration` for a training of a few episodes that keeps all its checkpoints and publishes none."""
    run, session = configuration.run, configuration.session
    return Configuration(
        replace(
            run,
            total_timesteps=max(run.total_timesteps, 1_000_000 * run.n_envs),
            checkpoint_freq=TRIAL_TIMESTEPS,
            eval_freq=0,
        ),
        replace(
            session,
            dataset="",
            max_timesteps_at_risk=0,
            checkpoint_seconds=0.0,
            keep_checkpoints=100,
            keep_replay_buffers=100,
            disk_bytes=0,
            on_unhealthy="warn",
            environment_state=way,
        ),
    )


@dataclass
class Trained:
    """A training that is to be executed again."""

    configuration: Configuration
    folder: Path
    reached: int
    begins_at: int
    episode_ends: int
    startup_s: float
    seconds: float
    s_per_timestep: float
    longest_pause_s: float
    way: str
    signals_check: Check
    takes: Takes | None


def train_straight(configuration: Configuration, folder: Path, channel: Channel) -> Trained:
    """Train with that plan.

    Raises
    ------
    Exception
        Whatever the environment or the recipe raises.
    """
    stop, began = signals.StopFlag.install(), time.monotonic()
    plan = Straight(stop)
    reached, ear = train_heard(configuration, folder, channel.beat, stop, plan, close=True)
    found = checkpoints_of(folder)
    if plan.begins_at is None or not found:
        raise CheckpointInvalid(f"{reached} timesteps left no checkpoint")
    begins = next((one for one in found if one[1].num_timesteps == plan.begins_at), found[0])
    state = codec.decode(read_state(*begins))
    return Trained(
        configuration,
        folder,
        reached,
        begins[1].num_timesteps,
        plan.episode_ends,
        plan.started_at - began,
        time.monotonic() - began,
        (time.monotonic() - plan.ready_at) / max(1, reached - begins[1].num_timesteps),
        ear.pauses.longest,
        str(state["environments"].get("way", "")),
        _signals(plan, found[-1][1].num_timesteps),
        takes_of(folder, ear),
    )


def train_heard(
    configuration: Configuration,
    folder: Path,
    beat: Beat,
    stop: signals.StopFlag,
    plan: Callable[[Learner], Wish],
    *,
    close: bool = False,
) -> tuple[int, Ear]:
    """Train; with `close` what the environments hold, a port or a licence, is another process's to take afterwards."""
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    ear = Ear(beat)
    learners: list[Learner] = []

    def planned(learner: Learner) -> Wish:
        learners[:] = [learner]
        return plan(learner)

    _, num_timesteps, _ = train.train(configuration, folder, ear, 1e6, stop=stop, plan=planned)
    if close and learners:
        learners[0].close()
    return num_timesteps, ear


def checkpoints_of(folder: Path) -> list[tuple[Path, Manifest]]:
    """Those of a training, earliest first."""
    return [(path, verify(path)) for path in reversed(checkpoints_in(folder / CHECKPOINTS))]


def takes_of(folder: Path, ear: Ear) -> Takes | None:
    """What the newest checkpoint of a training takes, and its replay buffer would when it is full."""
    found, training = checkpoints_of(folder), ear.first(Training)
    if not found or training is None:
        return None
    (path, manifest), replay_bytes = found[-1], training.replay_bytes or 0
    listed = chunks.listed(manifest)
    rows, size = sum(chunk.last - chunk.first for chunk in listed), sum(chunk.size for chunk in listed)
    in_memory = rows * (training.replay_row_bytes or 0)
    share = min(1.0, size / in_memory) if in_memory >= MEASURABLE_BYTES else 1.0
    return Takes(path.stat().st_size, replay_bytes, share)


def _signals(plan: Straight, last: int) -> Check:
    if not plan.stop.is_installed():
        return taken_over()
    if plan.sent_at is None or not plan.stop.is_set():
        return Check("signals", WARN, "The trial ended before a SIGTERM could be tried.")
    if last <= plan.sent_at:
        evidence = f"SIGTERM at timestep {plan.sent_at} left no checkpoint of its own."
        return Check("signals", FAIL, evidence, "The environment must return from step() within seconds.")
    return Check("signals", PASS, f"SIGTERM at timestep {plan.sent_at} led to a checkpoint at {last} and a clean end.")


def taken_over() -> Check:
    """SIGTERM is another's."""
    evidence = f"The environment took over SIGTERM ({signal.getsignal(signal.SIGTERM)})."
    fix = "Take its signal.signal(SIGTERM, …) out: the session would end without its last checkpoint."
    return Check("signals", FAIL, evidence, fix)


def reaches() -> Check:
    """SIGTERM is ours."""
    return Check("signals", PASS, "SIGTERM reaches the trainer.")
