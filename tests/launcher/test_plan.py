"""The plan before a launch: hours from a measured speed, evaluation included, and what would fit instead."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract.checks import Verdict
from kernel.contract.config import RunConfig
from launcher.checks import plan
from launcher.checks.plan import Speed
from launcher.commands.push import asked_for
from launcher.targets.base import Quota

GPU = "NvidiaTeslaT4"

STEPWISE = {"n_steps": 1}
"""Any number of timesteps is whole rollouts."""
INCIDENT_TIMESTEPS = 24_000 + 10_000 + 10_000
INCIDENT_DECISIONS = 98_000
"""Training and evaluation together, as the session's log shows."""
INCIDENT_HOURS = (14, 16)
"""What those decisions take at the speed that was measured; the launcher of that day had said 3 to 4."""


def _incident(hours: float) -> plan.Plan:
    """The incident's plan, its evaluations every 1,000 steps, at the speed that makes all decisions take `hours`."""
    run = RunConfig("incident", INCIDENT_TIMESTEPS, 1_000, eval_freq=1_000, eval_episodes=5, hyperparameters=STEPWISE)
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
    run = RunConfig("long-run", 1_000_000, 1_000, eval_freq=10_000, hyperparameters=STEPWISE)
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
    made = plan.make(RunConfig("long-run", 5_000_000, 1_000, hyperparameters=STEPWISE), Speed(50.0), 11.5, GPU)
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
    run = RunConfig("any-run", timesteps, 10, eval_freq=eval_freq, hyperparameters=STEPWISE)
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
    made = plan.make(RunConfig("short-run", 100, 10, hyperparameters=STEPWISE), Speed(50.0), 0.25, None, 20)
    assert "no time for the 5 publishes that it waits for" in plan.judge(made).evidence
    assert (
        "waits"
        not in plan.judge(
            plan.make(RunConfig("short-run", 100, 10, hyperparameters=STEPWISE), Speed(50.0), 0.25, None)
        ).evidence
    )


def seconds_of_work(
    timesteps: int,
    max_hours: float = 1.0,
    *,
    evaluations: int = 0,
    evaluation_s: float = 0.0,
    evaluation_over: bool = True,
    startup_s: float = 60.0,
    accelerator: str | None = None,
    waits: int = 0,
) -> plan.Plan:
    """A plan at one timestep a second; one hour has 3,420 s for it: 60 go for the start, 120 for the end."""
    speed = Speed(1.0, evaluation_s, evaluation_over, startup_s)
    return plan.Plan(timesteps, evaluations, speed, max_hours, accelerator, waits)


@pytest.mark.parametrize(
    ("made", "usable_s", "sessions"),
    [
        (seconds_of_work(3420), 3420.0, 1),
        (seconds_of_work(3421), 3420.0, 2),
        (seconds_of_work(6840), 3420.0, 2),
        (seconds_of_work(6841), 3420.0, 3),
        (seconds_of_work(1420, evaluations=20, evaluation_s=100.0), 3420.0, 1),
        (seconds_of_work(1421, evaluations=20, evaluation_s=100.0), 3420.0, 2),
        (seconds_of_work(3480, startup_s=0.0), 3480.0, 1),
        (seconds_of_work(3481, startup_s=0.0), 3480.0, 2),
        (seconds_of_work(300, 480 / 3600), 300.0, 1),
        (seconds_of_work(1, 400 / 3600), 240.0, 1),
        (seconds_of_work(100, 80 / 3600), 0.0, None),
        (seconds_of_work(100, 79 / 3600), 0.0, None),
        (seconds_of_work(100, 160 / 3600), 60.0, 2),
    ],
)
def test_a_session_has_its_limit_less_the_start_and_the_last_checkpoint(
    made: plan.Plan, usable_s: float, sessions: int | None
) -> None:
    assert 3600 * made.usable_h == pytest.approx(usable_s, abs=1e-9)
    assert made.sessions == sessions
    assert made.fits is (sessions == 1)


def test_no_work_is_a_session_all_the_same() -> None:
    assert seconds_of_work(0).sessions == 1


@pytest.mark.parametrize(
    ("made", "gpu_s"),
    [
        (seconds_of_work(3000, accelerator=GPU), 3000 + 180),
        (seconds_of_work(6000, accelerator=GPU), 6000 + 2 * 180),
        (seconds_of_work(1000, evaluations=20, evaluation_s=100.0, accelerator=GPU), 3000 + 180),
        (seconds_of_work(3000), 0),
        (seconds_of_work(100, 79 / 3600, accelerator=GPU), 0),
    ],
)
def test_quota_is_debited_for_the_work_and_each_sessions_start_and_end(made: plan.Plan, gpu_s: float) -> None:
    assert 3600 * made.gpu_hours == pytest.approx(gpu_s, abs=1e-6)


