"""What makes a resumed run the same run, each part of it shown by taking it away."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_campaign
import numpy as np
import pytest
import torch as th
from harness import SMALL, SMALL_DQN, Ear, configuration, digests, learn, learn_until
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback

from arz_model.control.env import TrafficSignalEnv
from kernel.checkpoints import digests as records
from kernel.contract.config import CHANGEABLE, RunConfig, SessionConfig
from kernel.contract.manifest import checkpoints_in, verify
from kernel.training import consistent_point as points
from kernel.training import environments
from kernel.training.sb3 import algorithms, exact_state, learner

RUNS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "ppo-normalised-2-envs": {"n_envs": 2, "normalize": True, "total_timesteps": 128},
    "a2c": {"algorithm": "A2C", "hyperparameters": {"n_steps": 8, "policy_kwargs": {"net_arch": [8]}}},
    "dqn": {"algorithm": "DQN", "hyperparameters": SMALL_DQN, "env": "toy_environments:Queue"},
    "opaque": {"env": "toy_environments:OpaqueQueue"},
    "traffic-batch": {
        "env": environments.TRAFFIC,
        "env_kwargs": {"scenario": "quick", "duration_s": 60, "random_start": True, "device": "cpu"},
        "n_envs": 3,
        "normalize": True,
        "total_timesteps": 240,
        "eval_freq": 60,
        "eval_episodes": 2,
    },
}


for _name in ("AdamW", "Adafactor", "RAdam", "toy_networks:CountingAdam"):
    _optimizer = _name if ":" in _name else f"torch.optim.{_name}"
    RUNS[f"optimizer-{_name}"] = {"hyperparameters": {**SMALL, "policy_kwargs": {"optimizer_class": _optimizer}}}
RUNS["buffer-assigned-anew"] = {
    "hyperparameters": {**SMALL, "policy_kwargs": {"features_extractor_class": "toy_networks:RunningMean"}}
}
RUNS["successes-as-arrays"] = {"env": "toy_environments:Succeeding"}
RUNS["traffic-masked"] = {**RUNS["traffic-batch"], "algorithm": "MaskablePPO"}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("steps", [21, 58])
def test_resumed_run_equals_uninterrupted_run(name: str, steps: int, tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration(RUNS[name])
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "killed", steps, monkeypatch)
    ear = Ear()
    status, _, _ = learn(wanted, tmp_path / "killed", ear)
    assert status == "finished"
    assert ear.of("training")[0]["num_timesteps"] > 0
    assert ear.of("inexact") == []
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    rows = [(tmp_path / folder / "metrics.jsonl").read_bytes() for folder in ("killed", "whole")]
    assert rows[0] == rows[1]


def _zero_moments(model: Any) -> None:
    for state in model.policy.optimizer.state.values():
        state["exp_avg"].zero_()


def _other_weights(model: Any) -> None:
    with th.no_grad():
        next(model.policy.parameters()).add_(1e-3)


def _forget_environment(model: Any) -> None:
    environments.base_of(model.env).envs[0].unwrapped.queue[...] = 0.0


def _forget_environment_generator(model: Any) -> None:
    environments.base_of(model.env).envs[0].unwrapped.np_random.bit_generator.advance(1)


def _forget_returns(model: Any) -> None:
    model.env.returns[...] = 0.0


def _forget_row(model: Any) -> None:
    model.rollout_buffer.rewards[0] += 1.0


def _forget_replay(model: Any) -> None:
    model.replay_buffer.rewards += 1.0


LOST: dict[str, tuple[str, Callable[[Any], object]]] = {
    "weights": ("ppo", _other_weights),
    "optimizer moments": ("ppo", _zero_moments),
    "numpy generator": ("ppo", lambda model: np.random.seed(0)),
    "torch generator": ("ppo", lambda model: th.manual_seed(0)),
    "last observation": ("ppo", lambda model: model._last_obs.__iadd__(1.0)),
    "environment": ("ppo", _forget_environment),
    "environment's generator": ("ppo", _forget_environment_generator),
    "rollout rows": ("ppo", _forget_row),
    "reward normalisation": ("ppo-normalised-2-envs", _forget_returns),
    "action space's generator": ("dqn", lambda model: model.action_space.seed(1)),
    "replay rows": ("dqn", _forget_replay),
    "number of calls": ("dqn", lambda model: setattr(model, "_n_calls", 7)),
    "exploration rate": ("dqn", lambda model: setattr(model, "exploration_rate", 1.0)),
}


@pytest.mark.parametrize("item", LOST)
def test_a_run_that_lost_one_part_of_its_state_ends_otherwise(item: str, tmp_path: Path, monkeypatch: Any) -> None:
    name, lose = LOST[item]
    # One episode longer than the run: its reset would hide a lost environment.
    wanted = configuration({**RUNS[name], "env_kwargs": {"length": 200}})
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "killed", 45 if name != "dqn" else 62, monkeypatch)
    original = exact_state.restore

    def restore(model: Any, *arguments: Any) -> None:
        original(model, *arguments)
        lose(model)

    monkeypatch.setattr(exact_state, "restore", restore)
    if item == "replay rows":
        # Only once: it is put back before learning begins.
        monkeypatch.setattr(learner.exact_state, "restore", restore)
    learn(wanted, tmp_path / "killed")
    whole, killed = digests(tmp_path / "whole"), digests(tmp_path / "killed")
    assert killed[max(killed)] != whole[max(whole)]


def test_random_state_of_python_is_kept_for_environments_that_draw_from_it() -> None:
    run = configuration().run
    venv = environments.make_environments(run, "cpu")
    model = algorithms.make_model(run, venv, "cpu")
    model.policy(th.zeros(1, 3))
    random.seed(3)
    saved = exact_state._capture_random(model)
    wanted = [random.random(), float(np.random.normal()), float(th.rand(1))]
    exact_state._restore_random(model, saved)
    assert [random.random(), float(np.random.normal()), float(th.rand(1))] == wanted


def test_checkpoints_leave_no_trace_in_the_training(tmp_path: Path) -> None:
    often = configuration({"checkpoint_freq": 8})
    learn(often, tmp_path / "often")
    once = configuration({"checkpoint_freq": 8})
    with_none = tmp_path / "none"
    points_due = points.Cadence.is_due
    try:
        points.Cadence.is_due = lambda self, now, t: False  # type: ignore[method-assign]
        learn(once, with_none)
    finally:
        points.Cadence.is_due = points_due  # type: ignore[method-assign]
    assert list(digests(with_none)) == [96]
    assert digests(with_none)[96] == digests(tmp_path / "often")[96]
    assert (with_none / "metrics.jsonl").read_bytes() == (tmp_path / "often" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("case", kill_campaign.CASES)
def test_with_the_consistent_point_an_algorithm_learns_what_the_library_alone_does(case: str) -> None:
    """And the point comes once a vector step, or once a generation."""
    run = kill_campaign.configuration(case).run
    model = algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")
    calls: list[int] = []
    model.at_consistent_point = lambda: calls.append(model.num_timesteps)
    total = algorithms.rounded_total(run, model)
    model.learn(total)
    steps = list(range(0, model.num_timesteps, run.n_envs))
    assert calls == steps or (run.algorithm == "ARS" and len(calls) > 2 and set(calls) < set(steps))

    _, plain = type(model).__bases__
    assert plain.__module__.startswith(("stable_baselines3.", "sb3_contrib."))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(algorithms, "algorithm", lambda name: plain)
        other = algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")
    other.learn(total)
    assert other.num_timesteps == model.num_timesteps
    ours, theirs = model.get_parameters(), other.get_parameters()
    assert ours.keys() == theirs.keys()
    assert str(ours) == str(theirs)
    for name, tensor in theirs["policy"].items():
        assert th.equal(ours["policy"][name], tensor), name


@pytest.mark.parametrize("total", [50, 81, 96])
def test_learning_rate_is_never_negative_and_the_total_a_whole_number_of_rollouts(total: int, tmp_path: Path) -> None:
    run = RunConfig(
        run_id="small-run",
        total_timesteps=total,
        checkpoint_freq=8,
        env="toy_environments:Queue",
        hyperparameters={**SMALL, "learning_rate": "lin_1e-2"},
    )
    rates: list[float] = []
    venv = environments.make_environments(run, "cpu")
    model = algorithms.make_model(run, venv, "cpu")
    original = model.train

    def train() -> None:
        original()
        rates.append(model.policy.optimizer.param_groups[0]["lr"])

    model.train = train
    rounded = algorithms.rounded_total(run, model)
    model.learn(rounded)
    assert rounded % 16 == 0
    assert model.num_timesteps == rounded >= total
    assert min(rates) >= 0.0
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "n_envs"),
    [
        ("PPO", {}, 1),
        ("PPO", {"n_steps": 24, "batch_size": 8}, 3),
        ("A2C", {}, 2),
        ("A2C", {"n_steps": 7}, 1),
        ("DQN", {}, 1),
        ("DQN", {"train_freq": 3}, 2),
        ("DQN", {"train_freq": [6, "step"]}, 1),
        ("DQN", {"train_freq": [1, "episode"]}, 1),
    ],
)
@pytest.mark.parametrize("total", [1, 96, 97, 2049])
def test_what_a_configuration_comes_to_is_what_is_trained(
    algorithm: str, hyperparameters: dict[str, Any], n_envs: int, total: int
) -> None:
    run = RunConfig(
        "whole-rollouts",
        total,
        8,
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        env="CartPole-v1",
        n_envs=n_envs,
    )
    model = algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")
    assert run.whole_timesteps == algorithms.rounded_total(run, model)


def test_checkpoint_inside_the_last_rollout_that_ends_after_the_total_resumes(tmp_path: Path, monkeypatch: Any) -> None:
    run = {**RUNS["dqn"], "total_timesteps": 50, "checkpoint_freq": 1}
    run["hyperparameters"] = {**SMALL_DQN, "train_freq": [1, "episode"]}
    wanted = configuration(run)
    # On a busy machine a checkpoint a step is more than the cadence lets it spend.
    monkeypatch.setattr(points.Cadence, "_too_dear", lambda self, now: False)
    learn(wanted, tmp_path / "whole")
    assert max(digests(tmp_path / "whole")) == 69  # three episodes of 23
    learn_until(wanted, tmp_path / "killed", 60, monkeypatch)
    assert max(digests(tmp_path / "killed")) > 50
    learn(wanted, tmp_path / "killed")
    assert digests(tmp_path / "killed")[69] == digests(tmp_path / "whole")[69]


def test_executing_a_step_again_with_another_outcome_raises_the_alarm(tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration(keep_checkpoints=20)
    learn(wanted, tmp_path)
    for path in checkpoints_in(tmp_path / "checkpoints"):
        if verify(path).num_timesteps > 40:
            path.unlink()
    original = points.ConsistentPoint._put_back

    def put_back(self: Any) -> None:
        original(self)
        np.random.rand()

    monkeypatch.setattr(points.ConsistentPoint, "_put_back", put_back)
    ear = Ear()
    learn(wanted, tmp_path, ear)
    assert "was executed again" in ear.of("inexact")[0]["reason"]
    assert verify(checkpoints_in(tmp_path / "checkpoints")[0]).exact is False


def test_an_environment_that_cannot_be_put_back_is_reported(tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration({"env": "toy_environments:RacyQueue"})
    learn_until(wanted, tmp_path, 58, monkeypatch)
    ear = Ear()
    status, num_timesteps, _ = learn(wanted, tmp_path, ear)
    assert (status, num_timesteps) == ("finished", 96)
    assert "led elsewhere" in ear.of("inexact")[0]["reason"]
    required = configuration({"env": "toy_environments:RacyQueue"}, require_exact=True)
    learn_until(required, tmp_path / "required", 58, monkeypatch)
    with pytest.raises(ValueError, match="--require-exact"):
        learn(required, tmp_path / "required")


def test_another_cpu_goes_on_marked_inexact_unless_exactness_is_required(tmp_path: Path, monkeypatch: Any) -> None:
    learn_until(configuration(), tmp_path, 58, monkeypatch)
    monkeypatch.setattr("kernel.training.fingerprint.cpu_model", lambda: "Another CPU")
    with pytest.raises(ValueError, match="Another CPU"):
        learn(configuration(require_exact=True), tmp_path)
    ear = Ear()
    learn(configuration(), tmp_path, ear)
    assert "Another CPU" in ear.of("inexact")[0]["reason"]
    assert verify(checkpoints_in(tmp_path / "checkpoints")[0]).exact is False


def test_traffic_that_another_machine_rounds_otherwise_goes_on_marked_inexact(tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration(RUNS["traffic-batch"])
    seen = environments.canary(wanted.run, "cpu")
    assert seen == environments.canary(wanted.run, "cpu")
    learn_until(wanted, tmp_path, 58, monkeypatch)
    step = TrafficSignalEnv.step

    def rounds_otherwise(self: Any, action: Any) -> Any:
        found = step(self, action)
        self.solver._q += np.spacing(self.solver._q)
        return found

    monkeypatch.setattr(TrafficSignalEnv, "step", rounds_otherwise)
    assert environments.canary(wanted.run, "cpu") != seen
    ear = Ear()
    learn(wanted, tmp_path, ear)
    assert "traffic: " in ear.of("inexact")[0]["reason"]


def test_stable_baselines3_own_checkpoints_fail_the_same_comparison(tmp_path: Path) -> None:
    """The control: the harness can see the fault that all this is about."""
    run = configuration().run

    def fresh() -> Any:
        venv = environments.make_environments(run, "cpu")
        return PPO("MlpPolicy", venv, seed=0, device="cpu", **SMALL)

    whole = fresh()
    whole.learn(96)
    interrupted = fresh()
    interrupted.learn(48, callback=CheckpointCallback(48, str(tmp_path)))
    resumed = PPO.load(tmp_path / "rl_model_48_steps.zip", env=fresh().get_env(), device="cpu")
    resumed.learn(48, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps == 96
    weights = [copy.deepcopy(model.policy.state_dict()) for model in (whole, resumed)]
    assert any(not th.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_session_length_does_not_change_what_is_learnt(tmp_path: Path, monkeypatch: Any) -> None:
    learn(configuration(), tmp_path / "whole")
    for steps in (11, 17, 29, 23):
        learn_until(configuration(), tmp_path / "parts", steps, monkeypatch)
    learn(configuration(), tmp_path / "parts")
    assert digests(tmp_path / "parts")[96] == digests(tmp_path / "whole")[96]
    assert SessionConfig().session == 1


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """Wall clocks are set back and forth by years while it trains, and it resumes in another century."""
    learn(configuration(), tmp_path / "right")
    chance = random.Random(5)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(0.0, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: int(chance.uniform(0.0, 4e18)))
    learn_until(configuration(), tmp_path / "wrong", 58, monkeypatch)
    ear = Ear()
    assert learn(configuration(), tmp_path / "wrong", ear)[:2] == ("finished", 96)
    assert ear.of("training")[0]["num_timesteps"] == 56
    assert digests(tmp_path / "wrong")[96] == digests(tmp_path / "right")[96]
    assert (tmp_path / "wrong" / "metrics.jsonl").read_bytes() == (tmp_path / "right" / "metrics.jsonl").read_bytes()


def test_a_digest_that_a_kill_left_out_is_recorded_by_whoever_resumes(tmp_path: Path) -> None:
    """The instant between a checkpoint's commit and its line: the last thing that the run wrote here."""
    learn(configuration(), tmp_path)
    whole = digests(tmp_path)
    lines = (tmp_path / "checkpoints" / records.DIGESTS).read_text().splitlines(keepends=True)
    (tmp_path / "checkpoints" / records.DIGESTS).write_text("".join(lines[:-1]))
    assert digests(tmp_path) == {t: digest for t, digest in whole.items() if t != 96}
    assert learn(configuration(), tmp_path)[:2] == ("finished", 96)
    assert digests(tmp_path) == whole


