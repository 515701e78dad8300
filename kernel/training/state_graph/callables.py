"""What can be called, and what refers without holding: functions, methods, closures, weak references."""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any

from kernel.training.state_graph.containers import items_of
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking
from kernel.training.state_graph.lookup import likeness
from kernel.training.state_graph.nodes import ABSENT, IMMEDIATE, Node, NotRestorable

_METHODS = frozenset(
    (
        *("add", "append", "appendleft", "clear", "discard", "extend", "get", "items", "keys", "pop", "popleft"),
        *("remove", "update", "values"),
        *("choice", "exponential", "getrandbits", "integers", "normal", "poisson", "random", "shuffle"),
        *("standard_normal", "uniform"),
        *("__enter__", "__exit__", "_acquire_restore", "_at_fork_reinit", "_is_owned", "_release_save", "acquire"),
        *("locked", "release"),
    )
)
"""Methods of what is written in C that are harmless, whoever calls them."""


def has_state(function: types.FunctionType) -> bool:
    """Whether a function of a module keeps anything that may change."""
    if function.__dict__ or function.__closure__ or function.__kwdefaults__:
        return True
    return any(type(default) not in IMMEDIATE for default in function.__defaults__ or ())


def _take_function(value: types.FunctionType, walk: Taking) -> Node:
    name = walk.lookup.name_of(value)
    if name and not (walk.lookup.is_own(value.__module__) and has_state(value)):
        return Node("named", "", name, None, None)
    held = [walk.refer(cell, i) for i, cell in enumerate(value.__closure__ or ())]
    names = {key: walk.refer(found, key) for key, found in value.__dict__.items()}
    defaults = [walk.refer(value.__defaults__, "defaults"), walk.refer(value.__kwdefaults__, "defaults")]
    if name:
        return Node("function", "", [name, ""], [*defaults, *held], names)
    return Node("function", "", [_home_of(value), likeness(value.__code__)], [*defaults, *held], names)


def _home_of(value: types.FunctionType) -> str:
    """Where its code stands: what wraps a function calls itself as that one."""
    return f"{value.__globals__.get('__name__')}:{value.__code__.co_qualname}"


def _make_function(node: Node, put: Putting) -> Any:
    name, like = node.value
    if not like:
        return put.lookup.value_of(name)
    code, module = put.lookup.code_of(name, like)
    _, _, *cells = items_of(node, put)
    return types.FunctionType(code, vars(module), code.co_name, None, tuple(cells))


def _fill_function(live: Any, node: Node, put: Putting) -> None:
    live.__defaults__, live.__kwdefaults__, *_ = items_of(node, put)
    live.__dict__.clear()
    live.__dict__.update({name: put.get(held) for name, held in (node.attributes or {}).items()})


def _function_parts(live: Any, node: Node) -> list[Any]:
    if not isinstance(live, types.FunctionType):
        return []
    return [ABSENT, ABSENT, *(live.__closure__ or ())]


def _function_fits(live: Any, node: Node) -> bool:
    name, like = node.value
    if not like:
        return True
    return _home_of(live) == name and likeness(live.__code__) == like


def _take_cell(value: Any, walk: Taking) -> Node:
    try:
        return Node("cell", "", None, [walk.refer(value.cell_contents, "")], None)
    except ValueError:  # it holds nothing yet
        return Node("cell", "", None, [], None)


def _fill_cell(live: Any, node: Node, put: Putting) -> None:
    if node.items:
        live.cell_contents = put.get(node.items[0])
    elif _cell_parts(live, node):
        del live.cell_contents


def _cell_parts(live: Any, _: Node) -> list[Any]:
    try:
        return [live.cell_contents]
    except ValueError:
        return []


def _take_method(value: types.MethodType, walk: Taking) -> Node:
    held = [walk.refer(value.__self__, "__self__"), walk.refer(value.__func__, "__func__")]
    return Node("method", "", None, held, None)


def _take_builtin(value: Any, walk: Taking) -> Node:
    owner = value.__self__
    if owner is None or isinstance(owner, (types.ModuleType, type)):
        return _take_named(value, walk)
    return Node("method in C", "", value.__name__, [walk.refer(owner, "__self__")], None)


def _make_builtin(node: Node, put: Putting) -> Any:
    owner, name = items_of(node, put)[0], node.value
    if name not in _METHODS:
        raise NotRestorable(f"A checkpoint may not name the method {name!r} of a {type(owner).__qualname__}.")
    return getattr(owner, name)


def _take_named(value: Any, walk: Taking) -> Node:
    name = walk.lookup.name_of(value)
    if not name:
        raise CannotTake(f"is a {type(value).__qualname__} that no name leads to")
    return Node("named", "", name, None, None)


