"""Checkpoints come when they are due, and never take more than their share of the time."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.training.cadence import Cadence


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
