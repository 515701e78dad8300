"""The trial before a training: it passes what can be trained and resumed, and names what cannot, by its cause."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import SMALL, SMALL_DQN
from toy_environments import ConstantQueue, Queue, StillQueue, WideQueue

from kernel import health
from kernel.contract.config import Configuration, RunConfig
from kernel.training import environment_health
from kernel.training import trial as gate
from kernel.training.sb3 import speed
from tests.limits import limit_s

from .support import configuration, environment, events_of

CHECKS = ["checkpointing", "signals", "disk", "environment", "speed"]


@pytest.fixture
def trial(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Try a run in this process; the event that it ends in."""
    handler = signal.getsignal(signal.SIGTERM)

    def attempt(run: dict[str, Any]) -> dict[str, Any]:
        assert gate.main(Configuration.from_json(json.dumps(configuration(run)))) == 0
        *phases, event = events_of(capsys.readouterr().out)
        assert {phase["event"] for phase in phases} <= {"phase"}
        return event

    yield attempt
    signal.signal(signal.SIGTERM, handler)


def _verdicts(event: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in event["checks"]}


def _evidence(event: dict[str, Any], name: str) -> str:
    return next(check["evidence"] + " " + check["fix"] for check in event["checks"] if check["name"] == name)


@pytest.mark.parametrize(
    "run",
    [
        {"env": "toy_environments:ContractQueue", "eval_freq": 50, "eval_episodes": 2},
        {"env": "CartPole-v1", "algorithm": "DQN", "hyperparameters": SMALL_DQN},
        {"env": "CartPole-v1", "n_envs": 3, "normalize": True, "algorithm": "A2C", "hyperparameters": {}},
    ],
)
def test_what_trains_and_resumes_passes_with_figures_for_a_plan(trial: Any, run: dict[str, Any]) -> None:
    event = trial(run)
    assert _verdicts(event) == dict.fromkeys(CHECKS, "PASS")
    assert event["steps_per_s"] == pytest.approx(1 / (event["collect_s"] + event["update_s"]), rel=1e-3)
    assert event["timesteps"] >= 10
    assert (event["evaluation_s"] > 0) == ("eval_freq" in run)


@pytest.mark.parametrize(
    ("run", "named", "everywhere"),
    [
        (
            {"env": "toy_environments:BrokenQueue"},
            r"^RuntimeError: the light is broken \(toy_environments.py, line \d+\)",
            True,
        ),
        ({"env": "nowhere:make"}, "^env is in module 'nowhere'", False),
        ({"env": "toy_environments:TICKS"}, "^TypeError: .* not callable", True),
        ({"env": "toy_environments:not_an_environment"}, "dict, no gymnasium environment", False),
        ({"hyperparameters": {"learning_rat": 0.1}}, "^hyperparameters: PPO takes no 'learning_rat'", True),
    ],
)
def test_what_cannot_be_trained_fails_and_says_why_and_whether_it_would_fail_everywhere(
    trial: Any, run: dict[str, Any], named: str, everywhere: bool
) -> None:
    event = trial(run)
    assert event["ends_training"] is everywhere
    (check,) = event["checks"]
    assert (check["name"], check["verdict"]) == ("checkpointing", "FAIL")
    assert re.search(named, check["evidence"]), check


def test_an_environment_that_takes_sigterm_over_fails(trial: Any) -> None:
    event = trial({"env": "toy_environments:SelfishQueue"})
    assert _verdicts(event)["signals"] == "FAIL"
    assert "SIGTERM" in _evidence(event, "signals")


@pytest.mark.parametrize("env", ["RacyQueue", "HeldNoise"])
def test_an_environment_that_only_seems_to_come_back_warns(trial: Any, env: str) -> None:
    event = trial({"env": f"toy_environments:{env}"})
    assert _verdicts(event)["checkpointing"] == "WARN"
    assert "state_dict()" in _evidence(event, "checkpointing")


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ({"features_extractor_class": "toy_networks:Counts"}, "features_extractor.calls changes while it learns"),
        ({"optimizer_class": "toy_networks:Lookahead"}, "is another state: policy."),
        ({"features_extractor_class": "toy_networks:Remembers"}, "is another state"),
    ],
)
def test_what_of_a_network_no_checkpoint_holds_is_named_and_nothing_called_proved(
    trial: Any, networks: dict[str, str], said: str
) -> None:
    given = {**SMALL, "policy_kwargs": {"net_arch": [8], **networks}}
    event = trial({"env": "toy_environments:Queue", "hyperparameters": given})
    assert _verdicts(event)["checkpointing"] == "WARN"
    assert said in _evidence(event, "checkpointing")


