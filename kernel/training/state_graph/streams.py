"""Iterators, open files, buffers, loggers and locks."""

from __future__ import annotations

import io
import itertools
import logging
import sys
import threading
import warnings
from typing import Any

from kernel.training.state_graph.containers import items_of
from kernel.training.state_graph.kind import CannotTake, Kind, Putting, Taking
from kernel.training.state_graph.nodes import Node, NotRestorable
from kernel.training.state_graph.values import plain

_FROM_ITERTOOLS = (
    *("accumulate", "chain", "combinations", "combinations_with_replacement", "compress", "count", "cycle"),
    *("dropwhile", "filterfalse", "islice", "permutations", "product", "repeat", "starmap", "takewhile", "zip_longest"),
)
_ITERATORS: dict[str, Any] = {kind.__name__: kind for kind in (enumerate, filter, map, reversed, zip)}
_ITERATORS |= {name: getattr(itertools, name) for name in _FROM_ITERTOOLS} | {"iter": iter}
_SAMPLES: tuple[Any, ...] = ([], (), "", range(0), range(1 << 70), b"", bytearray())
_ITERATOR_TYPES = {kind for kind in _ITERATORS.values() if isinstance(kind, type)}
_ITERATOR_TYPES |= {type(iter(sample)) for sample in _SAMPLES} | {type(reversed([]))}
_STANDARD_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)
_LOCK, _REENTRANT = type(threading.Lock()), type(threading.RLock())


def _take_iterator(value: Any, walk: Taking) -> Node:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = value.__reduce__()
    name = next((name for name, kind in _ITERATORS.items() if kind is found[0]), None)
    if name is None:
        raise CannotTake("is an iterator that cannot be looked into")
    state = found[2] if len(found) > 2 else None
    if name == "cycle" and state is not None and state[1]:
        found = (found[0], (_turned(found[1][0], state[0]),))
    items = [walk.refer(part, position) for position, part in enumerate((state, *found[1]))]
    return Node("iterator", "", [name, state is not None], items, None)


def _turned(at: Any, seen: Any) -> Any:
    """Where a cycle that has been round once is in `seen`: at its end is at its beginning."""
    found = at.__reduce__()
    again: Any = iter(seen)
    again.__setstate__(found[2] % len(seen) if len(found) > 2 and seen else 0)
    return again


def _make_iterator(node: Node, put: Putting) -> Any:
    _, *arguments = items_of(node, put)
    return _ITERATORS[node.value[0]](*arguments)


def _fill_iterator(live: Any, node: Node, put: Putting) -> None:
    if node.value[1]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            live.__setstate__(items_of(node, put)[0])


def _take_file(value: Any, walk: Taking) -> Node:
    for name in _STANDARD_STREAMS:
        if getattr(sys, name) is value:
            return Node("stream", "", name, None, None)
    if isinstance(value.name, int):
        raise CannotTake("is an open file without a name")
    mode = _mode_of(value)
    is_read = bool(mode) and not set(mode) & set("wax+") and value.seekable()
    return Node("file", "", [str(value.name), mode, value.tell() if is_read else None], None, None)


def _mode_of(value: Any) -> str:
    """Empty for one that is closed."""
    return "" if value.closed else str(getattr(value, "mode", "r"))


def _make_file(node: Node, _: Putting) -> Any:
    raise NotRestorable(f"The open file {node.value[0]} is none that a freshly made environment opens.")


def _fill_file(live: Any, node: Node, _: Putting) -> None:
    # What was written is there already; what was read is read on.
    if node.value[2] is not None:
        live.seek(node.value[2])


def _make_stream(name: str) -> Any:
    if name not in _STANDARD_STREAMS:
        raise NotRestorable(f"{name!r} is no standard stream.")
    return getattr(sys, name)


def _take_buffer(value: Any, walk: Taking) -> Node:
    return Node(type(value).__name__, "", [value.getvalue(), value.tell()], None, None)


def _fill_buffer(live: Any, node: Node, _: Putting) -> None:
    content, position = node.value
    live.seek(0)
    live.truncate()
    live.write(content)
    live.seek(position)


def _take_lock(value: Any, walk: Taking) -> Node:
    if value.locked() if isinstance(value, _LOCK) else "owner=0" not in repr(value):
        raise CannotTake("is a lock that is taken")
    return Node("lock" if isinstance(value, _LOCK) else "reentrant lock", "", None, None, None)


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(None if name == "root" else name)


def _take_logger(value: logging.Logger, walk: Taking) -> Node:
    if _logger(value.name) is not value:
        raise CannotTake("is a logger that its name does not lead to")
    return Node("logger", "", value.name, None, None)


def _always(live: Any, node: Node) -> bool:
    return True


KINDS = (
    Kind(
        "iterator",
        _take_iterator,
        _make_iterator,
        _fill_iterator,
        is_whole_at_once=True,
        turn=2,
        types=tuple(_ITERATOR_TYPES),
    ),
    Kind(
        "file",
        _take_file,
        _make_file,
        _fill_file,
        lambda live, node: [str(live.name), _mode_of(live)] == node.value[:2],
        types=_FILES,
    ),
    plain("stream", (), str, _make_stream),
    Kind("StringIO", _take_buffer, lambda node, put: io.StringIO(), _fill_buffer, _always, types=(io.StringIO,)),
    Kind("BytesIO", _take_buffer, lambda node, put: io.BytesIO(), _fill_buffer, _always, types=(io.BytesIO,)),
    Kind("logger", _take_logger, lambda node, put: _logger(node.value), types=(logging.Logger,)),
    Kind("lock", _take_lock, lambda node, put: threading.Lock(), fits=_always, types=(_LOCK,)),
    Kind("reentrant lock", _take_lock, lambda node, put: threading.RLock(), fits=_always, types=(_REENTRANT,)),
)
