"""Values that never change but that have a class or an identity: times, paths, members of enumerations."""

from __future__ import annotations

import array
import contextvars
import datetime
import decimal
import enum
import operator
import pathlib
import re
import threading
import types
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from kernel.training import codec
from kernel.training.state_graph.containers import items_of
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking
from kernel.training.state_graph.nodes import Node, NotRestorable

_CONSTANTS = {"Ellipsis": ..., "NotImplemented": NotImplemented}
_PATHS = {kind.__name__: kind for kind in (pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)}
_PATHS |= {kind.__name__: kind for kind in (pathlib.Path, type(pathlib.Path()))}


def plain(name: str, of: type | tuple[type, ...], take: Callable[[Any], Any], make: Callable[[Any], Any]) -> Kind:
    """A kind whose instances are told by plain data alone."""

    def taken(value: Any, walk: Taking) -> Node:
        return Node(name, "", take(value), None, None)

    return Kind(name, taken, lambda node, put: make(node.value), types=of if isinstance(of, tuple) else (of,))


def _made_from(base: Any) -> Kind:
    """A kind for classes that are numbers or texts."""
    name = f"{base.__name__} of a class"

    def take(value: Any, walk: Taking) -> Node:
        return Node(name, "", int.__index__(value) if base is int else base.__new__(base, value), None, None)

    def make(node: Node, put: Putting) -> Any:
        return base.__new__(put.lookup.class_of(node.of), node.value)

    return Kind(name, take, make, types=(base,), base=base)


def _take_time(value: Any, walk: Taking) -> Node:
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    numbers = [getattr(value, name) for name in names if hasattr(value, name)]
    return Node(type(value).__name__, "", [numbers, value.fold], [walk.refer(value.tzinfo, "tzinfo")], None)


def _make_time(cls: Any) -> Callable[[Node, Putting], Any]:
    def make(node: Node, put: Putting) -> Any:
        numbers, fold = node.value
        return cls(*numbers, tzinfo=items_of(node, put)[0], fold=fold)

    return make


def _time_zone(value: Any) -> list[Any]:
    offset, *name = value.__getinitargs__()
    return [offset.days, offset.seconds, offset.microseconds, *name]


def _take_member(value: enum.Enum, walk: Taking) -> Node:
    cls = type(value)
    if value.name in cls.__members__:
        return Node("enum", "", [value.name], None, None)
    if isinstance(value, enum.Flag):
        return Node("enum", "", [member.name for member in cls if member.value & value.value], None, None)
    raise CannotTake("is no member of its enumeration")


def _make_member(node: Node, put: Putting) -> Any:
    cls: Any = put.lookup.class_of(node.of)
    found = [cls.__members__[name] for name in node.value]
    whole = found[0] if found else cls(0)
    for member in found[1:]:
        whole |= member
    return whole


def _take_slice(value: slice, walk: Taking) -> Node:
    return Node("slice", "", None, [walk.refer(part, 0) for part in (value.start, value.stop, value.step)], None)


def _take_namespace(value: Any, walk: Taking) -> Node:
    return Node("namespace", "", None, None, {name: walk.refer(held, name) for name, held in vars(value).items()})


_OF_EXCEPTIONS = ("args", "__cause__", "__context__", "__suppress_context__")
"""Where it was raised is no state, and is not kept."""


def _take_exception(value: BaseException, walk: Taking) -> Node:
    held = [walk.refer(getattr(value, name), name) for name in _OF_EXCEPTIONS]
    return Node("exception", "", None, held, None)


def _make_exception(node: Node, put: Putting) -> Any:
    cls: Any = put.lookup.class_of(node.of)
    return BaseException.__new__(cls)


def _fill_exception(live: BaseException, node: Node, put: Putting) -> None:
    for name, held in zip(_OF_EXCEPTIONS, items_of(node, put), strict=True):
        setattr(live, name, held)


def _empty_of(dtype: np.dtype) -> np.ndarray:
    if not codec.holds(dtype):
        raise CannotTake(f"is the type {dtype} of arrays")
    return np.empty(0, dtype)


