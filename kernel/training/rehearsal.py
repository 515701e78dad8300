"""A training of a few episodes, and the same stretch again from the disk: whether checkpoints can be gone on from.

The stretch begins at a checkpoint inside an episode and ends two episode ends later, with a SIGTERM. A process of its
own begins at that checkpoint and must come to the same states. Where it does not, the next way to the environments'
state is tried; where none leads to the same, the first difference is named by its path.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from kernel import phases, signals
from kernel.channel import LOADING, STEPPING, Channel
from kernel.checkpoints.checkpoint import read_state
from kernel.checkpoints.room import Takes
from kernel.checkpoints.stretch import Outcome, Stretch
from kernel.contract import chunks
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration
from kernel.contract.events import Event, Inexact, Proved, Training, Unproved
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS
from kernel.training import codec, train
from kernel.training.consistent_point import Wish
from kernel.training.learner import Learner
from kernel.training.pace import Pauses
from kernel.training.repetition import Points

E = TypeVar("E", bound=Event)
Beat = Callable[[int, str], None]
TRIAL_TIMESTEPS = 10
EPISODE_ENDS = 2
MAX_SECONDS = 10.0
UPDATES = 3
"""A training that is killed goes through so many updates, and through MIN_VECTOR_STEPS at least."""
MIN_VECTOR_STEPS = 100
MAX_VECTOR_STEPS = 4_000
"""A stretch whose episodes are longer ends before two of them are over."""
PATIENCE_SECONDS = 60.0
"""A second process has this long besides ten times what the first one took."""
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
MEASURABLE_BYTES = 1 << 16
"""Rows of less say nothing of how small the others can be made."""
_NEXT_WAYS = {"contract": ("graph", "actions"), "graph": ("actions",), "actions": ("visible",)}


@dataclass
class Rehearsal:
    """What it found."""

    checks: list[Check] = field(default_factory=list)
    startup_s: float = 0.0
    """Until the first training of it was over that did no more than TRIAL_TIMESTEPS [s]."""
    played: int = 0
    """Timesteps that were played in this process."""
    longest_pause_s: float = 0.0
    """The longest time in which nothing was heard of its first training [s]."""
    measured: dict[str, Any] = field(default_factory=dict)
    """Further fields of the event that tells of it."""
    takes: Takes | None = None
    """What the run takes of a disk."""


class _Ear(Channel):
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
class _Straight:
    """The plan of the training that is executed twice."""

    stop: signals.StopFlag
    begins_at: int | None = None
    """Timestep of the checkpoint that the stretch begins at."""
    began: float = 0.0
    ready_at: float = 0.0
    """When TRIAL_TIMESTEPS were over."""
    episode_ends: int = 0
    sent_at: int | None = None
    """Timestep of the SIGTERM."""
    _seen: int = 0
    _vector_steps: int = 0
    _ends_at: int = 0

    def __call__(self, learner: Learner) -> Wish:
        t, seen = learner.num_timesteps, len(learner.returns())
        ended, self._seen = seen - self._seen, seen
        if self.begins_at is None:
            # Inside an episode, where there is an inside: its state is what a reset would lose.
            if t < TRIAL_TIMESTEPS or (ended and t < 2 * TRIAL_TIMESTEPS):
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


def rehearse(
    configuration: Configuration, folder: Path, channel: Channel, *, thorough: bool, kills: int = 0, seed: int = 0
) -> Rehearsal:
    """Train a little and go on from what that left; in a second process with `thorough`.

    With `kills` a longer training is gone on from at so many instants more, which `seed` draws.

    Raises
    ------
    Exception
        Whatever the environment or the recipe raises.
    """
    short = prepared(configuration, configuration.session.environment_state)
    return _across(short, folder, channel, kills, seed) if thorough else _within(short, folder, channel)


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


def _killed(configuration: Configuration, folder: Path, kills: int, seed: int, beat: Beat) -> Outcome:
    """Train through several updates, and go on from each of `kills` instants to the next, in processes of their own.

    The first that comes elsewhere, or the last. States that are equal need no other beginning than the training's own.
    """
    run = configuration.run
    rollout = int(run.hyperparameters.get("n_steps", 0) or 0)
    steps = min(MAX_VECTOR_STEPS, max(UPDATES * rollout, MIN_VECTOR_STEPS))
    instants = random.Random(seed).sample(range(2, steps + 1), kills + 1)
    points = Points(tuple(sorted(run.n_envs * instant for instant in instants)))
    began = time.monotonic()
    _train(configuration, folder, beat, signals.StopFlag.install(), points, close=True)
    patience = PATIENCE_SECONDS + 10 * (time.monotonic() - began)
    outcome: Outcome = Unproved(reason="the training left no two checkpoints")
    for number, (begins, ends) in enumerate(itertools.pairwise(_checkpoints(folder))):
        stretch = Stretch.make(folder / f"stretch-{number}", configuration)
        stretch.begin_at(*begins)
        stretch.come_to(ends[0])
        outcome = _outcome(stretch, patience, beat)
        stretch.remove()
        if not isinstance(outcome, Proved):
            break
    return outcome


def _within(configuration: Configuration, folder: Path, channel: Channel) -> Rehearsal:
    """Both in this process: whether it can be gone on from, and not whether the same comes of it."""
    stop, began = signals.StopFlag.install(), time.monotonic()
    reached, ear = _train(configuration, folder, channel.beat, stop, Points((TRIAL_TIMESTEPS,)), close=True)
    rehearsal = Rehearsal(startup_s=time.monotonic() - began, played=reached, takes=_takes(folder, ear))
    channel.event(phases.RESUME)
    newest = _checkpoints(folder)[-1][1] if reached else None
    stop = signals.StopFlag.install()
    from_t = newest.num_timesteps if newest else 0
    went_to, ear = _train(configuration, folder, channel.beat, stop, Points((from_t + 1,)), close=True)
    training = ear.first(Training)
    resumed = training.num_timesteps if training else 0
    evidence = f"{reached} timesteps left a checkpoint that resumed at timestep {resumed}"
    if not 0 < from_t == resumed < went_to:
        check = Check("checkpointing", FAIL, f"{evidence} and went to {went_to}, not from {from_t}.", _GIVE_STATE)
    elif inexact := ear.first(Inexact):
        check = Check("checkpointing", WARN, f"{evidence}, but not bit-identically: {inexact.reason}.", _GIVE_STATE)
    else:
        check = Check("checkpointing", PASS, f"{evidence}.")
    rehearsal.checks = [check, _taken_over() if not stop.is_installed() else _reaches()]
    return rehearsal


_GIVE_STATE = "Give the environment state_dict() and load_state_dict() for a bit-identical continuation."


def _across(configuration: Configuration, folder: Path, channel: Channel, kills: int, seed: int) -> Rehearsal:
    """The stretch in this process, and again in one of its own, each way until one leads to the same."""
    rehearsal = Rehearsal()
    ways, tried, against = [configuration.session.environment_state], 0, ""
    outcome: Outcome | None = None
    while ways:
        way, place, tried = ways.pop(0), folder / str(tried), tried + 1
        if tried > 1:
            channel.event(phases.TRIAL)
        trained = _straight(_taking(configuration, way, against), place, channel)
        if tried == 1:
            rehearsal.startup_s, rehearsal.played = trained.startup_s, trained.reached
            rehearsal.longest_pause_s = trained.longest_pause_s
            rehearsal.takes = trained.takes
            signals_check = trained.signals_check
            ways += _NEXT_WAYS.get(trained.way, ())
        channel.event(phases.PROOF)
        outcome = proved = _again(trained, channel.beat)
        if kills and isinstance(proved, Proved):
            channel.event(phases.KILLS)
            outcome = _killed(_taking(configuration, way, ""), place / "killed", kills, seed, channel.beat)
        if isinstance(proved, Proved) and isinstance(outcome, Proved):
            if tried > 1:  # the first way is the one that a session finds by itself
                rehearsal.measured = {"environment_state": trained.way}
            evidence = (
                f"In a second process the checkpoint of timestep {proved.from_timesteps:,} led to the same states up "
                f"to timestep {proved.num_timesteps:,}, {_episode_ends(trained.episode_ends)}, bit for bit."
            )
            if kills:
                evidence += f" So did {kills} kills at other instants, up to timestep {outcome.num_timesteps:,}."
            if trained.way == "actions":
                evidence += (
                    " A resume repeats the actions of the episode under way: about "
                    f"{1000 * trained.s_per_timestep * configuration.run.n_envs:.2g} s for each 1,000."
                )
            if against:
                evidence += f" The usual way to its state does not: {against.rstrip('.')}."
            rehearsal.checks = [Check("checkpointing", PASS, evidence), signals_check]
            return rehearsal
        assert not isinstance(outcome, Proved)
        against = against or outcome.reason
        if not ways and way != "none" and isinstance(outcome, Unproved):
            ways.append("none")  # whether it can be gone on from at all
    assert outcome is not None
    if isinstance(outcome, Unproved):
        fix = "The training could not go on after an interruption: mend it."
        rehearsal.checks = [Check("checkpointing", FAIL, f"A resume fails: {against.rstrip('.')}.", fix), signals_check]
        return rehearsal
    rehearsal.measured = {"environment_state": "none", "inexact": against}
    evidence = f"A resume would not be bit-identical: {against.rstrip('.')}."
    fix = (
        "Give the environment state_dict() and load_state_dict() that hold it, or make it depend on the seed alone; "
        "else each resume begins new episodes."
    )
    rehearsal.checks = [Check("checkpointing", WARN, evidence, fix), signals_check]
    return rehearsal


@dataclass
class _Trained:
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


def _straight(configuration: Configuration, folder: Path, channel: Channel) -> _Trained:
    stop, began = signals.StopFlag.install(), time.monotonic()
    plan = _Straight(stop)
    reached, ear = _train(configuration, folder, channel.beat, stop, plan, close=True)
    found = _checkpoints(folder)
    if plan.begins_at is None or not found:
        raise CheckpointInvalid(f"{reached} timesteps left no checkpoint")
    begins = next((one for one in found if one[1].num_timesteps == plan.begins_at), found[0])
    state = codec.decode(read_state(*begins))
    return _Trained(
        configuration,
        folder,
        reached,
        begins[1].num_timesteps,
        plan.episode_ends,
        plan.ready_at - began,
        time.monotonic() - began,
        (time.monotonic() - plan.ready_at) / max(1, reached - begins[1].num_timesteps),
        ear.pauses.longest,
        str(state["environments"].get("way", "")),
        _signals(plan, found[-1][1].num_timesteps),
        _takes(folder, ear),
    )


def _again(trained: _Trained, beat: Beat) -> Outcome:
    stretch = Stretch.make(trained.folder / "stretch", trained.configuration)
    for path, manifest in _checkpoints(trained.folder):
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
        signals.end_group(process)
    if (outcome := stretch.outcome()) is not None:
        return outcome
    if process.returncode == -signal.SIGKILL and time.monotonic() >= until:
        return Unproved(reason=f"the second process came to no end within {patience:.0f} s")
    return Unproved(reason=f"the second process ended with {stretch.last_line() or f'code {process.returncode}'}")


def _taking(configuration: Configuration, way: str, because: str) -> Configuration:
    session = replace(configuration.session, environment_state=way, inexact_because=because if way == "none" else "")
    return replace(configuration, session=session)


def _train(
    configuration: Configuration,
    folder: Path,
    beat: Beat,
    stop: signals.StopFlag,
    plan: Callable[[Learner], Wish],
    *,
    close: bool = False,
) -> tuple[int, _Ear]:
    """Train; with `close` what the environments hold, a port or a licence, is another process's to take afterwards."""
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    ear = _Ear(beat)
    learners: list[Learner] = []

    def planned(learner: Learner) -> Wish:
        learners[:] = [learner]
        return plan(learner)

    _, num_timesteps, _ = train.train(configuration, folder, ear, 1e6, stop=stop, plan=planned)
    if close and learners:
        learners[0].close()
    return num_timesteps, ear