def test_metrics_are_written_again_from_checkpoints_where_the_file_lacks_rows(tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration(keep_checkpoints=20)
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "killed", 70, monkeypatch)
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed" / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    older = tmp_path / "killed" / "checkpoints" / "checkpoint_t16.zip"
    older.write_bytes(older.read_bytes()[:-1])  # an old one that is no use any more must not stop the run
    learn(wanted, tmp_path / "killed")
    rows = [(tmp_path / folder / "metrics.jsonl").read_bytes() for folder in ("killed", "whole")]
    assert rows[0] == rows[1]


def test_environment_is_named_by_module_and_registered_id(tmp_path: Path) -> None:
    assert learn(configuration({"env": "toy_environments:ToyQueue-v0"}), tmp_path)[0] == "finished"


def test_whatever_a_checkpoint_is_held_to_may_be_accepted_by_its_name(tmp_path: Path) -> None:
    wanted = configuration({"total_timesteps": 32})
    learn(wanted, tmp_path)
    details = verify(checkpoints_in(tmp_path / "checkpoints")[0]).details
    held_to = set(details) - {"run", "trainer", "finished"} | set(details["run"]) - {"run_id"}
    assert len(held_to) > 10
    assert held_to <= set(CHANGEABLE)


def test_a_buffer_that_is_assigned_anew_is_kept_as_it_is(tmp_path: Path) -> None:
    learn(configuration(RUNS["buffer-assigned-anew"]), tmp_path / "run")
    found = [PPO.load(path, device="cpu") for path in checkpoints_in(tmp_path / "run" / "checkpoints")[:2]]
    means = [model.policy.features_extractor.mean for model in found]
    assert not th.equal(*means)
