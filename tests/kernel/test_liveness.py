"""A training that goes on, however slowly, is left alone; one that hangs is found, whatever it was at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from kernel.channel import EVALUATING, LOADING, SAVING, STEPPING, UPDATING, Beat, Channel, Reader
from kernel.session.liveness import STARTUP_SECONDS, TIMES, Liveness
from tests.limits import limit_s, until

from .test_supervisor import Start, start

__all__ = ["start"]


def silence_s() -> float:
    """What a training that lives is never silent for here."""
    return limit_s(0.7)


def restarts(session: Any) -> list[str]:
    """Why the trainer was started again, each time."""
    return [event["reason"] for event in session.events() if event["event"] == "restart"]


@pytest.mark.slow
def test_evaluation_of_several_times_the_silence_that_is_allowed_passes(start: Start) -> None:
    limit = silence_s()
    kwargs = {"pause_s": limit / 4, "length": 16}
    run = {"env": "slow_environments:LongEvaluation", "env_kwargs": kwargs, "total_timesteps": 40, "eval_freq": 30}
    session = start({**run, "eval_episodes": 1}, silence_seconds=limit)
    result = session.end(8 * limit)
    assert (result["status"], restarts(session)) == ("finished", [])
    assert session.wait_for("evaluation")["seconds"] > 3 * limit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "hyperparameters"),
    [
        ("PPO", {"n_steps": 10, "batch_size": 10, "n_epochs": 16}),
        ("DQN", {"learning_starts": 5, "batch_size": 4, "train_freq": 10, "gradient_steps": 16}),
    ],
)
def test_update_of_several_times_the_silence_that_is_allowed_passes(
    algorithm: str, hyperparameters: dict[str, Any], start: Start
) -> None:
    limit = silence_s()
    run = {"algorithm": algorithm, "hyperparameters": hyperparameters, "total_timesteps": 10}
    slow = {"env": "slow_environments:LongUpdate", "env_kwargs": {"pause_s": limit / 4}}
    session = start({**run, **slow}, silence_seconds=limit)
    result = session.end(8 * limit)
    assert (result["status"], restarts(session)) == ("finished", [])
    assert result["seconds"] > 4 * limit


@pytest.mark.slow
def test_repeating_actions_for_several_times_the_silence_that_is_allowed_passes(start: Start) -> None:
    limit = silence_s()
    run = {"env": "slow_environments:LongToRepeat", "env_kwargs": {"pause_s": limit / 8}, "total_timesteps": 40}
    session = start(run, silence_seconds=limit)
    result = session.end(12 * limit)
    assert result["status"] == "finished"
    assert restarts(session) == ["the trainer ended with exit code 3"]


@pytest.mark.parametrize("how", ["stopped", "deadlocked", "lost_in_c"])
def test_hung_step_is_found_and_its_stacks_are_kept(how: str, start: Start) -> None:
    run = {"env": "slow_environments:Hung", "env_kwargs": {"how": how}, "total_timesteps": 40}
    _require_found(start(run, silence_seconds=silence_s()), STEPPING, how)


def test_hung_evaluation_is_found_and_its_stacks_are_kept(start: Start) -> None:
    kwargs = {"how": "deadlocked", "evaluating": True}
    run = {"env": "slow_environments:Hung", "env_kwargs": kwargs, "total_timesteps": 40, "eval_freq": 30}
    _require_found(start({**run, "eval_episodes": 1}, silence_seconds=silence_s()), EVALUATING, "deadlocked")


def test_hung_update_is_found_and_its_stacks_are_kept(start: Start) -> None:
    run = {"env": "slow_environments:Hung", "env_kwargs": {"how": "broken_optimizer"}, "total_timesteps": 40}
    _require_found(start(run, silence_seconds=silence_s()), None, "slow_environments.py")


def _require_found(session: Any, phase: str | None, in_stacks: str) -> None:
    result = session.end(90.0)
    assert (result["status"], result["restarts"], result["exact"]) == ("finished", 1, True)
    found = session.wait_for("health", rule="silence")
    assert phase is None or f"while {phase}" in found["message"]
    assert "silence_s" in found["message"]
    (reason,) = restarts(session)
    assert "SIGABRT" in reason
    assert in_stacks in (session.folder / "trainer.log").read_text()


def test_step_longer_than_the_silence_that_is_allowed_passes_once_twice_as_much_is(start: Start) -> None:
    limit = silence_s()
    run = {"env": "slow_environments:OneLongStep", "env_kwargs": {"pause_s": 1.5 * limit}, "total_timesteps": 40}
    session = start(run, silence_seconds=limit)
    assert session.end(90.0)["status"] == "finished"
    assert len(restarts(session)) == 1


def looked_at(watch: Liveness, began: float, ended: float) -> list[Any]:
    """What is found when it is looked at every second from `began` to `ended`."""
    times = [began + second for second in range(int(ended - began))]
    return [finding for now in [*times, ended] for finding in watch.findings(now)]


def test_silence_is_judged_against_what_its_phase_took_before_and_the_bound() -> None:
    watch = Liveness(10.0)
    watch.begin(0.0)
    now = STARTUP_SECONDS
    assert looked_at(watch, 0.0, now) == []
    watch.heard(now, EVALUATING)
    for _ in range(3):
        assert looked_at(watch, now, now + 9.0) == []
        now += 9.0
        watch.heard(now, EVALUATING)
    watch.heard(now, STEPPING)
    assert watch.limit == 10.0
    watch.heard(now, EVALUATING)
    assert watch.limit == TIMES * 9.0
    assert looked_at(watch, now, now + TIMES * 9.0) == []
    (found,) = watch.findings(now + TIMES * 9.0 + 0.1)
    assert (found.rule, found.limit) == ("silence", TIMES * 9.0)
    assert "while evaluating, which took 9 s at the most" in found.message
    watch.give_up()
    watch.begin(now)
    watch.heard(now, EVALUATING)
    assert watch.limit == 2 * TIMES * 9.0


def test_time_in_which_the_parent_itself_stood_still_is_no_silence() -> None:
    watch = Liveness(10.0)
    watch.begin(0.0)
    watch.heard(1.0, STEPPING)
    assert list(watch.findings(1.0)) == []
    assert list(watch.findings(5000.0)) == []
    assert list(watch.findings(5000.1)) == []
    for second in range(9):
        assert list(watch.findings(5001.0 + second)) == []
    assert len(list(watch.findings(5011.0))) == 1


@pytest.fixture
def wire() -> Iterator[tuple[int, list[Any]]]:
    """The trainer's end of a channel, and what the parent hears."""
    heard: list[Any] = []
    end, begin = os.pipe()
    reader = Reader(end, heard.append)
    yield begin, heard
    reader.join(limit_s(5.0))


