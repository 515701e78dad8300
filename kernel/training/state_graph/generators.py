"""Generators of random numbers, of numpy, Python and torch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch as th

from kernel.training.state_graph.containers import items_of
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking
from kernel.training.state_graph.nodes import Node, NotRestorable


def _take_bits(value: np.random.BitGenerator, walk: Taking) -> Node:
    seeds = walk.refer(value.seed_seq, "seed_seq")
    return Node("bit generator", "", [type(value).__name__, value.state], [seeds], None)


def _make_bits(node: Node, put: Putting) -> Any:
    cls = getattr(np.random, str(node.value[0]), None)
    if not (isinstance(cls, type) and issubclass(cls, np.random.BitGenerator)):
        raise NotRestorable(f"{node.value[0]!r} is no bit generator of numpy.")
    return cls(items_of(node, put)[0])


def _fill_bits(live: np.random.BitGenerator, node: Node, _: Putting) -> None:
    live.state = node.value[1]


def _seeds(value: np.random.SeedSequence) -> list[Any]:
    entropy: Any = value.entropy
    if isinstance(entropy, (list, tuple, np.ndarray)):
        entropy = [int(number) for number in entropy]
    return [entropy, tuple(value.spawn_key), value.pool_size, value.n_children_spawned]


def _make_seeds(node: Node, _: Putting) -> Any:
    entropy, key, size, spawned = node.value
    return np.random.SeedSequence(entropy, spawn_key=key, pool_size=size, n_children_spawned=spawned)


def _take_python(value: random.Random, walk: Taking) -> Node:
    if isinstance(value, random.SystemRandom):
        raise CannotTake("draws from the operating system, which nobody can repeat")
    version, numbers, gauss = value.getstate()
    return Node("random", "", [version, np.array(numbers, np.uint32), gauss], None, None)


def _make_python(node: Node, put: Putting) -> Any:
    cls: Any = put.lookup.class_of(node.of) if node.of else random.Random
    made: random.Random = cls.__new__(cls)
    return made


def _fill_python(live: random.Random, node: Node, _: Putting) -> None:
    version, numbers, gauss = node.value
    random.Random.setstate(live, (version, tuple(numbers.tolist()), gauss))


def _take_legacy(value: Any, walk: Taking) -> Node:
    bits = walk.refer(value._bit_generator, "_bit_generator")
    return Node("legacy generator", "", value.get_state(legacy=False), [bits], None)


def _fill_legacy(live: Any, node: Node, _: Putting) -> None:
    live.set_state(node.value)


def _take_torch(value: th.Generator, walk: Taking) -> Node:
    return Node("torch generator", "", [str(value.device), value.get_state().numpy().copy()], None, None)


def _fill_torch(live: th.Generator, node: Node, _: Putting) -> None:
    live.set_state(th.from_numpy(node.value[1].copy()))


KINDS = (
    Kind(
        "bit generator",
        _take_bits,
        _make_bits,
        _fill_bits,
        lambda live, node: type(live).__name__ == node.value[0],
        lambda live, node: [live.seed_seq],
        is_whole_at_once=True,
        types=(np.random.BitGenerator,),
    ),
    Kind(
        "seeds",
        lambda value, walk: Node("seeds", "", _seeds(value), None, None),
        _make_seeds,
        fits=lambda live, node: _seeds(live) == node.value,
        types=(np.random.SeedSequence,),
    ),
    Kind(
        "generator",
        lambda value, walk: Node("generator", "", None, [walk.refer(value.bit_generator, "bit_generator")], None),
        lambda node, put: np.random.Generator(items_of(node, put)[0]),
        fits=lambda live, node: True,
        parts=lambda live, node: [live.bit_generator],
        is_whole_at_once=True,
        types=(np.random.Generator,),
    ),
    Kind(
        "legacy generator",
        _take_legacy,
        lambda node, put: np.random.RandomState(items_of(node, put)[0]),
        _fill_legacy,
        lambda live, node: True,
        lambda live, node: [live._bit_generator],
        is_whole_at_once=True,
        types=(np.random.RandomState,),
    ),
    Kind(
        "random",
        _take_python,
        _make_python,
        _fill_python,
        lambda live, node: True,
        types=(random.Random,),
        base=random.Random,
    ),
    Kind(
        "torch generator",
        _take_torch,
        lambda node, put: th.Generator(node.value[0]),
        _fill_torch,
        lambda live, node: str(live.device) == node.value[0],
        types=(th.Generator,),
    ),
)