@pytest.mark.parametrize(
    ("made", "fit"),
    [
        (seconds_of_work(3420), 3400),
        (seconds_of_work(99), 99),
        (seconds_of_work(100), 100),
        (seconds_of_work(109), 100),
        (seconds_of_work(5000), 3400),
        (seconds_of_work(500_000), 3400),
        (seconds_of_work(50_000, 12.0), 43_000),
        (seconds_of_work(5000, evaluations=10, evaluation_s=100.0), 2700),
        (seconds_of_work(5000, evaluations=1, evaluation_s=3420.0), 0),
        (seconds_of_work(5000, evaluations=1, evaluation_s=3371.0), 29),
        (seconds_of_work(5000, evaluations=1, evaluation_s=3370.0), 29),
        (seconds_of_work(5000, evaluations=1, evaluation_s=4000.0), 0),
        (seconds_of_work(5000, evaluation_s=4000.0), 3400),
        (seconds_of_work(100, 79 / 3600), 0),
        (seconds_of_work(9, 165 / 3600), 9),
        (seconds_of_work(400, 81 / 3600), 0),
        (seconds_of_work(400, 84 / 3600), 3),
    ],
)
def test_the_timesteps_that_fit_have_two_digits_and_an_evaluation_to_spare(made: plan.Plan, fit: int) -> None:
    assert made.timesteps_that_fit == fit


WAYS = ((1, 3420), (2, 7020), (3, 10_620), (4, 14_220), (6, 21_420), (9, 32_220), (11.5, 41_220), (12, 43_020))


@pytest.mark.parametrize(
    ("timesteps", "max_hours"),
    [
        *((usable_s - 1, hours) for hours, usable_s in WAYS),
        *((usable_s + 1, hours) for (_, usable_s), (hours, _) in itertools.pairwise(WAYS)),
        (43_021, None),
    ],
)
def test_the_shortest_longer_session_that_fits_is_named(timesteps: int, max_hours: float | None) -> None:
    fix = plan.judge(seconds_of_work(timesteps, 0.9)).fix
    assert re.findall(r"^  --max-hours ([\d.]+)$", fix, re.MULTILINE) == ([f"{max_hours:g}"] if max_hours else [])


def test_a_session_of_the_length_that_was_asked_for_is_no_way() -> None:
    assert "  --max-hours 2" in plan.judge(seconds_of_work(3421)).fix
    assert "--max-hours" not in plan.judge(seconds_of_work(43_021, 12.0)).fix


ASSUMED = (
    "Assumed: 1 timesteps/s, updates included, as measured on this machine; the session's machine is taken to be "
    "as fast; 60 s of start-up a session, and 120 s for its last checkpoint"
)


@pytest.mark.parametrize(
    ("made", "quota", "evidence", "ways"),
    [
        (
            seconds_of_work(3420),
            None,
            f"3,420 timesteps take 57 min (training 57 min): 1 session of 1 h. {ASSUMED}.",
            [],
        ),
        (
            seconds_of_work(5000, evaluations=10, evaluation_s=100.0, accelerator=GPU, waits=7),
            Quota(4.0, 1.5, 30.0, None),
            "5,000 timesteps take 1.7 h (training 1.4 h, 10 evaluations 17 min): 2 sessions of 1 h, 1.8 h of GPU "
            f"quota, and one is asked for. 24.5 h of quota are left this week. {ASSUMED}; 10 evaluations of 100 s "
            "each; no time for the 7 publishes that it waits for (max_timesteps_at_risk).",
            [
                "  --max-hours 2",
                "  --timesteps 2700   in a session of 1 h",
                "  --relay   chains 2 sessions of 1 h until all timesteps are done",
            ],
        ),
        (
            seconds_of_work(3420, evaluations=2, evaluation_s=30.0, evaluation_over=False),
            Quota(4.0, 1.5, 30.0, None),
            "3,420 timesteps take 58 min (training 57 min, 2 evaluations 1 min): 2 sessions of 1 h, and one is asked "
            f"for. {ASSUMED}; 2 evaluations of at least 30 s each.",
            [
                "  --max-hours 2",
                "  --timesteps 3300   in a session of 1 h",
                "  a larger eval_freq: without any evaluation it takes 57 min",
                "  --relay   chains 2 sessions of 1 h until all timesteps are done",
            ],
        ),
        (
            seconds_of_work(90_000, 79 / 3600, accelerator=GPU),
            None,
            "90,000 timesteps take 25.0 h (training 25.0 h): no session of 0.0219444 h, 0 s of GPU quota, and one is "
            f"asked for. {ASSUMED.replace('120 s', '20 s')}.",
            ["  --relay --max-hours 12   chains 3 sessions"],
        ),
        (
            seconds_of_work(90_000, 79 / 3600, startup_s=43_200.0),
            None,
            "90,000 timesteps take 25.0 h (training 25.0 h): no session of 0.0219444 h, and one is asked for. "
            f"{ASSUMED.replace('60 s', '43200 s').replace('120 s', '20 s')}.",
            [],
        ),
    ],
    ids=["fits", "evaluations and quota", "fits without evaluations", "no time at all", "no session at all"],
)
def test_the_plan_is_said_whole(made: plan.Plan, quota: Quota | None, evidence: str, ways: list[str]) -> None:
    check = plan.judge(made, quota)
    assert check.evidence == evidence
    assert check.verdict is (Verdict.PASS if made.fits else Verdict.FAIL)
    assert check.fix == ("" if made.fits else "\n".join(["What would fit:", *ways]))
    assert made.plain()["hours"] == made.hours
    assert made.plain()["speed"]["steps_per_s"] == 1.0


