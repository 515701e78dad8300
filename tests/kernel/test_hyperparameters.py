"""What the launcher refuses of hyperparameters is what the installed library would refuse, and no more."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any

import pytest
from harness import configuration
from stable_baselines3.common.policies import ActorCriticPolicy

from kernel.contract import hyperparameters
from kernel.contract.config import LEARNERS
from kernel.contract.hyperparameters import (
    CLASSES,
    GIVEN_ELSEWHERE,
    SCHEDULED,
    TAKEN,
    UNSUPPORTED,
    HyperparametersRefused,
)
from kernel.training import environments
from kernel.training.sb3 import algorithms

PLAIN = {float: {int, float}, bool: {bool}, str: {str}, collections.abc.Mapping: {dict}, type(None): {type(None)}}


def _parameters(algorithm: str) -> dict[str, inspect.Parameter]:
    """Of the library's own constructor, those that a run may have a say in."""
    found = dict(inspect.signature(algorithms.ALGORITHMS[algorithm].__init__).parameters)
    return {name: one for name, one in found.items() if name != "self" and not name.startswith("_")}


def _kinds(hint: Any) -> set[Any]:
    """The plain types of an annotation."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(_kinds(one) for one in typing.get_args(hint)))
    return {typing.get_origin(hint) or hint}


def _taken_kinds(hint: Any) -> set[Any]:
    return set().union(*(PLAIN[kind] for kind in _kinds(hint)))


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_the_tables_are_the_signatures_of_the_installed_library(algorithm: str) -> None:
    parameters = _parameters(algorithm)
    assert set(TAKEN[algorithm]) == set(parameters) - set(GIVEN_ELSEWHERE)
    for name, hint in TAKEN[algorithm].items():
        kinds = _kinds(parameters[name].annotation)
        assert (collections.abc.Callable in kinds) == (name in SCHEDULED), name
        if hint is not Any:
            named = _taken_kinds(hint) - ({str} if name in SCHEDULED else set())
            assert kinds & {int, float, bool, str, dict, type(None)} <= named, name
            assert not {int, float} & named or {int, float} & kinds, name


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_every_default_of_the_library_may_be_given(algorithm: str) -> None:
    defaults = {
        name: one.default
        for name, one in _parameters(algorithm).items()
        if one.default is not inspect.Parameter.empty and name not in GIVEN_ELSEWHERE
    }
    assert len(defaults) > 15
    hyperparameters.require(algorithm, defaults)
    smaller = {"buffer_size": 100} if "buffer_size" in defaults else {}
    run = configuration({"algorithm": algorithm, "hyperparameters": defaults | smaller}).run
    algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")


@pytest.mark.parametrize(
    ("algorithm", "given", "says"),
    [
        ("PPO", {"n_step": 1}, "PPO takes no 'n_step'; it takes batch_size, clip_range,"),
        ("A2C", {"batch_size": 1}, "A2C takes no 'batch_size'"),
        ("DQN", {"n_epochs": 1}, "DQN takes no 'n_epochs'"),
        ("PPO", {"_init_setup_model": False}, "PPO takes no '_init_setup_model'"),
        ("PPO", {"learning_rate": "cos_1"}, "learning_rate must be a number, or a linear .* lin_3e-4; got 'cos_1'"),
        ("PPO", {"learning_rate": "lin_"}, "learning_rate must .* got 'lin_'"),
        ("PPO", {"clip_range_vf": "lin_nan"}, "clip_range_vf must be a number"),
        ("PPO", {"n_steps": "many"}, "n_steps must be a number; got 'many'"),
        ("PPO", {"normalize_advantage": "false"}, "normalize_advantage must be true or false; got 'false'"),
        ("DQN", {"policy_kwargs": [64]}, r"policy_kwargs must be a table; got \[64\]"),
        ("PPO", {"use_sde": True}, "use_sde is not supported: its noise"),
        ("PPO", {"seed": 0}, "seed is not supported: the key seed is the seed"),
        ("PPO", {"policy_kwargs": {"activation_fn": "ReLU"}}, "policy_kwargs.activation_fn is not sup"),
        ("A2C", {"policy_kwargs": {"optimizer_class": "SGD"}}, "policy_kwargs.optimizer_class is not supported"),
        ("DQN", {"policy_kwargs": {"features_extractor_class": "x:Y"}}, "policy_kwargs.features_extr"),
        ("DQN", {"train_freq": [2, "epoch"]}, r"train_freq must be a number of steps, or .*; got \[2, 'epoch'\]"),
        ("DQN", {"train_freq": 0}, "train_freq must be a number of steps, or as .* got 0"),
        ("DQN", {"train_freq": [4]}, r"train_freq must be .* got \[4\]"),
    ],
)  # fmt: skip
def test_what_no_algorithm_can_be_made_with_is_refused_by_name_here_and_in_the_trainer(
    algorithm: str, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(HyperparametersRefused, match=f"^hyperparameters: {says}"):
        hyperparameters.require(algorithm, given)
    run = configuration({"algorithm": algorithm, "hyperparameters": given}).run
    with pytest.raises(HyperparametersRefused, match=f"^hyperparameters: {says}"):
        algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        ("PPO", {"learning_rate": "lin_3e-4", "clip_range_vf": None, "target_kl": 0.1, "use_sde": False}),
        ("A2C", {"learning_rate": 1, "rms_prop_eps": 1e-5, "policy": "MlpPolicy"}),
        ("DQN", {"train_freq": [4, "step"], "learning_starts": 1e3, "optimize_memory_usage": False}),
        ("of a learner that is plugged in", {"anything": "goes"}),
    ],
)
def test_what_an_algorithm_takes_is_not_refused(algorithm: str, given: dict[str, Any]) -> None:
    hyperparameters.require(algorithm, given)


def test_what_a_policy_takes_as_a_class_is_named() -> None:
    taken = inspect.signature(ActorCriticPolicy.__init__).parameters
    assert {name for name, one in taken.items() if str(one.annotation).startswith("type[")} == set(CLASSES)


def test_what_is_not_supported_is_something_that_the_library_takes() -> None:
    taken = {name for algorithm in LEARNERS for name in _parameters(algorithm)}
    assert set(UNSUPPORTED) | set(GIVEN_ELSEWHERE) <= taken
    assert set(UNSUPPORTED) <= {name for table in TAKEN.values() for name in table}
