"""A configuration is frozen all the way down: nothing that was handed in or given away can change it."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.frozen import frozen

HYPERPARAMETERS = {"n_steps": 16, "policy_kwargs": {"net_arch": [8, 8], "optimizer_kwargs": {"eps": 1e-5}}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


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
    wanted = Configuration(RunConfig("small-run", 10, 5, hyperparameters=HYPERPARAMETERS), SessionConfig(device="cpu"))
    assert Configuration.from_json(wanted.to_json()) == wanted
