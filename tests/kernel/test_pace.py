"""The speed of a training, and whether the rest of it fits."""

from __future__ import annotations

import pytest

from kernel.training.pace import Pace


def test_calibration_counts_evaluations_and_leaves_the_first_step_out() -> None:
    pace = Pace(10_000, eval_freq=1000, began=0.0, first_timestep=0, seconds_left=2000.0)
    pace.step(30.0, 1)  # compiling
    now = 30.0
    calibrations = []
    for t in range(2, 400):
        now += 0.1
        pace.step(now, t)
        if t == 100:
            pace.evaluated(60.0)
            now += 60.0
        told = pace.calibration(now, t)
        calibrations += [told] if told else []
    before, said = calibrations
    assert before.evaluation_seconds is None
    assert said.steps_per_s == pytest.approx(10.0, rel=0.02)
    assert said.evaluation_seconds == pytest.approx(9 * 60.0)
    assert said.seconds_needed == pytest.approx(990 + 540, rel=0.02)
    assert said.fits is True
    late = Pace(10_000, eval_freq=0, began=0.0, first_timestep=0, seconds_left=100.0)
    for t in range(1, 60):
        late.step(t * 0.1, t)
    assert late.calibration(6.0, 59).fits is False  # type: ignore[index]


def test_calibration_counts_what_the_training_waits_for_publishes() -> None:
    pace = Pace(1_000, eval_freq=0, began=0.0, first_timestep=0, seconds_left=2000.0)
    pace.step(0.0, 1)
    now, told = 0.0, []
    for t in range(2, 202):
        now += 0.1
        pace.step(now, t)
        if t % 20 == 0 and t > 60:
            pace.waited(4.0)
            now += 4.0
        told += [said] if (said := pace.calibration(now, t)) else []
    before, said = told
    assert (before.waiting_seconds, before.seconds_needed) == (0.0, pytest.approx(98.8))
    assert said.steps_per_s == pytest.approx(10.0, rel=0.02)
    assert said.waiting_seconds == pytest.approx(920 / 79 * 4.0, rel=0.02)
    assert said.seconds_needed == pytest.approx(said.waiting_seconds + 92.0, rel=0.02)
