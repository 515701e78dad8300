"""A session is ended by force only where its kernel has not decided, or has not kept what it promised."""

from __future__ import annotations

import pytest

from kernel.contract import events
from kernel.contract.endings import Ending
from kernel.contract.events import Event
from kernel.contract.stopping import END_SECONDS, LAST_PUBLISH_SECONDS, STOP_SECONDS, told_ending
from launcher.runs.alerts import Alert, Level
from launcher.runs.forced_end import ForcedEnd

FLOOD = Alert(Level.STOP, "flood", "26 [DEBUG lines within 1 s (limit 20 per s)")
STOPS = events.Flood(lines_per_s=120.4, action="stop")
GRACE_S = 30.0


def _hear(forced: ForcedEnd, event: Event, now: float) -> None:
    forced.hear(event, told_ending(event), now)


def test_a_kernel_that_says_nothing_has_its_grace_and_not_more() -> None:
    forced = ForcedEnd(GRACE_S)
    assert forced.due(1e9) is None
    forced.condemn(FLOOD, 100.0)
    forced.condemn(Alert(Level.STOP, "another", "comes later"), 120.0)
    assert forced.due(130.0) is None
    assert forced.due(130.1) == FLOOD


@pytest.mark.parametrize("action", ["stop", "throttle", "a newer kernel's"])
@pytest.mark.parametrize("first", ["kernel", "launcher"])
def test_a_kernel_that_has_decided_on_the_flood_is_left_to_it(action: str, first: str) -> None:
    forced, said = ForcedEnd(GRACE_S), events.Flood(action=action)
    if first == "launcher":
        forced.condemn(FLOOD, 100.0)
    _hear(forced, said, 129.0)
    if first == "kernel":
        forced.condemn(FLOOD, 130.0)
    assert forced.due(160.1) is None
    assert forced.due(129.0 + END_SECONDS) is None


def test_other_words_of_the_kernel_are_no_decision_on_a_flood() -> None:
    forced = ForcedEnd(GRACE_S)
    forced.condemn(FLOOD, 100.0)
    _hear(forced, events.Progress(num_timesteps=5), 129.0)
    assert forced.due(130.1) == FLOOD


@pytest.mark.parametrize("said", [STOPS, events.Health(action="stop"), events.Deadline()], ids=lambda event: event.name)
def test_a_stop_that_does_not_end_is_ended_after_what_the_kernel_may_take_for_it(said: Event) -> None:
    forced = ForcedEnd(GRACE_S)
    _hear(forced, said, 100.0)
    assert forced.due(100.0 + END_SECONDS) is None
    alert = forced.due(100.1 + END_SECONDS)
    assert alert is not None
    assert str(alert) == f"STOP no end: the kernel said that it stops, and nothing for {END_SECONDS:.0f} s since"


def test_a_stop_that_takes_long_is_waited_for_while_its_kernel_speaks() -> None:
    forced = ForcedEnd(GRACE_S)
    _hear(forced, STOPS, 100.0)
    still = 200.0 + END_SECONDS
    forced.hear(events.PublishFailed(reason="503"), Ending.flood, still)
    assert forced.due(still + GRACE_S) is None
    assert forced.due(still + GRACE_S + 0.1) is not None


def test_nothing_is_waited_for_beyond_the_limit_of_the_session() -> None:
    forced = ForcedEnd(GRACE_S, limit_s=1_000.0)
    _hear(forced, events.Flood(action="stop", time=900.0), 50.0)
    assert forced.due(150.0) is None
    assert forced.due(150.1) is not None
    past = ForcedEnd(0.0, limit_s=1_000.0)
    _hear(past, events.Flood(action="stop", time=1_900.0), 50.0)
    assert past.due(50.0) is None
    assert past.due(50.1) is not None


@pytest.mark.parametrize(("limit_s", "time"), [(0.0, 900.0), (1_000.0, None)])
def test_without_a_limit_or_a_time_the_kernels_own_bound_holds(limit_s: float, time: float | None) -> None:
    forced = ForcedEnd(GRACE_S, limit_s=limit_s) if limit_s else ForcedEnd(GRACE_S)
    _hear(forced, events.Flood(action="stop", time=time), 50.0)
    assert forced.due(50.0 + END_SECONDS) is None
    assert forced.due(50.1 + END_SECONDS) is not None


def test_a_trainer_that_is_started_again_is_no_stop() -> None:
    forced = ForcedEnd(GRACE_S)
    _hear(forced, events.Health(action="stop"), 100.0)
    _hear(forced, events.Restart(reason="no step"), 400.0)
    assert forced.due(1e9) is None


def test_what_cannot_be_heard_costs_no_patience() -> None:
    forced = ForcedEnd(GRACE_S)
    forced.condemn(FLOOD, 100.0)
    forced.deafen(190.0)
    forced.deafen(150.0)
    assert forced.due(220.0) is None
    assert forced.due(220.1) == FLOOD
    waiting = ForcedEnd(GRACE_S, limit_s=100.0)
    _hear(waiting, events.Deadline(time=99.0), 10.0)
    waiting.deafen(90.0)
    assert waiting.due(120.0) is None
    assert waiting.due(120.1) is not None


def test_the_bound_holds_what_the_kernel_promises() -> None:
    assert END_SECONDS >= STOP_SECONDS + LAST_PUBLISH_SECONDS


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (events.Flood(), Ending.flood),
        (events.Flood(action="throttle"), None),
        (events.Health(action="stop", rule="not_finite"), Ending.unhealthy),
        (events.Health(action="stop", rule="slow"), None),
        (events.Health(action="warn"), None),
        (events.Health(action="restart"), None),
        (events.Deadline(), Ending.deadline),
        (events.Restart(), None),
        (events.Result(status="flood"), None),
        (events.Unknown(kind="flood_of_a_newer_kernel"), None),
    ],
)
def test_an_event_tells_how_the_session_ends(said: Event, ending: Ending | None) -> None:
    assert told_ending(said) is ending
