"""The form in which an object graph lies in a checkpoint: a table of nodes, all of it plain data.

    {"roots": {"env": Reference(0)}, "nodes": [[kind, of, value, items, attributes], ...], "left": [[path, why], ...]}

Whatever may be shared is a node of its own and is referred to by its place in the table; numbers, strings and the like
stand where they are used. Equal graphs give equal tables: nodes stand in the order in which a walk from the roots
reaches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernel.training.codec import Reference

IMMEDIATE = frozenset((type(None), bool, int, float, str, bytes, complex))
"""Types that nobody can tell copies of apart, and that are cheaper to hold than to refer to."""
LEFT = "left"
"""Kind of a node that could not be taken: its value is the name of its type."""


class _Absent:
    """Stands where the live graph has nothing, and for an object that was left out where there is nothing."""


ABSENT = _Absent()

Items = list[Any] | None
Attributes = dict[str, Any] | None


class NotRestorable(ValueError):
    """Raised where an environment's state cannot be taken or put back; the message names the path."""


class HalfRestored(RuntimeError):
    """Raised where live objects hold half of another state and cannot be made what they were.

    The process that holds them is of no more use: another one can begin otherwise.
    """


class Node(NamedTuple):
    """One object: how it is made, and what it refers to."""

    kind: str
    of: str
    """`module:qualname` of its class where that is not the kind's own; else empty."""
    value: Any
    """What of it refers to nothing."""
    items: Items
    """What it holds by position: a list's items, a dict's keys and values in turn."""
    attributes: Attributes
    """What it holds by name, in `__dict__` and slots."""


def module_of(cls: type) -> str:
    """The module of a class by its name; empty where a library in another language gave it none."""
    found = getattr(cls, "__module__", "")
    return found if isinstance(found, str) else ""


def is_immediate(value: Any) -> bool:
    """Whether it stands where it is used."""
    cls = type(value)
    return cls in IMMEDIATE or (issubclass(cls, np.generic) and not issubclass(cls, np.void))


def table_of(tree: Any) -> list[Node]:
    """The nodes of a captured graph that was read from a file.

    Raises
    ------
    NotRestorable
        It is none: a wrong form, or a reference that leads out of the table.
    """
    wrong = NotRestorable("The state of its environments has not the form of an object graph.")
    try:
        nodes = [Node(*entry) for entry in tree["nodes"]]
        roots, left = dict(tree["roots"]), [(path, why) for path, why in tree["left"]]
    except (TypeError, KeyError, ValueError) as error:
        raise wrong from error
    if not all(map(_is_whole, nodes)) or not all(type(text) is str for pair in left for text in pair):
        raise wrong
    held = [*roots.values(), *_references(nodes)]
    if not all(0 <= one.place < len(nodes) if isinstance(one, Reference) else is_immediate(one) for one in held):
        raise wrong
    return nodes


def _is_whole(node: Node) -> bool:
    if not isinstance(node.kind, str) or not isinstance(node.of, str):
        return False
    if node.items is not None and type(node.items) is not list:
        return False
    return node.attributes is None or (
        type(node.attributes) is dict and all(isinstance(name, str) for name in node.attributes)
    )


def _references(nodes: list[Node]) -> Iterator[Any]:
    for node in nodes:
        yield from node.items or ()
        yield from (node.attributes or {}).values()


def labelled(node: Node) -> Iterator[tuple[str, Any]]:
    """What `node` refers to, each with the words that lead from it there: `.queue`, `[3]`, `['north']`."""
    for name, value in (node.attributes or {}).items():
        yield f".{name}", value
    items = node.items or []
    if node.kind in ("dict", "weak keys", "weak values"):
        for position in range(0, len(items) - 1, 2):
            key = items[position]
            shown = "" if isinstance(key, Reference) else repr(key)
            yield f"[key {position // 2}]", key
            yield f"[{shown or position // 2}]", items[position + 1]
    else:
        for position, value in enumerate(items):
            yield f"[{position}]", value
