"""Lists, dicts, sets and their like, and the classes made from them."""

from __future__ import annotations

import collections
import gc
import types
from collections.abc import Callable, Sequence
from typing import Any

from kernel.training.state_graph import sets
from kernel.training.state_graph.kind import Kind, Putting, Taking
from kernel.training.state_graph.nodes import ABSENT, IMMEDIATE, Node

Base = Any
"""`list`, `dict` and so on: their own methods are called, whatever a subclass makes of these."""


def items_of(node: Node, put: Putting) -> list[Any]:
    """What its items stand for."""
    return [put.get(held) for held in node.items or ()]


def _sequence(name: str, base: Base, plain: Callable[[Any], Any] = lambda value: None) -> Callable[..., Node]:
    def take(value: Any, walk: Taking) -> Node:
        refer = walk.refer
        return Node(name, "", plain(value), [refer(item, i) for i, item in enumerate(base.__iter__(value))], None)

    return take


def _parts(base: Base) -> Callable[[Any, Node], Sequence[Any]]:
    return lambda live, node: list(base.__iter__(live))


def _new(base: Base) -> Callable[[Node, Putting], Any]:
    return lambda node, put: base.__new__(put.lookup.class_of(node.of) if node.of else base)


def _fill_list(live: Any, node: Node, put: Putting) -> None:
    list.__setitem__(live, slice(None), items_of(node, put))


def _new_deque(node: Node, put: Putting) -> Any:
    made = _new(collections.deque)(node, put)
    collections.deque.__init__(made, (), node.value)
    return made


def _fill_deque(live: Any, node: Node, put: Putting) -> None:
    collections.deque.clear(live)
    collections.deque.extend(live, items_of(node, put))


def _dict(name: str, base: Base) -> Callable[..., Node]:
    def take(value: Any, walk: Taking) -> Node:
        refer = walk.refer
        items: list[Any] = []
        for key, held in base.items(value):
            items += (refer(key, None), refer(held, key))
        return Node(name, "", None, items, None)

    return take


def _take_defaultdict(value: Any, walk: Taking) -> Node:
    node = _dict("defaultdict", dict)(value, walk)
    return node._replace(items=[walk.refer(value.default_factory, "default_factory"), *(node.items or ())])


def _dict_parts(base: Base, first: int = 0) -> Callable[[Any, Node], Sequence[Any]]:
    def parts(live: Any, node: Node) -> Sequence[Any]:
        found: list[Any] = [ABSENT] * first
        items = node.items or []
        for key in items[first::2]:
            found += (ABSENT, base.get(live, key, ABSENT) if type(key) in IMMEDIATE else ABSENT)
        return found

    return parts


def _fill_dict(base: Base, first: int = 0) -> Callable[[Any, Node, Putting], None]:
    def fill(live: Any, node: Node, put: Putting) -> None:
        items = items_of(node, put)
        base.clear(live)
        for key, value in zip(items[first::2], items[first + 1 :: 2], strict=True):
            base.__setitem__(live, key, value)
        if first:
            live.default_factory = items[0]

    return fill


def _set(name: str, base: Base) -> Callable[..., Node]:
    def take(value: Any, walk: Taking) -> Node:
        elements, size = list(base.__iter__(value)), None
        if not all(map(_is_of_values, elements)):
            # Told apart by their addresses they come in another order in every process.
            elements.sort(key=walk.rank)
        elif base is set:
            size = sets.table_size(value)
        return Node(name, "", size, [walk.refer(item, i) for i, item in enumerate(elements)], None)

    return take


def _gives_the_same(live: Any, node: Node) -> bool:
    """Whether it gives the same values in the same order, which depends on how it came about."""
    now, items = list(frozenset.__iter__(live)), node.items or []
    return now == items and all(type(a) is type(b) and type(a) in IMMEDIATE for a, b in zip(now, items, strict=True))


def _is_of_values(element: Any) -> bool:
    if type(element) in (tuple, frozenset):
        return all(map(_is_of_values, element))
    return type(element) in IMMEDIATE


def _fill_set(live: Any, node: Node, put: Putting) -> None:
    items = items_of(node, put)
    if type(node.value) is not int:
        set.clear(live)
        set.update(live, dict.fromkeys(items))
    elif list(set.__iter__(live)) != items or sets.table_size(live) != node.value:
        sets.fill(live, items, max(8, min(node.value, 1 << 24)))


def _whole(base: Base) -> Callable[[Node, Putting], Any]:
    def make(node: Node, put: Putting) -> Any:
        return base.__new__(put.lookup.class_of(node.of) if node.of else base, items_of(node, put))

    return make


def _fill_bytes(live: bytearray, node: Node, _: Putting) -> None:
    live[:] = node.value


def _under(proxy: Any) -> Any:
    """The dict that a read-only one or a view shows."""
    return gc.get_referents(proxy)[0]


def _shown(name: str, show: Any) -> Kind:
    """A kind that shows a dict in another way."""

    def take(value: Any, walk: Taking) -> Node:
        return Node(name, "", None, [walk.refer(_under(value), "")], None)

    def make(node: Node, put: Putting) -> Any:
        return show(items_of(node, put)[0])

    return Kind(
        name,
        take,
        make,
        is_whole_at_once=True,
        parts=lambda live, node: [_under(live)],
        types=(type(show({})),),
    )


KINDS = (
    Kind(
        "list",
        _sequence("list", list),
        _new(list),
        _fill_list,
        lambda live, node: True,
        _parts(list),
        types=(list,),
        base=list,
    ),
    Kind(
        "deque",
        _sequence("deque", collections.deque, lambda value: value.maxlen),
        _new_deque,
        _fill_deque,
        lambda live, node: live.maxlen == node.value,
        _parts(collections.deque),
        types=(collections.deque,),
        base=collections.deque,
    ),
    Kind(
        "tuple",
        _sequence("tuple", tuple),
        _whole(tuple),
        is_whole_at_once=True,
        types=(tuple,),
        base=tuple,
        parts=_parts(tuple),
    ),
    Kind(
        "ordered dict",
        _dict("ordered dict", collections.OrderedDict),
        _new(collections.OrderedDict),
        _fill_dict(collections.OrderedDict),
        lambda live, node: True,
        _dict_parts(dict),
        turn=1,
        types=(collections.OrderedDict,),
        base=collections.OrderedDict,
    ),
    Kind(
        "defaultdict",
        _take_defaultdict,
        _new(collections.defaultdict),
        _fill_dict(dict, 1),
        lambda live, node: True,
        _dict_parts(dict, 1),
        turn=1,
        types=(collections.defaultdict,),
        base=collections.defaultdict,
    ),
    Kind(
        "dict",
        _dict("dict", dict),
        _new(dict),
        _fill_dict(dict),
        lambda live, node: True,
        _dict_parts(dict),
        turn=1,
        types=(dict,),
        base=dict,
    ),
    Kind("set", _set("set", set), _new(set), _fill_set, lambda live, node: True, turn=1, types=(set,), base=set),
    Kind(
        "frozenset",
        _set("frozenset", frozenset),
        _whole(frozenset),
        fits=_gives_the_same,
        is_whole_at_once=True,
        types=(frozenset,),
        base=frozenset,
    ),
    Kind(
        "bytearray",
        lambda value, walk: Node("bytearray", "", bytes(value), None, None),
        _new(bytearray),
        _fill_bytes,
        lambda live, node: True,
        types=(bytearray,),
        base=bytearray,
    ),
    *(_shown("dict_keys", dict.keys), _shown("dict_values", dict.values), _shown("dict_items", dict.items)),
    _shown("read-only dict", types.MappingProxyType),
)
