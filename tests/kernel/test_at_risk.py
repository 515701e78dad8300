"""A bound on what is at risk holds the training up for a publish that comes, and never for one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel import health
from kernel.session.risk import RiskAlarm, patience
from kernel.training.at_risk import RiskWait
from kernel.training.pace import Pace

BOUND = 400
STEP_S = 0.01


class Training:
    """Steps of STEP_S each on a clock of its own; a publish is a file that somebody writes."""

    def __init__(self, folder: Path, bound: int = BOUND) -> None:
        self.folder, self.now, self.t = folder, 0.0, 0
        self.events: list[Any] = []
        self.beats = 0
        self.pace = Pace(100_000, 0, 0.0, 0, 1e6)
        self.slow: list[float] = []
        self.stopped = False
        self.publishes: dict[float, dict[str, Any]] = {}
        self.risk = RiskWait(folder, bound, self, self.pace, lambda: self.stopped, lambda: self.now, self.sleep)

    def event(self, event: Any) -> None:
        self.events.append(event)

    def beat(self, num_timesteps: int) -> None:
        self.beats += 1

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.5)
        for when in sorted(self.publishes):
            if when <= self.now:
                self.say(**self.publishes.pop(when))

    def say(self, num_timesteps: int | None, given_up: bool = False, **more: Any) -> None:
        told = {"num_timesteps": num_timesteps, "given_up": given_up, **more}
        (self.folder / "published.json").write_text(json.dumps(told))

    def goes(self, timesteps: int) -> float:
        """So many steps; the seconds that they took."""
        began = self.now
        for _ in range(timesteps):
            self.now += STEP_S
            self.t += 1
            self.pace.step(self.now, self.t)
            self.slow += [f.figure for f in health.speed_findings(self.pace.recent_speed(self.now))]
            self.risk.wait(self.t)
        return self.now - began


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_a_publish_that_fails_for_good_holds_the_training_up_once(training: Training) -> None:
    training.say(400)
    training.goes(799)
    assert training.goes(1) == pytest.approx(120.0, abs=1.0)
    assert training.goes(50_000) == pytest.approx(50_000 * STEP_S, rel=0.01), "at full speed"
    assert len(training.events) == 1
    assert training.slow == [], "a wait for a publish is no slowness of the training"


def test_a_second_wait_in_vain_is_as_long_as_the_training_has_earned(training: Training) -> None:
    training.say(400)
    training.goes(800)
    training.goes(15_000)  # 158 s without the 120 s that were waited
    training.say(15_000)
    assert training.goes(800) - 8.0 == pytest.approx(158.0 + 4.0 - 120.0, abs=5.0)
    training.goes(30_000)
    training.say(46_000)
    assert training.goes(800) - 8.0 == pytest.approx(120.0, abs=1.0)


def test_the_bound_holds_again_once_a_newer_checkpoint_is_published(training: Training) -> None:
    training.say(400)
    training.goes(20_000)
    training.say(20_000)
    began = training.now
    training.goes(399)
    training.publishes[training.now + 7.0] = {"num_timesteps": 20_399}
    training.goes(1)
    assert 7.0 < training.now - began < 13.0, "it was waited for"


def test_what_is_taken_back_is_no_publish_that_is_waited_for(training: Training) -> None:
    training.say(400)
    training.goes(5_000)
    training.say(None)
    assert training.goes(1_000) == pytest.approx(1_000 * STEP_S, rel=0.01)


def test_no_publish_is_waited_for_that_the_supervisor_has_given_up(training: Training) -> None:
    training.say(400, given_up=True)
    assert training.goes(5_000) == pytest.approx(5_000 * STEP_S, rel=0.01)
    training.say(400)
    training.publishes[training.now + 3.0] = {"num_timesteps": 400, "given_up": True}
    assert training.goes(1_000) < 1_000 * STEP_S + 5.0


def test_a_wait_ends_when_it_is_longer_than_usual(training: Training) -> None:
    training.say(400, patience_seconds=15.0)
    training.goes(799)
    assert training.goes(1) == pytest.approx(15.0, abs=1.0)


def test_waits_in_vain_take_no_more_time_than_the_training(training: Training) -> None:
    """Publishes that come only after a wait was given up: the bound holds again each time."""
    began = training.now
    for published in range(0, 40_000, 1_000):
        training.say(published)
        training.goes(1_000)
    assert training.now - began < 2 * 40_000 * STEP_S + 120.0


def test_a_wait_ends_with_the_session(training: Training) -> None:
    training.say(400)
    training.goes(799)
    training.stopped = True
    assert training.goes(1) < 1.0


def test_a_wait_in_vain_is_not_counted_for_the_rest_of_the_run(training: Training) -> None:
    training.say(400)
    training.goes(2_000)
    told = training.pace.calibration(training.now, training.t)
    assert told is not None
    assert (told.waiting_seconds, told.steps_per_s) == (0.0, pytest.approx(100.0, rel=0.02))


def test_the_training_beats_while_it_waits(training: Training) -> None:
    training.say(400)
    training.goes(800)
    assert training.beats > 100


def test_the_longest_usual_time_of_a_publish_is_thrice_the_slowest_within_bounds() -> None:
    assert [patience(slowest) for slowest in (None, 0.0, 1.0, 10.0, 39.0, 41.0)] == [
        120.0,
        10.0,
        10.0,
        30.0,
        117.0,
        120.0,
    ]


def alarm(bound: int = 0, checkpoint_seconds: float = 60.0) -> RiskAlarm:
    return RiskAlarm(bound, checkpoint_seconds)


@pytest.mark.parametrize(("now", "told"), [(1_021.9, False), (1_022.1, True)])
def test_thrice_the_interval_and_a_publish_without_a_published_checkpoint_is_an_alarm(now: float, told: bool) -> None:
    one = alarm()
    assert one.look(2.0, 5, None, 300.0, 120.0) is None
    found = one.look(now, 700, None, 300.0, 120.0)
    assert (found is not None) is told
    if found is not None:
        assert (found.at_risk_timesteps, found.seconds, found.limit_seconds) == (700, 1_020.1, 1_020.0)
        assert (found.final, found.published_timesteps) == (False, None)
        assert one.look(now + 9_999, 900, None, 300.0, 120.0) is None, "once"


def test_the_alarm_is_raised_again_only_after_a_publish() -> None:
    one = alarm()
    one.look(0.0, 1, None, 300.0, 120.0)
    assert one.look(1_100.0, 700, None, 300.0, 120.0)
    one.published(1_200.0)
    assert one.look(1_300.0, 800, 700, 300.0, 120.0) is None
    assert one.look(2_300.0, 900, 700, 300.0, 120.0)
    one.taken_back()
    found = one.look(2_301.0, 900, None, 300.0, 120.0)
    assert found is not None
    assert found.at_risk_timesteps == 900


def test_checkpoints_that_come_more_rarely_than_publishes_are_no_alarm() -> None:
    one = alarm(checkpoint_seconds=0.0)
    assert one.look(0.0, 1, None, 300.0, 10.0) is None
    assert one.look(90_000.0, 1, None, 300.0, 10.0) is None, "none lies on the disk yet"
    one.checkpointed(1_000.0)
    one.checkpointed(3_000.0)
    one.published(3_000.0)
    assert one.look(9_000.0, 50, 40, 300.0, 10.0) is None
    assert one.look(9_011.0, 50, 40, 300.0, 10.0)


@pytest.mark.parametrize(("done", "told"), [(1_600, False), (1_601, True)])
def test_thrice_the_timesteps_that_may_be_at_risk_is_an_alarm(done: int, told: bool) -> None:
    found = alarm(BOUND).look(1e6, done, 400, 0.0, 10.0)
    assert (found is not None) is told
    if found is not None:
        assert (found.at_risk_timesteps, found.limit_timesteps, found.limit_seconds) == (1_201, 1_200, None)


def test_a_failure_that_is_final_is_an_alarm_at_once() -> None:
    found = alarm().look(1.0, 5, None, 300.0, 120.0, "401 Unauthenticated", True)
    assert found is not None
    assert (found.final, found.reason) == (True, "401 Unauthenticated")


def test_what_the_session_began_with_and_what_was_not_trained_is_not_at_risk() -> None:
    one = alarm()
    one.safe = 4_000
    assert one.look(0.0, -1, None, 300.0, 120.0, "401", True) is None
    assert one.look(0.0, 4_000, None, 300.0, 120.0, "401", True) is None
    found = one.look(1.0, 4_010, None, 300.0, 120.0, "401", True)
    assert found is not None
    assert found.at_risk_timesteps == 10
