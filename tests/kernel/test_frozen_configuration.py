"""A configuration is frozen all the way down: whatever libraries do to their arguments, the run stays the run."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from harness import SMALL, SMALL_DQN, Ear, configuration, digests, learn, learn_until
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract.config import Configuration, RunConfig
from kernel.contract.frozen import frozen
from kernel.training import environments
from kernel.training.sb3 import algorithms

NESTED = {"net_arch": [8, 8], "optimizer_kwargs": {"eps": 1e-5}}
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "PPO": {**SMALL, "policy_kwargs": NESTED},
    "A2C": {"n_steps": 8, "policy_kwargs": NESTED},
    "DQN": {**SMALL_DQN, "policy_kwargs": NESTED, "train_freq": [4, "step"]},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


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


def test_what_was_handed_in_can_be_changed_afterwards_and_the_run_does_not_see_it() -> None:
    handed_in = {"policy_kwargs": {"net_arch": [8]}}
    run = RunConfig("small-run", 10, 5, hyperparameters=handed_in)
    before = run.digest
    handed_in["policy_kwargs"]["net_arch"].append(16)
    assert run.digest == before


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_a_frozen_tree_equals_its_original_in_every_form_that_leaves(tree: dict[str, Any]) -> None:
    run = RunConfig("small-run", 10, 5, hyperparameters=tree)
    assert run.hyperparameters == tree
    assert json.dumps(run.hyperparameters, sort_keys=True) == json.dumps(tree, sort_keys=True)
    assert dataclasses.asdict(run)["hyperparameters"] == tree
    assert pickle.loads(pickle.dumps(run)) == run
    given_away = copy.deepcopy(run.hyperparameters)
    assert given_away == tree
    assert _kinds(given_away) <= {dict, list, str, int, float, bool, type(None)}


def _kinds(value: Any) -> set[type]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*map(_kinds, inner))


def _changes() -> list[Any]:
    on_dict = [
        lambda d: d.__setitem__("x", 1),
        lambda d: d.__delitem__("a"),
        lambda d: d.__ior__({"x": 1}),
        lambda d: d.update(x=1),
        lambda d: d.setdefault("x", 1),
        lambda d: d.pop("a"),
        lambda d: d.popitem(),
        lambda d: d.clear(),
    ]
    on_list = [
        lambda d: d["a"].__setitem__(0, 1),
        lambda d: d["a"].__delitem__(0),
        lambda d: d["a"].__iadd__([1]),
        lambda d: d["a"].__imul__(2),
        lambda d: d["a"].append(1),
        lambda d: d["a"].extend([1]),
        lambda d: d["a"].insert(0, 1),
        lambda d: d["a"].pop(),
        lambda d: d["a"].remove(2),
        lambda d: d["a"].reverse(),
        lambda d: d["a"].sort(),
        lambda d: d["a"].clear(),
    ]
    return [*on_dict, *on_list]


@pytest.mark.parametrize("change", _changes())
def test_every_way_to_change_it_is_refused(change: Any) -> None:
    tree = frozen({"a": [2, 3]})
    with pytest.raises(TypeError, match="frozen"):
        change(tree)
    assert tree == {"a": [2, 3]}


def test_a_configuration_read_from_its_own_text_is_the_same() -> None:
    wanted = configuration({"hyperparameters": HYPERPARAMETERS["PPO"]})
    assert Configuration.from_json(wanted.to_json()) == wanted
