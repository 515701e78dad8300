"""A training of a few episodes, and the same stretch again from the disk: whether checkpoints can be gone on from.

The stretch begins at a checkpoint inside an episode and ends two episode ends later, with a SIGTERM. A process of its
own begins at that checkpoint and must come to the same states. Where it does not, the next way to the environments'
state is tried; where none leads to the same, the first difference is named by its path.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kernel import phases, signals
from kernel.channel import Channel
from kernel.checkpoints.room import Takes
from kernel.checkpoints.stretch import Outcome
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration
from kernel.contract.events import Inexact, Proved, Training, Unproved
from kernel.training.repetition import Points
from kernel.training.second_process import again, killed
from kernel.training.straight import (
    TRIAL_TIMESTEPS,
    checkpoints_of,
    prepared,
    reaches,
    taken_over,
    takes_of,
    train_heard,
    train_straight,
)

Beat = Callable[[int, str], None]
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
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


def _within(configuration: Configuration, folder: Path, channel: Channel) -> Rehearsal:
    """Both in this process: whether it can be gone on from, and not whether the same comes of it."""
    stop, began = signals.StopFlag.install(), time.monotonic()
    reached, ear = train_heard(configuration, folder, channel.beat, stop, Points((TRIAL_TIMESTEPS,)), close=True)
    rehearsal = Rehearsal(startup_s=time.monotonic() - began, played=reached, takes=takes_of(folder, ear))
    channel.event(phases.RESUME)
    newest = checkpoints_of(folder)[-1][1] if reached else None
    stop = signals.StopFlag.install()
    from_t = newest.num_timesteps if newest else 0
    went_to, ear = train_heard(configuration, folder, channel.beat, stop, Points((from_t + 1,)), close=True)
    training = ear.first(Training)
    resumed = training.num_timesteps if training else 0
    evidence = f"{reached} timesteps left a checkpoint that resumed at timestep {resumed}"
    if not 0 < from_t == resumed < went_to:
        check = Check("checkpointing", FAIL, f"{evidence} and went to {went_to}, not from {from_t}.", _GIVE_STATE)
    elif inexact := ear.first(Inexact):
        check = Check("checkpointing", WARN, f"{evidence}, but not bit-identically: {inexact.reason}.", _GIVE_STATE)
    else:
        check = Check("checkpointing", PASS, f"{evidence}.")
    rehearsal.checks = [check, taken_over() if not stop.is_installed() else reaches()]
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
        trained = train_straight(_taking(configuration, way, against), place, channel)
        if tried == 1:
            rehearsal.startup_s, rehearsal.played = trained.startup_s, trained.reached
            rehearsal.longest_pause_s = trained.longest_pause_s
            rehearsal.takes = trained.takes
            signals_check = trained.signals_check
            ways += _NEXT_WAYS.get(trained.way, ())
        channel.event(phases.PROOF)
        outcome = proved = again(trained, channel.beat)
        if kills and isinstance(proved, Proved):
            channel.event(phases.KILLS)
            outcome = killed(_taking(configuration, way, ""), place / "killed", kills, seed, channel.beat)
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


def _taking(configuration: Configuration, way: str, because: str) -> Configuration:
    session = replace(configuration.session, environment_state=way, inexact_because=because if way == "none" else "")
    return replace(configuration, session=session)


def _episode_ends(count: int) -> str:
    return {0: "inside one episode", 1: "through one episode end"}.get(count, f"through {count} episode ends")
