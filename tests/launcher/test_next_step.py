"""What a relay does next follows from facts alone, and no combination of them spends what it should not."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.contract.endings import Ending
from launcher.checks.quota import MARGIN_H
from launcher.runs.next_step import (
    FRUITLESS,
    SHORTEST_H,
    SLOT_WAIT_S,
    SPARE_H,
    Done,
    Facts,
    Follow,
    GiveUp,
    Lacking,
    Push,
    Refusal,
    WaitUntil,
    Why,
    next_refresh,
    next_step,
)
from launcher.targets.base import Quota

NOW = 1_800_000_000.0
HOUR_S = 3600.0
JUDGED = {Ending.flood, Ending.unhealthy, Ending.cancelled, Ending.deleted, Ending.never_ran}

times = st.floats(NOW - 8 * 86_400, NOW + 8 * 86_400)
quotas = st.none() | st.builds(
    Quota,
    used_h=st.floats(0, 40),
    reserved_h=st.floats(0, 12),
    allowed_h=st.just(30.0),
    refresh=st.none() | times.map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
refusals = st.none() | st.builds(
    Refusal, lacking=st.sampled_from(Lacking), reason=st.just("no"), at=st.floats(NOW - 8 * 86_400, NOW), quota=quotas
)
facts = st.builds(
    Facts,
    now=st.just(NOW),
    may_be_alive=st.booleans(),
    total_timesteps=st.just(100),
    safe_timesteps=st.sampled_from([0, 1, 99, 100, 101]),
    ending=st.none() | st.sampled_from(Ending),
    alert=st.booleans(),
    fruitless=st.integers(0, 4),
    on_gpu=st.booleans(),
    wished_h=st.floats(0.01, 12),
    quota=quotas,
    refusal=refusals,
)


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(facts)
def test_no_combination_of_facts_leads_to_a_step_that_it_should_not(known: Facts) -> None:
    step = next_step(known)
    safe = known.safe_timesteps >= known.total_timesteps
    assert isinstance(step, Follow) is known.may_be_alive
    assert isinstance(step, Done) is (safe and not known.may_be_alive)
    fatal = known.alert or known.ending in JUDGED or known.fruitless >= FRUITLESS
    assert isinstance(step, GiveUp) is (fatal and not safe and not known.may_be_alive)
    match step:
        case Push(max_hours):
            assert 0 < max_hours <= known.wished_h
            if known.on_gpu and known.quota is not None:
                assert max_hours + MARGIN_H <= known.quota.left_h + 1e-9
                assert max_hours >= min(SHORTEST_H, known.wished_h)
            if known.refusal is not None and known.refusal.lacking is Lacking.slot:
                assert known.now >= known.refusal.at + SLOT_WAIT_S
        case WaitUntil(when):
            assert when > known.now
            assert math.isfinite(when)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(facts)
def test_when_a_wait_is_over_it_is_not_waited_for_once_more_with_a_full_quota(known: Facts) -> None:
    step = next_step(known)
    if isinstance(step, WaitUntil):
        full = Quota(0.0, 0.0, 30.0, None)
        then = dataclasses.replace(known, now=max(step.when, NOW + SLOT_WAIT_S), quota=full)
        assert next_step(then) == Push(known.wished_h)


READY = Facts(NOW, may_be_alive=False, total_timesteps=100, safe_timesteps=50, wished_h=10.0)
SATURDAY = datetime.fromtimestamp(NOW + 2 * 86_400, UTC)
OUT = Quota(29.9, 0.0, 30.0, SATURDAY)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"may_be_alive": True, "safe_timesteps": 100}, Follow()),
        ({"safe_timesteps": 100, "ending": Ending.cancelled}, Done()),
        ({"alert": True}, GiveUp(Why.alert)),
        ({"ending": Ending.flood}, GiveUp(Why.alert)),
        ({"ending": Ending.unhealthy}, GiveUp(Why.alert)),
        ({"ending": Ending.cancelled}, GiveUp(Why.cancelled)),
        ({"ending": Ending.deleted}, GiveUp(Why.deleted)),
        ({"ending": Ending.never_ran}, GiveUp(Why.never_ran)),
        ({"ending": Ending.cut}, Push(10.0)),
        ({"ending": Ending.crashed, "fruitless": 1}, Push(10.0)),
        ({"ending": Ending.crashed, "fruitless": 2}, GiveUp(Why.no_gain)),
        ({"quota": OUT}, WaitUntil(SATURDAY.timestamp(), Lacking.quota, "0.10 h of GPU left")),
        ({"quota": OUT, "on_gpu": False}, Push(10.0)),
        ({"quota": Quota(19.0, 0.0, 30.0, SATURDAY)}, Push(10.0)),
        ({"quota": Quota(30.0 - 10.0 - MARGIN_H, 0.0, 30.0, SATURDAY)}, Push(10.0)),
        ({"refusal": Refusal(Lacking.slot, "full", NOW)}, WaitUntil(NOW + SLOT_WAIT_S, Lacking.slot, "full")),
        ({"refusal": Refusal(Lacking.slot, "full", NOW - SLOT_WAIT_S)}, Push(10.0)),
        (
            {"refusal": Refusal(Lacking.quota, "none", NOW, OUT), "quota": OUT},
            WaitUntil(SATURDAY.timestamp(), Lacking.quota, "none"),
        ),
        ({"refusal": Refusal(Lacking.quota, "none", NOW, OUT), "quota": Quota(0.0, 0.0, 30.0, SATURDAY)}, Push(10.0)),
        ({"refusal": Refusal(Lacking.quota, "none", NOW)}, WaitUntil(next_refresh(NOW), Lacking.quota, "none")),
        ({"refusal": Refusal(Lacking.quota, "none", NOW - 8 * 86_400)}, Push(10.0)),
    ],
)
def test_each_row_of_the_table_holds(changes: dict[str, object], step: object) -> None:
    assert next_step(dataclasses.replace(READY, **changes)) == step  # type: ignore[arg-type]


@pytest.mark.parametrize(("rest_h", "step"), [(SHORTEST_H + 0.001, Push), (SHORTEST_H - 0.001, WaitUntil)])
def test_a_rest_of_the_quota_is_worth_a_session_from_half_an_hour_on(rest_h: float, step: type) -> None:
    quota = Quota(30.0 - SPARE_H - rest_h, 0.0, 30.0, SATURDAY)
    assert isinstance(next_step(dataclasses.replace(READY, quota=quota)), step)


def _left(hours: float, refresh: datetime | None = SATURDAY) -> Quota:
    return Quota(0.0, 0.0, hours, refresh)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"quota": _left(10.1)}, Push(10.0)),
        ({"quota": _left(10.0)}, Push(pytest.approx(9.89))),
        ({"quota": _left(5.0)}, Push(pytest.approx(4.89))),
        ({"quota": _left(0.61)}, Push(pytest.approx(0.5))),
        ({"quota": _left(0.60)}, WaitUntil(SATURDAY.timestamp(), Lacking.quota, "0.60 h of GPU left")),
        ({"quota": _left(0.30), "wished_h": 0.19}, Push(0.19)),
        (
            {"quota": _left(0.0, datetime.fromtimestamp(NOW - 1, UTC))},
            WaitUntil(NOW + 5, Lacking.quota, "0.00 h of GPU left"),
        ),
        ({"refusal": Refusal(Lacking.slot, "full", NOW - 59.5)}, WaitUntil(NOW + 0.5, Lacking.slot, "full")),
        ({"refusal": Refusal(Lacking.slot, "full", NOW - 60)}, Push(10.0)),
        (
            {"refusal": Refusal(Lacking.quota, "none", NOW, _left(1.0)), "quota": _left(1.11)},
            WaitUntil(SATURDAY.timestamp(), Lacking.quota, "none"),
        ),
        ({"refusal": Refusal(Lacking.quota, "none", NOW, _left(1.0)), "quota": _left(1.12)}, Push(pytest.approx(1.01))),
        (
            {"refusal": Refusal(Lacking.quota, "none", NOW - 9, _left(1.0, datetime.fromtimestamp(NOW, UTC)))},
            Push(10.0),
        ),
    ],
)
def test_hours_and_seconds_are_exactly_these(changes: dict[str, object], step: object) -> None:
    assert next_step(dataclasses.replace(READY, **changes)) == step  # type: ignore[arg-type]


def test_a_relay_that_knows_nothing_pushes_a_whole_session() -> None:
    unknown = Facts(NOW, may_be_alive=False, total_timesteps=1)
    assert (unknown.safe_timesteps, unknown.fruitless) == (0, 0)
    assert next_step(unknown) == Push(12.0)


@pytest.mark.parametrize(
    ("now", "refresh"),
    [
        (datetime(2025, 10, 21, 13, 30, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)),
        (datetime(2025, 10, 24, 23, 59, 59, tzinfo=UTC), datetime(2025, 10, 25, tzinfo=UTC)),
        (datetime(2025, 10, 25, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)),
    ],
)
def test_the_week_of_the_quota_ends_on_saturday_at_midnight(now: datetime, refresh: datetime) -> None:
    assert next_refresh(now.timestamp()) == refresh.timestamp()