def test_one_timestep_that_fits_is_a_way() -> None:
    assert "  --timesteps 1   in" in plan.judge(seconds_of_work(400, 81.5 / 3600)).fix


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (59, "59 s"),
        (59.25, "59 s"),
        (60, "1 min"),
        (90, "2 min"),
        (3540, "59 min"),
        (3600, "1.0 h"),
        (5400, "1.5 h"),
        (0, "0 s"),
    ],
)
def test_hours_are_said_in_the_unit_that_suits(seconds: float, said: str) -> None:
    assert (
        f"(training {said})"
        in dataclasses.replace(seconds_of_work(1), speed=Speed(1 / seconds if seconds else math.inf)).sentence()
    )


@pytest.mark.parametrize(
    ("timesteps", "eval_freq", "at_risk", "evaluations", "waits"),
    [(100, 0, 0, 0, 0), (100, 10, 0, 10, 0), (101, 10, 0, 11, 0), (109, 10, 50, 11, 2), (100, 200, 101, 1, 0)],
)
def test_evaluations_and_waits_are_counted(
    timesteps: int, eval_freq: int, at_risk: int, evaluations: int, waits: int
) -> None:
    stepwise = RunConfig("any-run", timesteps, 10, eval_freq=eval_freq, hyperparameters=STEPWISE)
    made = plan.make(stepwise, Speed(1.0), 1.0, GPU, at_risk)
    assert (made.evaluations, made.waits) == (evaluations, waits)
    assert plan.make(RunConfig("any-run", timesteps, 10, hyperparameters=STEPWISE), Speed(1.0), 1.0, GPU).waits == 0
    assert plan.Plan(timesteps, 0, Speed(1.0), 1.0, GPU).waits == 0
    assert made.speed.evaluation_over
    assert (made.speed.evaluation_s, made.speed.startup_s, made.accelerator) == (0.0, 60.0, GPU)


@pytest.mark.parametrize(
    ("timesteps", "hyperparameters", "whole", "said"),
    [
        (1000, {}, 2048, "1,000 timesteps, 2,048 with whole rollouts, take"),
        (2048, {}, 2048, "2,048 timesteps take"),
        (1000, {"n_steps": 300}, 1200, "1,000 timesteps, 1,200 with whole rollouts, take"),
    ],
)
def test_a_plan_is_of_whole_rollouts_and_says_so(
    timesteps: int, hyperparameters: dict[str, int], whole: int, said: str
) -> None:
    run = RunConfig("any-run", timesteps, 10, hyperparameters=hyperparameters)
    made = plan.make(run, Speed(1000.0), 1.0, None)
    assert made.timesteps == whole
    assert made.sentence().startswith(said)
    assert asked_for(run) in said


@pytest.mark.parametrize(("pause_s", "verdict"), [(0.0, Verdict.PASS), (100.0, Verdict.PASS), (100.1, Verdict.WARN)])
def test_a_pause_near_the_silence_that_is_allowed_is_warned_of_and_what_to_set_is_enough(
    pause_s: float, verdict: Verdict
) -> None:
    run = RunConfig("short-run", 100, 10, hyperparameters=STEPWISE)
    speed = Speed(50.0, pause_s=pause_s)
    check = plan.judge(plan.make(run, speed, 1.0, None, silence_s=300.0))
    assert check.verdict is verdict
    assert ("silence_s allows 300 s" in check.evidence) == (pause_s > 0)
    if verdict is Verdict.WARN:
        enough = re.search(r"silence_s = (\d+)", check.fix)
        assert enough is not None
        assert plan.judge(plan.make(run, speed, 1.0, None, silence_s=float(enough[1]))).verdict is Verdict.PASS