def test_beat_of_an_older_trainer_means_a_step(wire: tuple[int, list[Any]]) -> None:
    begin, heard = wire
    with os.fdopen(begin, "w") as trainer:
        trainer.write('{"beat": 7}\n' + json.dumps({"beat": 8, "phase": "saving", "more": 1}) + "\n")
    until(lambda: len(heard) == 2)
    assert heard == [Beat(7, STEPPING), Beat(8, SAVING)]


def test_each_change_of_phase_is_told_at_once_and_a_phase_that_lasts_is_told_now_and_then(
    wire: tuple[int, list[Any]],
) -> None:
    begin, heard = wire
    now = [0.0]
    channel = Channel(begin, clock=lambda: now[0])
    channel.beat(0, LOADING)
    for t in range(1, 101):
        channel.beat(t, STEPPING)
        channel.beat(t, UPDATING)  # brief: it is told as what it interrupts
        now[0] += 0.001
    channel.beat(100, SAVING)
    channel.beat(100, STEPPING)
    now[0] += 10.0  # a long step
    channel.beat(101, UPDATING)
    channel.beat(101, STEPPING)
    assert channel._file is not None
    channel._file.close()
    until(lambda: len(heard) == 6)
    told = [(beat.num_timesteps, beat.phase) for beat in heard]
    assert told == [(0, LOADING), (1, STEPPING), (100, SAVING), (100, STEPPING), (101, UPDATING), (101, STEPPING)]