def _checkpoints(folder: Path) -> list[tuple[Path, Manifest]]:
    """Those of a training, earliest first."""
    return [(path, verify(path)) for path in reversed(checkpoints_in(folder / CHECKPOINTS))]


def _takes(folder: Path, ear: _Ear) -> Takes | None:
    """What the newest checkpoint of a training takes, and its replay buffer would when it is full."""
    found, training = _checkpoints(folder), ear.first(Training)
    if not found or training is None:
        return None
    (path, manifest), replay_bytes = found[-1], training.replay_bytes or 0
    listed = chunks.listed(manifest)
    rows, size = sum(chunk.last - chunk.first for chunk in listed), sum(chunk.size for chunk in listed)
    in_memory = rows * (training.replay_row_bytes or 0)
    share = min(1.0, size / in_memory) if in_memory >= MEASURABLE_BYTES else 1.0
    return Takes(path.stat().st_size, replay_bytes, share)


def _episode_ends(count: int) -> str:
    return {0: "inside one episode", 1: "through one episode end"}.get(count, f"through {count} episode ends")


def _signals(plan: _Straight, last: int) -> Check:
    if not plan.stop.is_installed():
        return _taken_over()
    if plan.sent_at is None or not plan.stop.is_set():
        return Check("signals", WARN, "The trial ended before a SIGTERM could be tried.")
    if last <= plan.sent_at:
        evidence = f"SIGTERM at timestep {plan.sent_at} left no checkpoint of its own."
        return Check("signals", FAIL, evidence, "The environment must return from step() within seconds.")
    return Check("signals", PASS, f"SIGTERM at timestep {plan.sent_at} led to a checkpoint at {last} and a clean end.")


def _taken_over() -> Check:
    evidence = f"The environment took over SIGTERM ({signal.getsignal(signal.SIGTERM)})."
    fix = "Take its signal.signal(SIGTERM, …) out: the session would end without its last checkpoint."
    return Check("signals", FAIL, evidence, fix)


def _reaches() -> Check:
    return Check("signals", PASS, "SIGTERM reaches the trainer.")
