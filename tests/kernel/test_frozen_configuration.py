"""Whatever libraries and factories do to the arguments that a configuration gives them, the run stays the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import SMALL, SMALL_DQN, Ear, configuration, digests, learn, learn_until

from kernel.training import environments
from kernel.training.sb3 import algorithms

NESTED = {"net_arch": [8, 8], "optimizer_kwargs": {"eps": 1e-5}}
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "PPO": {**SMALL, "policy_kwargs": NESTED},
    "A2C": {"n_steps": 8, "policy_kwargs": NESTED},
    "DQN": {**SMALL_DQN, "policy_kwargs": NESTED, "train_freq": [4, "step"]},
}


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_the_digest_is_the_same_before_and_after_a_model_was_made(algorithm: str) -> None:
    run = configuration({"algorithm": algorithm, "hyperparameters": HYPERPARAMETERS[algorithm]}).run
    before = run.digest
    venv = environments.make_environments(run, "cpu")
    for _ in range(2):
        algorithms.make_model(run, venv, "cpu").learn(40)
    assert run.digest == before
    assert run.hyperparameters == HYPERPARAMETERS[algorithm]


def test_a_factory_that_uses_up_its_arguments_gets_its_own_each_time(tmp_path: Path, monkeypatch: Any) -> None:
    kwargs = {"lengths": [23, 23], "options": {"more": {"steps": 2}}}
    wanted = configuration({"env": "toy_environments:greedy", "env_kwargs": kwargs, "n_envs": 2})
    before = wanted.run.digest
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "killed", 41, monkeypatch)
    ear = Ear()
    assert learn(wanted, tmp_path / "killed", ear)[0] == "finished"
    assert wanted.run.digest == before
    assert ear.of("inexact") == []
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
