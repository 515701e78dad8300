"""Where two captured states differ first, by the words that lead there."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernel.training import codec
from kernel.training.codec import Reference
from kernel.training.state_graph.nodes import Node, NotRestorable, labelled, table_of

_CAUSES_FIRST = ("environments", "random", "scalars", "collected", "arrays", "rollout", "replay")
"""Parts of a state in the order in which one makes the next another one: what remains are consequences."""


def named(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first difference of two captured states, causes before consequences, by its path."""
    parts = [*_CAUSES_FIRST, *(name for name in one if name not in _CAUSES_FIRST)]
    for part in parts:
        if found := first_difference(one.get(part), other.get(part), "" if part == "environments" else part):
            return found.removeprefix("graph.")
    return "its bytes differ"


def first_difference(one: Any, other: Any, where: str = "") -> str:
    """The first place where two trees that the codec holds differ, with both values; empty where they are equal.

    Within object graphs the way there is told as one would write it: env.sim.clock.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) == set(other) == {"roots", "nodes", "left"}:
            return _in_graphs(one, other)
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in one or key not in other:
                return f"{_to(where, key)} is there once and once not"
            if found := first_difference(one[key], other[key], _to(where, key)):
                return found
        return ""
    if type(one) is type(other) and isinstance(one, (list, tuple, deque)):
        if len(one) != len(other):
            return f"{where} has {len(one):,} items, and {len(other):,}"
        pairs = enumerate(zip(one, other, strict=True))
        return next((found for i, (a, b) in pairs if (found := first_difference(a, b, f"{where}[{i}]"))), "")
    return "" if _are_equal(one, other) else f"{where} is {_shown(one, other)}, and {_shown(other, one)}"


def _in_graphs(one: Any, other: Any) -> str:
    """Walk both from their roots at once; the first place whose own content differs."""
    try:
        left, right = table_of(one), table_of(other)
    except NotRestorable as error:
        return str(error)
    met: dict[int, int] = {}
    waiting: deque[tuple[str, Any, Any]] = deque()
    for name in [*one["roots"], *(name for name in other["roots"] if name not in one["roots"])]:
        if name not in one["roots"] or name not in other["roots"]:
            return f"{name} is there once and once not"
        waiting.append((name, one["roots"][name], other["roots"][name]))
    while waiting:
        where, a, b = waiting.popleft()
        if not (isinstance(a, Reference) and isinstance(b, Reference)):
            if not _are_equal(a, b):
                return f"{where} is {_shown(a, b, left)}, and {_shown(b, a, right)}"
            continue
        if a.place in met:
            if met[a.place] != b.place:
                return f"{where} is one object with another place, and another object"
            continue
        met[a.place] = b.place
        if found := _own_difference(where, left[a.place], right[b.place]):
            return found
        others = dict(labelled(right[b.place]))
        waiting += [(where + label, held, others.get(label)) for label, held in labelled(left[a.place])]
    return ""


def _own_difference(where: str, a: Node, b: Node) -> str:
    if (a.kind, a.of) != (b.kind, b.of):
        return f"{where} is {a.of or a.kind}, and {b.of or b.kind}"
    if found := first_difference(a.value, b.value, where):
        return found
    once = [label for label, _ in labelled(a)], [label for label, _ in labelled(b)]
    if lost := sorted(set(once[0]) ^ set(once[1])):
        return f"{where}{lost[0]} is there once and once not"
    return ""


def _to(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return codec.encode(one) == codec.encode(other)
    return type(one) is type(other) and codec.encode(one) == codec.encode(other)


def _shown(value: Any, other: Any, table: list[Node] | None = None) -> str:
    if isinstance(value, Reference) and table is not None:
        node = table[value.place]
        return f"an object ({node.of or node.kind})"
    if isinstance(value, np.ndarray):
        if isinstance(other, np.ndarray) and other.shape == value.shape and other.dtype == value.dtype and value.size:
            bits = np.ascontiguousarray(value).view(np.uint8).reshape(value.size, -1)
            at = int(
                np.argmax((bits != np.ascontiguousarray(other).view(np.uint8).reshape(value.size, -1)).any(axis=1))
            )
            return f"{value.reshape(-1)[at]!r} at {at}"
        return f"an array of {value.dtype} and shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
