"""The plan before a launch: hours from a measured speed, evaluation included, and what would fit instead."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract.checks import Verdict
from kernel.contract.config import RunConfig
from launcher.checks import plan
from launcher.checks.plan import Speed
from launcher.targets.base import Quota

GPU = "NvidiaTeslaT4"

INCIDENT_TIMESTEPS = 24_000 + 10_000 + 10_000
INCIDENT_DECISIONS = 98_000
"""Training and evaluation together, as the session's log shows."""
INCIDENT_HOURS = (14, 16)
"""What those decisions take at the speed that was measured; the launcher of that day had said 3 to 4."""


def _incident(hours: float) -> plan.Plan:
    """The incident's plan, its evaluations every 1,000 steps, at the speed that makes all decisions take `hours`."""
    run = RunConfig("incident", INCIDENT_TIMESTEPS, 1_000, eval_freq=1_000, eval_episodes=5)
    decisions_per_s = INCIDENT_DECISIONS / (hours * 3600)
    evaluation_s = (INCIDENT_DECISIONS - INCIDENT_TIMESTEPS) / 44 / decisions_per_s
    return plan.make(run, Speed(decisions_per_s, evaluation_s, startup_s=0.0), 12.0, GPU)


@pytest.mark.parametrize("hours", INCIDENT_HOURS)
def test_the_incidents_plan_is_refused_in_any_session_there_is(hours: float) -> None:
    made = _incident(hours)
    assert made.evaluations == 44
    assert made.hours == pytest.approx(hours)
    assert made.evaluation_h / made.hours == pytest.approx(0.54, abs=0.02)
    check = plan.judge(made, Quota(0, 0, 30, None))
    assert check.verdict is Verdict.FAIL
    assert "2 sessions of 12 h" in check.evidence
    assert "--relay" in check.fix
    assert "--max-hours" not in check.fix
    assert "eval_freq" in check.fix


def test_without_its_evaluations_the_incident_looked_as_if_it_fitted() -> None:
    training_alone = dataclasses.replace(_incident(14), evaluations=0)
    assert training_alone.fits
    assert training_alone.hours < 7


def test_what_fits_is_what_the_message_says() -> None:
    run = RunConfig("long-run", 1_000_000, 1_000, eval_freq=10_000)
    made = plan.make(run, Speed(50.0, evaluation_s=30.0), 2.0, None)
    check = plan.judge(made)
    fit = int(re.findall(r"--timesteps (\d+)", check.fix)[0])
    shorter = dataclasses.replace(run, total_timesteps=fit)
    longer = dataclasses.replace(run, total_timesteps=int(1.12 * fit))
    assert plan.make(shorter, made.speed, 2.0, None).fits
    assert not plan.make(longer, made.speed, 2.0, None).fits
    hours = float(re.findall(r"--max-hours ([\d.]+)", check.fix)[0])
    assert dataclasses.replace(made, max_hours=hours).fits


def test_a_relay_may_take_more_sessions_than_one() -> None:
    made = plan.make(RunConfig("long-run", 5_000_000, 1_000), Speed(50.0), 11.5, GPU)
    assert plan.judge(made).verdict is Verdict.FAIL
    assert plan.judge(made, relay=True).verdict is Verdict.PASS
    never = dataclasses.replace(made, max_hours=0.001)
    assert plan.judge(never, relay=True).verdict is Verdict.FAIL


def test_without_a_measured_speed_nothing_is_promised() -> None:
    assert plan.judge(None).verdict is Verdict.WARN


@given(
    timesteps=st.integers(1, 10**9),
    steps_per_s=st.floats(0.01, 1e5),
    evaluation_s=st.floats(0, 1e4),
    eval_freq=st.integers(0, 10**6),
    max_hours=st.floats(0.01, 12),
    startup_s=st.floats(0, 600),
)
def test_a_plan_never_promises_more_than_its_speed_can_do(
    timesteps: int, steps_per_s: float, evaluation_s: float, eval_freq: int, max_hours: float, startup_s: float
) -> None:
    run = RunConfig("any-run", timesteps, 10, eval_freq=eval_freq)
    made = plan.make(run, Speed(steps_per_s, evaluation_s, startup_s=startup_s), max_hours, GPU)
    if made.sessions is None:
        assert made.usable_h == 0
        return
    assert made.sessions * made.usable_h >= made.hours * (1 - 1e-9)
    assert (made.sessions - 1) * made.usable_h < made.hours or made.sessions == 1
    assert made.usable_h < max_hours
    assert made.gpu_hours >= made.hours
    assert made.timesteps_that_fit <= timesteps
    if made.timesteps_that_fit and not made.fits:
        assert plan.make(
            dataclasses.replace(run, total_timesteps=made.timesteps_that_fit), made.speed, max_hours, GPU
        ).fits
    assert plan.judge(made).verdict is (Verdict.PASS if made.fits else Verdict.FAIL)


def test_the_plan_says_that_waits_for_publishes_are_not_in_it() -> None:
    made = plan.make(RunConfig("short-run", 100, 10), Speed(50.0), 0.25, None, 20)
    assert "no time for the 5 publishes that it waits for" in plan.judge(made).evidence
    assert "waits" not in plan.judge(plan.make(RunConfig("short-run", 100, 10), Speed(50.0), 0.25, None)).evidence