def _take_property(value: property, walk: Taking) -> Node:
    parts = [walk.refer(getattr(value, name), name) for name in ("fget", "fset", "fdel")]
    return Node("property", "", None, parts, None)


def _take_wrapped(value: Any, walk: Taking) -> Node:
    return Node(type(value).__name__, "", None, [walk.refer(value.__func__, "__func__")], None)


def _take_partial(value: functools.partial[Any], walk: Taking) -> Node:
    held = [
        walk.refer(part, label)
        for label, part in (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    ]
    return Node("partial", "", None, held, None)


def _make_partial(node: Node, put: Putting) -> Any:
    function, arguments, keywords = items_of(node, put)
    if not callable(function):
        raise NotRestorable("A partial function is none.")
    return functools.partial(function, *arguments, **keywords)


def _take_weak(value: Any, walk: Taking) -> Node:
    target = value()
    walk.weakly([] if target is None else [(target, [target, value.__callback__])])
    return Node("weak reference", "", None, [], None)


def _make_weak(node: Node, put: Putting) -> Any:
    if not node.items:
        return weakref.ref(type("Gone", (), {})())
    return weakref.ref(*items_of(node, put))


def _take_weak_dict(kind: str) -> Any:
    def take(value: Any, walk: Taking) -> Node:
        walk.weakly([(key if kind == "weak keys" else held, [key, held]) for key, held in value.items()])
        return Node(kind, "", None, [], None)

    return take


def _fill_weak_dict(live: Any, node: Node, put: Putting) -> None:
    items = items_of(node, put)
    live.clear()
    for key, value in zip(items[::2], items[1::2], strict=True):
        live[key] = value


def _take_weak_set(value: Any, walk: Taking) -> Node:
    walk.weakly([(item, [item]) for item in sorted(value, key=walk.rank)])
    return Node("weak set", "", None, [], None)


def _fill_weak_set(live: Any, node: Node, put: Putting) -> None:
    live.clear()
    live.update(items_of(node, put))


def _always(live: Any, node: Node) -> bool:
    return True


KINDS = (
    Kind(
        "function",
        _take_function,
        _make_function,
        _fill_function,
        _function_fits,
        _function_parts,
        is_whole_at_once=True,
        types=(types.FunctionType,),
    ),
    Kind("named", _take_named, lambda node, put: put.lookup.value_of(node.value), types=(types.ModuleType, type)),
    Kind(
        "cell",
        _take_cell,
        lambda node, put: types.CellType(),
        _fill_cell,
        _always,
        _cell_parts,
        types=(types.CellType,),
    ),
    Kind(
        "method",
        _take_method,
        lambda node, put: types.MethodType(*reversed(items_of(node, put))),
        is_whole_at_once=True,
        parts=lambda live, node: [live.__self__, live.__func__],
        types=(types.MethodType,),
    ),
    Kind(
        "property",
        _take_property,
        lambda node, put: property(*items_of(node, put)),
        is_whole_at_once=True,
        parts=lambda live, node: [live.fget, live.fset, live.fdel],
        types=(property,),
    ),
    *(
        Kind(
            kind.__name__,
            _take_wrapped,
            lambda node, put, kind=kind: kind(items_of(node, put)[0]),  # type: ignore[misc]
            is_whole_at_once=True,
            parts=lambda live, node: [live.__func__],
            types=(kind,),
        )
        for kind in (staticmethod, classmethod)
    ),
    Kind(
        "method in C",
        _take_builtin,
        _make_builtin,
        is_whole_at_once=True,
        parts=lambda live, node: [live.__self__],
        types=(types.BuiltinFunctionType, types.MethodWrapperType),
    ),
    Kind(
        "partial",
        _take_partial,
        _make_partial,
        is_whole_at_once=True,
        types=(functools.partial,),
        base=functools.partial,
        parts=lambda live, node: [live.func, live.args, live.keywords],
    ),
    Kind(
        "weak reference",
        _take_weak,
        _make_weak,
        is_whole_at_once=True,
        types=(weakref.ref,),
        parts=lambda live, node: [live(), live.__callback__],
    ),
    Kind(
        "weak keys",
        _take_weak_dict("weak keys"),
        lambda node, put: weakref.WeakKeyDictionary(),
        _fill_weak_dict,
        turn=1,
        types=(weakref.WeakKeyDictionary,),
    ),
    Kind(
        "weak values",
        _take_weak_dict("weak values"),
        lambda node, put: weakref.WeakValueDictionary(),
        _fill_weak_dict,
        turn=1,
        types=(weakref.WeakValueDictionary,),
    ),
    Kind(
        "weak set",
        _take_weak_set,
        lambda node, put: weakref.WeakSet(),
        _fill_weak_set,
        turn=1,
        types=(weakref.WeakSet,),
    ),
)