def _torch_constant(kind: type) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        found = getattr(th, name.partition(".")[2], None)
        if not isinstance(found, kind):
            raise NotRestorable(f"{name!r} is no {kind.__name__} of torch.")
        return found

    return find


def _take_local(value: threading.local, walk: Taking) -> Node:
    return Node("thread's own", "", None, None, {name: walk.refer(held, name) for name, held in vars(value).items()})


def _fill_local(live: threading.local, node: Node, put: Putting) -> None:
    vars(live).clear()
    vars(live).update({name: put.get(held) for name, held in (node.attributes or {}).items()})


_UNSET = object()


def _take_context(value: contextvars.ContextVar[Any], walk: Taking) -> Node:
    held: Any = value.get(_UNSET)  # its default, where it has one
    return Node("context variable", "", value.name, [] if held is _UNSET else [walk.refer(held, "")], None)


def _make_context(node: Node, put: Putting) -> Any:
    raise NotRestorable(f"The context variable {node.value!r} is none that a freshly made environment has.")


def _fill_context(live: contextvars.ContextVar[Any], node: Node, put: Putting) -> None:
    if node.items:
        live.set(put.get(node.items[0]))


KINDS = (
    Kind(
        "thread's own",
        _take_local,
        lambda node, put: threading.local(),
        _fill_local,
        lambda live, node: True,
        types=(threading.local,),
    ),
    Kind(
        "context variable",
        _take_context,
        _make_context,
        _fill_context,
        lambda live, node: live.name == node.value,
        lambda live, node: [live.get(None)],
        types=(contextvars.ContextVar,),
    ),
    # Members of an enumeration of numbers are numbers too: theirs comes first.
    Kind("enum", _take_member, _make_member, types=(enum.Enum,), base=enum.Enum),
    Kind("datetime", _take_time, _make_time(datetime.datetime), is_whole_at_once=True, types=(datetime.datetime,)),
    Kind("time", _take_time, _make_time(datetime.time), is_whole_at_once=True, types=(datetime.time,)),
    plain("date", datetime.date, lambda v: [v.year, v.month, v.day], lambda v: datetime.date(*v)),
    plain(
        "duration",
        datetime.timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda v: datetime.timedelta(*v),
    ),
    plain("time zone", datetime.timezone, _time_zone, lambda v: datetime.timezone(datetime.timedelta(*v[:3]), *v[3:])),
    plain("zone", zoneinfo.ZoneInfo, lambda v: v.key, zoneinfo.ZoneInfo),
    plain("decimal", decimal.Decimal, str, decimal.Decimal),
    plain("path", pathlib.PurePath, lambda v: [type(v).__name__, str(v)], lambda v: _PATHS[v[0]](v[1])),
    plain("pattern", re.Pattern, lambda v: [v.pattern, v.flags], lambda v: re.compile(*v)),
    plain("range", range, lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
    plain("dtype", np.dtype, _empty_of, lambda v: v.dtype),
    plain("torch dtype", th.dtype, str, _torch_constant(th.dtype)),
    plain("torch device", th.device, str, th.device),
    plain("torch layout", th.layout, str, _torch_constant(th.layout)),
    plain("constant", (type(Ellipsis), type(NotImplemented)), repr, _CONSTANTS.__getitem__),
    Kind(
        "numbers",
        lambda value, walk: Node("numbers", "", [value.typecode, value.tobytes()], None, None),
        lambda node, put: array.array(*node.value),
        lambda live, node, put: operator.setitem(live, slice(None), array.array(*node.value)),
        lambda live, node: [live.typecode, len(live.tobytes())] == [node.value[0], len(node.value[1])],
        types=(array.array,),
    ),
    Kind(
        "slice",
        _take_slice,
        lambda node, put: slice(*items_of(node, put)),
        is_whole_at_once=True,
        types=(slice,),
    ),
    Kind(
        "namespace",
        _take_namespace,
        lambda node, put: types.SimpleNamespace(),
        fits=lambda live, node: True,
        types=(types.SimpleNamespace,),
        base=types.SimpleNamespace,
    ),
    Kind(
        "exception",
        _take_exception,
        _make_exception,
        _fill_exception,
        types=(BaseException,),
        base=BaseException,
    ),
    *map(_made_from, (int, float, complex, str, bytes)),
)
