"""What the launcher refuses of hyperparameters is what the installed library would refuse, and no more."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any

import pytest
import torch as th
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

ENVIRONMENTS = {
    **dict.fromkeys(("SAC", "TD3", "DDPG", "TQC", "CrossQ"), "Pendulum-v1"),
    "MaskablePPO": "toy_environments:Masked",
}
PLAIN = {float: {int, float}, bool: {bool}, str: {str}, collections.abc.Mapping: {dict}, type(None): {type(None)}}


def _parameters(algorithm: str) -> dict[str, inspect.Parameter]:
    """Of the library's own constructor, those that a run may have a say in."""
    found = dict(inspect.signature(algorithms.algorithm(algorithm).__init__).parameters)
    return {name: one for name, one in found.items() if name != "self" and not name.startswith("_")}


def _own(algorithm: str) -> set[str]:
    """What the tables add to the library's: they say what action noise is in the words of rl-baselines3-zoo."""
    return {"noise_type", "noise_std"} if "action_noise" in _parameters(algorithm) else set()


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
    assert set(TAKEN[algorithm]) == set(parameters) - set(GIVEN_ELSEWHERE) | _own(algorithm)
    for name, hint in TAKEN[algorithm].items():
        if name in _own(algorithm):
            continue
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
    assert len(defaults) > 10
    hyperparameters.require(algorithm, defaults)
    smaller = {"buffer_size": 100} if "buffer_size" in defaults else {}
    env = {"env": ENVIRONMENTS.get(algorithm, "toy_environments:Queue")}
    run = configuration({"algorithm": algorithm, "hyperparameters": defaults | smaller, **env}).run
    algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")


@pytest.mark.parametrize(
    ("algorithm", "given", "says"),
    [
        ("PPO", {"n_step": 1}, "PPO takes no 'n_step'; it takes batch_size, clip_range,"),
        ("A2C", {"batch_size": 1}, "A2C takes no 'batch_size'"),
        ("DQN", {"n_epochs": 1}, "DQN takes no 'n_epochs'"),
        ("PPO", {"_init_setup_model": False}, "PPO takes no '_init_setup_model'"),
        ("PPO", {"learning_rate": "cos_1"}, "learning_rate must be a number, a linear .* lin_3e-4, or .*; got 'cos_1'"),
        ("PPO", {"learning_rate": "lin_"}, "learning_rate must .* got 'lin_'"),
        ("PPO", {"clip_range_vf": "lin_nan"}, "clip_range_vf must be a number"),
        ("PPO", {"n_steps": "many"}, "n_steps must be a number; got 'many'"),
        ("PPO", {"normalize_advantage": "false"}, "normalize_advantage must be true or false; got 'false'"),
        ("DQN", {"policy_kwargs": [64]}, r"policy_kwargs must be a table; got \[64\]"),
        ("SAC", {"noise_type": "pink", "noise_std": 0.1}, "noise_type must be .*normal.*; got 'pink'"),
        ("TD3", {"noise_type": "normal"}, "noise_type and noise_std go together"),
        ("TD3", {"action_noise": "normal"}, "action_noise is not supported: noise_type"),
        ("DQN", {"replay_buffer_class": "Other"}, "replay_buffer_class is not supported: another"),
        ("PPO", {"seed": 0}, "seed is not supported: the key seed is the seed"),
        ("PPO", {"policy_kwargs": {"activation_fn": "ReLU"}}, "policy_kwargs.activation_fn must name a class, as"),
        ("A2C", {"policy_kwargs": {"optimizer_class": 3}}, "policy_kwargs.optimizer_class must name a class"),
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
        (
            "SAC",
            {
                "noise_type": "normal",
                "noise_std": 0.1,
                "replay_buffer_class": "HerReplayBuffer",
                "ent_coef": "auto_0.1",
            },
        ),
        ("of a learner that is plugged in", {"anything": "goes"}),
    ],
)
def test_what_an_algorithm_takes_is_not_refused(algorithm: str, given: dict[str, Any]) -> None:
    hyperparameters.require(algorithm, given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policy": "toy_network:P"}, "policy: there is no module 'toy_network' for 'toy_network:P'"),
        ({"policy_kwargs": {"activation_fn": "torch.nn:ELUU"}}, ".*has no 'ELUU'. Did you mean ELU"),
        ({"policy_kwargs": {"optimizer_class": "torch.nn.ELU"}}, ".*optimizer_class must be a torch.opt.*"),
        ({"policy_kwargs": {"features_extractor_class": "os:getcwd"}}, ".* must be a .*BaseFeaturesExtractor"),
        ({"learning_rate": "os:getcwd"}, "os:getcwd.1.0. must give a number: what learning_rate is"),
    ],
)  # fmt: skip
def test_a_name_that_leads_to_nothing_or_to_something_else_is_refused_by_its_key(
    given: dict[str, Any], says: str
) -> None:
    run = configuration({"hyperparameters": given}).run
    with pytest.raises(HyperparametersRefused, match=f"^hyperparameters: {says}"):
        algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")


def test_names_of_a_recipe_become_what_they_name() -> None:
    networks = {
        "activation_fn": "torch.nn:ELU",
        "optimizer_class": "torch.optim.SGD",
        "features_extractor_class": "toy_networks:Halves",
    }
    given = {"policy_kwargs": networks, "learning_rate": "toy_networks:warm_up", "policy": "toy_networks:Policy"}
    run = configuration({"hyperparameters": given}).run
    model = algorithms.make_model(run, environments.make_environments(run, "cpu"), "cpu")
    assert type(model.policy).__name__ == "Policy"
    assert type(model.policy.optimizer) is th.optim.SGD
    assert type(model.policy.features_extractor).__name__ == "Halves"
    assert any(type(module) is th.nn.ELU for module in model.policy.modules())
    assert [model.lr_schedule(share) for share in (1.0, 0.5)] == [0.0, 5e-4]


def test_what_a_policy_takes_as_a_class_is_named() -> None:
    taken = inspect.signature(ActorCriticPolicy.__init__).parameters
    assert {name for name, one in taken.items() if str(one.annotation).startswith("type[")} == set(CLASSES)


def test_what_is_not_supported_is_something_that_the_library_takes() -> None:
    taken = {name for algorithm in LEARNERS for name in _parameters(algorithm)}
    assert set(UNSUPPORTED) | set(GIVEN_ELSEWHERE) <= taken
    assert set(UNSUPPORTED) <= {name for table in TAKEN.values() for name in table}
