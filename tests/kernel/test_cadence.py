"""Checkpoints come when they are due, and never take more than their share of the time."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.training.cadence import Cadence


@pytest.mark.parametrize(
    ("freq", "max_seconds", "last", "now", "num_timesteps", "due"),
    [
        (10, 60.0, 0, 0.0, 9, False),
        (10, 60.0, 0, 0.0, 10, True),
        (10, 60.0, 9, 0.0, 10, True),
        (10, 60.0, 10, 0.0, 10, False),
        (10, 60.0, 10, 0.0, 19, False),
        (10, 60.0, 11, 0.0, 20, True),
        (10, 60.0, 13, 0.0, 47, True),
        (1000, 60.0, 5, 59.5, 6, False),
        (1000, 60.0, 5, 60.0, 6, True),
        (1000, 60.0, 5, 60.0, 5, False),
        (1000, 0.0, 5, 1e6, 6, False),
        (1000, 0.5, 5, 0.5, 6, True),
    ],
)
def test_a_checkpoint_is_due_by_timesteps_or_by_seconds(
    freq: int, max_seconds: float, last: int, now: float, num_timesteps: int, due: bool
) -> None:
    cadence = Cadence(freq, max_seconds=max_seconds)
    cadence.begin(100.0, last)
    assert cadence.is_due(100.0 + now, num_timesteps) is due


def test_seconds_count_from_the_last_checkpoint_of_which_there_is_none_by_default_for_a_minute() -> None:
    cadence = Cadence(1000)
    cadence.begin(100.0, 0)
    cadence.taken(130.0, 7)
    assert not cadence.is_due(189.5, 8)
    assert cadence.is_due(190.0, 8)
    assert not cadence.is_due(190.0, 7)


@pytest.mark.parametrize(
    ("spent", "now", "due"),
    [
        (2.0, 0.0, True),
        (2.25, 0.0, False),
        (2.25, 24.0, False),
        (2.25, 25.0, True),
        (3.0, 99.0, False),
        (3.0, 100.0, True),
        (3.0, 400.0, True),
    ],
)
def test_checkpoints_take_two_seconds_and_a_hundredth_of_the_time(spent: float, now: float, due: bool) -> None:
    cadence = Cadence(10, max_seconds=0.0)
    cadence.begin(1000.0, 0)
    cadence.cost(spent / 2)
    cadence.cost(spent / 2)
    assert cadence.is_due(1000.0 + now, 10) is due


def test_stretching_is_said_once_with_the_seconds_that_fit() -> None:
    cadence = Cadence(10)
    cadence.begin(0.0, 0)
    cadence.cost(3.0)
    assert cadence.newly_stretched(0.0) is None, "no checkpoint was taken"
    for t in (10, 20):
        cadence.taken(0.0, t)
    assert cadence.newly_stretched(100.0) is None, "it fits"
    assert cadence.newly_stretched(99.0) == 150.0
    assert cadence.newly_stretched(99.0) is None, "it says so once"


def run_cadence(step_s: float, cost_s: float, seconds: float, **kwargs: Any) -> tuple[Cadence, int]:
    cadence = Cadence(10, **kwargs)
    cadence.begin(0.0, 0)
    now, t, taken = 0.0, 0, 0
    while now < seconds:
        now += step_s
        t += 1
        if cadence.is_due(now, t):
            cadence.taken(now, t)
            cadence.cost(cost_s)
            taken += 1
            now += cost_s
    return cadence, taken


def test_cheap_checkpoints_come_at_every_multiple() -> None:
    _, taken = run_cadence(0.05, 0.002, 1000.0)
    assert taken == pytest.approx(1000.0 / 0.5, rel=0.01)


def test_dear_checkpoints_are_stretched_to_one_percent() -> None:
    cadence, _ = run_cadence(0.001, 0.02, 2000.0)
    assert cadence.spent <= 2.0 + 0.01 * 2000.0 + 0.02
    assert cadence.spent > 0.9 * (2.0 + 0.01 * 2000.0)
    assert cadence.newly_stretched(0.0) is not None
    assert cadence.newly_stretched(0.0) is None, "it says so once"


def test_slow_steps_are_checkpointed_by_the_clock() -> None:
    cadence = Cadence(1000, max_seconds=60.0)
    cadence.begin(0.0, 0)
    assert not cadence.is_due(59.0, 5)
    assert cadence.is_due(60.0, 6)
    assert not Cadence(1000, max_seconds=0.0).is_due(1e6, 6)
