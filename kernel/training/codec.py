"""A tree of numbers, strings and arrays as bytes and back: equal trees give equal bytes, and reading runs no code.

    magic · length of the header · header (JSON: the tree, and where each array lies) · arrays, each on a 64-byte line

What can be held: None, bool, int, float, complex, str, bytes, list, tuple, deque, dict (any of these as keys), numpy
scalars and arrays of numbers, texts, times and records of these, references to a place in a table. An array is read as
a view of bytes that are there; a size in the header cannot make it allocate.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = b"KAGLST1\n"
_LINE = 64
_KINDS = "biufcSUMm"
_TAG = "$"
_LONGEST_INTEGER = 4_000
"""Bits up to which an integer is written in decimal, which Python refuses of long ones."""


class NotEncodable(ValueError):
    """Raised for a value that the format does not hold; the message says where it lies."""


class Undecodable(ValueError):
    """Raised for bytes that `encode` did not write."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a table of nodes (`kernel.training.state_graph.nodes`)."""

    place: int


def is_like(tree: Any, sample: Any) -> bool:
    """Whether `tree` has the form of `sample`: the same keys, and in their places values of the same kind.

    A type in the sample stands for any value of that type, an array for any of its dtype and shape (of its number of
    axes where it is empty), an empty dict for one of names and numbers, an empty list for one of strings, None for None
    or a number.
    """
    if isinstance(sample, type):
        return isinstance(tree, sample) and not (sample is int and isinstance(tree, bool))
    if isinstance(sample, dict):
        if not sample:
            return isinstance(tree, dict) and all(isinstance(k, str) and _is_number(v) for k, v in tree.items())
        same = isinstance(tree, dict) and set(tree) == set(sample)
        return same and all(is_like(tree[key], value) for key, value in sample.items())
    if type(sample) is list and not sample:
        return type(tree) is list and all(isinstance(item, str) for item in tree)
    if isinstance(sample, (list, tuple)):
        same = type(tree) is type(sample) and len(tree) == len(sample)
        return same and all(is_like(one, other) for one, other in zip(tree, sample, strict=True))
    if isinstance(sample, np.ndarray):
        if not isinstance(tree, np.ndarray) or tree.dtype != sample.dtype:
            return False
        return tree.shape == sample.shape if sample.size else tree.ndim == sample.ndim
    if sample is None:
        return tree is None or _is_number(tree)
    if isinstance(sample, (bool, str)):
        return type(tree) is type(sample)
    return type(tree) is int if type(sample) is int else _is_number(tree)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def encode(tree: Any) -> bytes:
    """The bytes of `tree`."""
    arrays: list[np.ndarray] = []
    packed = _pack(tree, arrays, "state")
    header = json.dumps(
        {"arrays": [[_dtype_name(a.dtype), list(a.shape)] for a in arrays], "tree": packed},
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    parts = [MAGIC, struct.pack("<Q", len(header)), header]
    at = len(MAGIC) + 8 + len(header)
    for array in arrays:
        padding = -at % _LINE
        data = array.tobytes()
        parts += [b"\0" * padding, data]
        at += padding + len(data)
    return b"".join(parts)


def copied(value: Any, where: str = "state") -> Any:
    """A deep copy of a tree that `encode` takes; the same refusals."""
    if value is None or type(value) in (bool, int, str, float, bytes, complex, Reference):
        return value
    if isinstance(value, np.generic):
        _require_numbers(value.dtype, where)
        return value
    if isinstance(value, np.ndarray):
        _require_numbers(value.dtype, where)
        return value.copy()
    if type(value) is dict:
        return {copied(k, where): copied(v, f"{where}.{k}") for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)([copied(item, where) for item in value])
    if type(value) is deque:
        return deque((copied(item, where) for item in value), value.maxlen)
    raise NotEncodable(f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which is not kept.")


def decode(data: bytes) -> Any:
    """The tree that `encode` made `data` from.

    Raises
    ------
    Undecodable
        Anything else, sizes that do not fit the bytes there are included.
    """
    try:
        if data[: len(MAGIC)] != MAGIC:
            raise Undecodable("it does not begin as a state does")
        (length,) = struct.unpack_from("<Q", data, len(MAGIC))
        at = len(MAGIC) + 8
        if length > len(data) - at:
            raise Undecodable("its header is longer than the file")
        header = json.loads(data[at : at + length])
        at += length
        arrays = []
        for dtype_name, shape in header["arrays"]:
            at += -at % _LINE
            array = _view(data, at, dtype_name, shape)
            arrays.append(array)
            at += array.nbytes
        if at != len(data):
            raise Undecodable("bytes are left over at its end")
        return _unpack(header["tree"], arrays)
    except (ValueError, TypeError, KeyError, IndexError, struct.error, RecursionError, OverflowError) as error:
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"it cannot be read ({type(error).__name__}: {error})") from error


def _dtype_name(dtype: np.dtype) -> Any:
    return dtype.str if dtype.names is None else dtype.descr


def _dtype_of(name: Any) -> np.dtype:
    """What `_dtype_name` named; TypeError or ValueError where it names none, Undecodable where none that is held."""
    dtype = np.dtype([_field(*field) for field in name] if isinstance(name, list) else str(name))
    if not holds(dtype):
        raise Undecodable(f"it holds an array of {name}")
    return dtype


def _field(name: Any, kind: Any, *shape: Any) -> Any:
    return (str(name), kind if isinstance(kind, str) else _dtype_of(kind), *map(tuple, shape))


def holds(dtype: np.dtype) -> bool:
    """Whether arrays of `dtype` can be held."""
    if dtype.hasobject:
        return False
    return dtype.kind in _KINDS or (dtype.names is not None and np.dtype(dtype.descr) == dtype)


def _view(data: bytes, at: int, dtype_name: Any, shape: list[int]) -> np.ndarray:
    dtype = _dtype_of(dtype_name)
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise Undecodable(f"it holds an array of shape {shape}")
    count = math.prod(shape)
    if count * dtype.itemsize > len(data) - at:
        raise Undecodable("it names an array that is longer than the file")
    return np.frombuffer(data, dtype, count, at).reshape(shape).copy()


def _pack(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if value.bit_length() <= _LONGEST_INTEGER else {_TAG: "i", "v": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {_TAG: "f", "v": repr(value)}
    if isinstance(value, np.generic):
        _require_numbers(value.dtype, where)
        return {_TAG: "n", "d": _dtype_name(value.dtype), "v": value.tobytes().hex()}
    if isinstance(value, np.ndarray):
        _require_numbers(value.dtype, where)
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return {_TAG: "a", "i": len(arrays) - 1}
    packer = _PACKERS.get(type(value))
    if packer is None:
        raise NotEncodable(f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which is not kept.")
    return packer(value, arrays, where)


def _require_numbers(dtype: np.dtype, where: str) -> None:
    if not holds(dtype):
        raise NotEncodable(f"{where} is an array of {dtype}, which is not kept.")


def _pack_items(value: Any, arrays: list[np.ndarray], where: str) -> list[Any]:
    return [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]


def _pack_map(value: dict[Any, Any], arrays: list[np.ndarray], where: str) -> dict[str, Any]:
    pairs = [[_pack(k, arrays, where), _pack(v, arrays, f"{where}.{k}")] for k, v in value.items()]
    return {_TAG: "m", "v": pairs}


_PACKERS: dict[type, Callable[[Any, list[np.ndarray], str], Any]] = {
    list: _pack_items,
    tuple: lambda v, arrays, where: {_TAG: "t", "v": _pack_items(v, arrays, where)},
    deque: lambda v, arrays, where: {_TAG: "q", "v": _pack_items(v, arrays, where), "n": v.maxlen},
    dict: _pack_map,
    bytes: lambda v, arrays, where: {_TAG: "b", "v": base64.b64encode(v).decode()},
    complex: lambda v, arrays, where: {_TAG: "c", "v": [repr(v.real), repr(v.imag)]},
    Reference: lambda v, arrays, where: {_TAG: "r", "v": v.place},
}


def _unpack(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    tag: str = value[_TAG]
    held: Any = value.get("v")
    if tag == "a":
        return arrays[value["i"]]
    if tag == "n":
        return np.frombuffer(bytes.fromhex(held), _dtype_of(value["d"]), 1)[0]
    if tag == "m":
        return {_unpack(k, arrays): _unpack(v, arrays) for k, v in held}
    if tag == "t":
        return tuple(_unpack(item, arrays) for item in held)
    if tag == "q":
        return deque((_unpack(item, arrays) for item in held), maxlen=value["n"])
    if tag == "r" and type(held) is int:
        return Reference(held)
    if tag == "f":
        return float(held)
    if tag == "i":
        return int(held, 16)
    if tag == "c":
        return complex(*map(float, held))
    if tag == "b":
        return base64.b64decode(held, validate=True)
    raise Undecodable(f"it holds a value of kind {tag!r}")