def test_a_slow_environment_warns_with_its_speed(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MIN_STEPS_PER_S", 1e6)
    event = trial({"env": "toy_environments:ContractQueue"})
    assert _verdicts(event)["speed"] == "WARN"
    assert f"{event['steps_per_s']:,.4g} timesteps/s" in _evidence(event, "speed")


def test_the_kernels_own_entry_tries_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(configuration({"eval_freq": 50})))
    command = [sys.executable, "-m", "kernel", "--config", "run.json", "--check"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=limit_s(120)
    )
    assert done.returncode == 0, done.stderr
    *phases, found = events_of(done.stdout)
    assert [event["phase"] for event in phases] == ["loading", "trial", "proof", "environment", "speed"]
    assert _verdicts(found) == dict.fromkeys(CHECKS, "PASS")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("cls", "rule"),
    [(ConstantQueue, "reward_varies"), (StillQueue, "observation_varies"), (WideQueue, "within_space")],
)
def test_each_sickness_of_an_environment_is_named(cls: type, rule: str) -> None:
    sick = [answer.name for answer in environment_health.examine(cls()) if not answer.passed]
    assert rule in sick
    assert all(answer.passed for answer in environment_health.examine(Queue()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_found_in_reward_and_observation(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    real: Callable[..., Any] = Queue.step

    def step(self: Any, action: Any) -> Any:
        obs, reward, *rest = real(self, action)
        return obs, value if self.t == 7 else reward, *rest

    monkeypatch.setattr(Queue, "step", step)
    sick = [answer for answer in environment_health.examine(Queue()) if not answer.passed]
    assert "finite" in [answer.name for answer in sick]


def test_an_action_that_reaches_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = Queue.step
    monkeypatch.setattr(Queue, "step", lambda self, action: real(self, 0))
    sick = [answer.name for answer in environment_health.examine(Queue()) if not answer.passed]
    assert sick == ["actions_matter"]


def test_updates_are_part_of_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.time, "perf_counter", time.thread_time)  # beside whatever else this machine does
    few = RunConfig("speed-run", 100, 10, env="CartPole-v1", hyperparameters={**SMALL, "n_epochs": 1})
    many = RunConfig("speed-run", 100, 10, env="CartPole-v1", hyperparameters={**SMALL, "n_epochs": 50})
    assert speed.measure(many, "cpu").update_s > 10 * speed.measure(few, "cpu").update_s


def test_an_evaluation_that_does_not_end_in_time_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "EVALUATION_SECONDS", 0.05)
    run = RunConfig(
        "speed-run", 100, 10, env="toy_environments:SlowQueue", hyperparameters=SMALL, eval_freq=50, eval_episodes=3
    )
    measured = speed.measure(run, "cpu")
    assert not measured.evaluation_over
    assert measured.evaluation_s >= 3 * 0.05


def test_a_session_tries_first_and_then_trains_as_if_it_had_not(session, finished: Path, tmp_path: Path) -> None:
    parts = json.loads((finished / "run.json").read_text())
    parts["session"] = {**parts["session"], "gate": True}
    seen = events_of(session(**parts).stdout)
    names = [event["event"] for event in seen]
    before = [event.get("phase") or event["event"] for event in seen][: names.index("training") + 2]
    tried = ["loading", "trial", "resume", "environment", "gate"]
    assert before == ["session", *tried, "preparing", "training", "first_step"]
    assert _verdicts(seen[names.index("gate")]) == dict.fromkeys(CHECKS[:4], "PASS")
    assert seen[-1]["status"] == "finished"
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_what_a_trial_left_in_a_module_is_not_there_when_training_begins(session, tmp_path: Path) -> None:
    run = {"env": "environment_gallery.modules:ModuleTable", "total_timesteps": 40}
    digests = {}
    for tried in (False, True):
        assert events_of(session(run=run, session={"gate": tried}).stdout)[-1]["status"] == "finished"
        digests[tried] = (tmp_path / "checkpoints" / "digests.jsonl").read_text()
        shutil.rmtree(tmp_path / "checkpoints")
    assert digests[True] == digests[False]


def test_a_trial_that_a_signal_ended_is_told_and_trains_nothing(session) -> None:
    seen = events_of(session(run={"env": "toy_environments:SuddenQueue"}, session={"gate": True}).stdout)
    assert (seen[-1]["status"], seen[-1]["restarts"]) == ("crashed", 0)
    assert "The trial was ended by SIGSEGV." in seen[-1]["message"]


@pytest.mark.parametrize("waived", [False, True])
def test_a_session_does_not_train_what_failed_unless_it_was_waived(session, tmp_path: Path, waived: bool) -> None:
    parts = {
        "run": {"env": "toy_environments:ConstantQueue", "total_timesteps": 20},
        "session": {"gate": True, "waived": ["environment"] if waived else []},
    }
    done = session(**parts)
    assert done.returncode == 0
    seen = events_of(done.stdout)
    assert seen[-1]["status"] == ("finished" if waived else "unhealthy")
    assert ("training" in [event["event"] for event in seen]) == waived
    if not waived:
        assert "the reward is 0.01" in seen[-1]["message"]
        assert seen[-1]["restarts"] == 0


def test_a_session_that_resumes_does_not_try_again(session, finished: Path, tmp_path: Path) -> None:

    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    parts = json.loads((finished / "run.json").read_text())
    seen = events_of(session(run=parts["run"], session={"gate": True}).stdout)
    assert "gate" not in [event["event"] for event in seen]
