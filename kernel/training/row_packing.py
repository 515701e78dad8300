"""Rows of a replay buffer as the bytes of one chunk and back: what repeats is held once, exactly.

    magic · how (one byte) · length of the tree's bytes · the tree (kernel.training.codec), deflated where that pays

Most of a buffer is there more than once. A column `next_X` is what `X` is in the row after, but at an episode's end. A
stack of frames has all but its newest one in the row before. Both are found by comparing bytes, row by row and
environment by environment, so that what comes out is what went in, NaN and minus zero included.

Columns have rows on their first axis and environments on their second.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from kernel.training import codec

Arrays = dict[str, np.ndarray]
MAGIC = b"KAGLCH1\n"
_PLAIN, _DEFLATED = b"\0", b"\1"
_HEAD = struct.Struct("<8scQ")
_SAMPLE_BYTES, _SAMPLES = 16_384, 3
_PAYS = 0.8
"""A chunk is deflated where a sample of it comes to less than this part of itself."""
_SLACK_BYTES = 65_536
"""What a tree takes beside its arrays, at most."""
_STACK_AXES = (2, -1)
_FRAME_CHANNELS = (1, 3)
"""Channels of one frame in a stack: grey or coloured."""


def pack(rows: Arrays) -> bytes:
    """The bytes of a chunk of these rows; the same rows give the same bytes under one version of zlib."""
    tree = {"columns": {name: _held(name, values, rows) for name, values in rows.items()}}
    data = codec.encode(tree)
    if _deflating_pays(data):
        return _HEAD.pack(MAGIC, _DEFLATED, len(data)) + zlib.compress(data, 1)
    return _HEAD.pack(MAGIC, _PLAIN, len(data)) + data


def unpack(data: bytes, like: Arrays, count: int) -> Arrays:
    """The `count` rows that `pack` made `data` from, of the columns and kinds of `like`.

    Raises
    ------
    codec.Undecodable
        Anything else; no more memory is taken on the way than so many rows of that kind need.
    """
    most = largest(like, count)
    try:
        magic, how, length = _HEAD.unpack_from(data)
        if magic != MAGIC or length > most:
            raise codec.Undecodable("it is no chunk of so many rows")
        rest = data[_HEAD.size :]
        if how == _DEFLATED:
            inflater = zlib.decompressobj()
            rest = inflater.decompress(rest, length + 1)
            if not inflater.eof or inflater.unused_data:
                raise codec.Undecodable("what was deflated is not whole")
        if len(rest) != length or how not in (_PLAIN, _DEFLATED):
            raise codec.Undecodable("it has not the length that it names")
        columns = codec.decode(rest)["columns"]
        if set(columns) != set(like):
            raise codec.Undecodable(f"it has other columns than {', '.join(sorted(like))}")
        rows: Arrays = {}
        for name in sorted(like, key=_is_next):  # what the others repeat comes first
            rows[name] = _unheld(name, columns[name], rows, like[name], count)
        return rows
    except (zlib.error, struct.error, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, codec.Undecodable):
            raise
        raise codec.Undecodable(f"it cannot be read ({type(error).__name__}: {error})") from error


def row_bytes(like: Arrays) -> int:
    """Bytes of one row."""
    return sum(values.dtype.itemsize * int(np.prod(values.shape[1:])) for values in like.values())


def largest(like: Arrays, count: int) -> int:
    """The most bytes that `count` rows can be packed into."""
    columns = sum(row_bytes({name: values}) * count + count * _envs(values) for name, values in like.items())
    return columns + _SLACK_BYTES


def _held(name: str, values: np.ndarray, rows: Arrays) -> Any:
    repeated = _repeated(name)
    if repeated in rows and rows[repeated].dtype == values.dtype and rows[repeated].shape == values.shape:
        same = _equal(values[:-1], rows[repeated][1:])
        others = np.concatenate([values[:-1][~same], values[-1]])
        return {"as": "next", "same": same, "others": others}
    for axis in _STACK_AXES:
        for channels in _FRAME_CHANNELS:
            if (found := _stacked(values, axis, channels)) is not None:
                return found
    return values


def _unheld(name: str, held: Any, rows: Arrays, like: np.ndarray, count: int) -> np.ndarray:
    shape = (count, *like.shape[1:])
    if isinstance(held, np.ndarray):
        if held.shape != shape or held.dtype != like.dtype:
            raise codec.Undecodable(f"its column {name} is not of the buffer's kind")
        return held
    same = held["same"]
    if same.dtype != np.bool_ or same.shape != (count - 1, _envs(like)):
        raise codec.Undecodable(f"its column {name} does not say which rows repeat")
    values = np.empty(shape, like.dtype)
    if held["as"] == "next":
        _require(held["others"], (int((~same).sum()) + _envs(like), *shape[2:]), like)
        values[:-1][same] = rows[_repeated(name)][1:][same]
        values[:-1][~same] = held["others"][: -_envs(like)]
        values[-1] = held["others"][-_envs(like) :]
        return values
    if held["as"] != "stack" or held["axis"] not in _STACK_AXES or held["channels"] not in _FRAME_CHANNELS:
        raise codec.Undecodable(f"its column {name} repeats in a way that is not known")
    channels = held["channels"]
    frames = np.moveaxis(values, held["axis"], 2)
    whole, newest = held["whole"], held["newest"]
    _require(whole, (int((~same).sum()) + _envs(like), *frames.shape[2:]), like)
    _require(newest, (int(same.sum()), channels, *frames.shape[3:]), like)
    frames[0] = whole[: _envs(like)]
    frames[1:][~same] = whole[_envs(like) :]
    frames[1:, :, -channels:][same] = newest
    for row in range(1, count):
        repeats = same[row - 1]
        frames[row, repeats, :-channels] = frames[row - 1, repeats, channels:]
    return values


def _stacked(values: np.ndarray, axis: int, channels: int) -> dict[str, Any] | None:
    """`values` as a stack of frames, if most rows begin with what the row before ends with."""
    if values.ndim < 5 or values.shape[axis] <= channels or values.shape[axis] % channels or len(values) < 2:
        return None
    frames = np.moveaxis(values, axis, 2)
    if not _equal(frames[1:9, :, :-channels], frames[:-1][:8, :, channels:]).any():
        return None
    same = _equal(frames[1:, :, :-channels], frames[:-1, :, channels:])
    return {
        "as": "stack",
        "axis": axis,
        "channels": channels,
        "same": same,
        "whole": np.concatenate([frames[0], frames[1:][~same]]),
        "newest": frames[1:, :, -channels:][same],
    }


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether they have the same bytes, for each row and environment."""
    shape = one.shape[:2]
    if not one.size:
        return np.ones(shape, np.bool_)
    as_bytes = [np.ascontiguousarray(part).reshape(*shape, -1).view(np.uint8) for part in (one, other)]
    return np.asarray((as_bytes[0] == as_bytes[1]).all(axis=2))


def _require(held: Any, shape: tuple[int, ...], like: np.ndarray) -> None:
    if not isinstance(held, np.ndarray) or held.shape != shape or held.dtype != like.dtype:
        raise codec.Undecodable("what it holds of a column is not of the buffer's kind")


def _is_next(name: str) -> bool:
    return name.startswith("next_")


def _repeated(name: str) -> str:
    return name.removeprefix("next_") if _is_next(name) else ""


def _envs(values: np.ndarray) -> int:
    return int(values.shape[1])


def _deflating_pays(data: bytes) -> bool:
    """Tried on a few pieces: deflating all of what does not shrink costs more than writing it."""
    places = [(len(data) - _SAMPLE_BYTES) * k // max(1, _SAMPLES - 1) for k in range(_SAMPLES)]
    sample = b"".join(data[max(0, place) : max(0, place) + _SAMPLE_BYTES] for place in dict.fromkeys(places))
    return len(zlib.compress(sample, 1)) < _PAYS * len(sample)
