"""Whatever the installed gymnasium has is in the campaign, or said to be left out and why."""

from __future__ import annotations

import importlib

import gymnasium
import library_environments as libraries
import pytest
from gymnasium import wrappers as theirs
from library_environments import sumo, wrappers

from benchmarks.conformance import certify

BESIDES = {"Blackjack", "Stacked"}
"""Factories that are none of one wrapper."""
SAMPLE = (
    "library_environments.wrappers:NormalizeReward",
    "library_environments.sumo:Plain",
    "Taxi-v4",
    "LunarLander-v3",
)


def _require(place: str) -> None:
    if missing := libraries.needs(place):
        pytest.skip(f"{place} needs {', '.join(missing)}: requirements/campaign.txt")


def test_every_wrapper_of_gymnasium_is_tried_or_said_to_be_left_out_and_why() -> None:
    assert set(theirs.__all__) == (set(wrappers.FACTORIES) - BESIDES) | set(wrappers.NOT_WRAPPED)
    assert all(wrappers.NOT_WRAPPED.values())
    assert set(wrappers.NEEDS) <= set(wrappers.FACTORIES)


def test_every_id_of_gymnasium_is_tried_or_said_to_be_left_out_and_why() -> None:
    known, tried = set(gymnasium.registry), set(libraries.ids())
    assert {"CartPole-v1", "Taxi-v4", "LunarLander-v3", "Ant-v5"} <= tried <= known
    assert all(libraries.why_not(name) for name in known - tried)
    for start in libraries.NOT_TRAINED:
        assert any(name.startswith(start) for name in known), start


@pytest.mark.parametrize("name", [name for name in wrappers.FACTORIES if name not in BESIDES])
def test_a_factory_gives_the_wrapper_of_its_name(name: str) -> None:
    _require(f"{wrappers.__name__}:{name}")
    layer = getattr(importlib.import_module(wrappers.__name__), name)()
    found = []
    while isinstance(layer, gymnasium.Wrapper):
        found.append(type(layer).__name__)
        layer = layer.env
    assert name in found


def test_the_state_file_of_sumo_leads_to_the_same_traffic() -> None:
    _require(f"{sumo.__name__}:StateFile")
    env = sumo.StateFile()
    env.reset(seed=1)
    for step in range(10):
        env.step(step % 2)
    state = env.state_dict()
    straight = [env.step(step % 2)[1] for step in range(12)]
    env.load_state_dict(state)
    assert [env.step(step % 2)[1] for step in range(12)] == straight
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("place", SAMPLE)
def test_an_environment_of_a_library_comes_out_as_it_must(place: str) -> None:
    _require(place)
    came = certify(place, libraries.expected()[place], kills=1)
    assert came.holds, came.said
