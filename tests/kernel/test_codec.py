"""The codec gives back what it took, and takes no harm from damage."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.training import codec

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)


TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=4),
        st.lists(inner, max_size=4).map(lambda items: deque(items, 9)),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_codec_gives_back_what_it_took(tree: Any) -> None:
    again = codec.decode(codec.encode(tree))
    assert repr(again) == repr(tree)
    assert codec.encode(again) == codec.encode(tree)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3)])
def test_codec_gives_back_arrays_bit_for_bit(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    again = codec.decode(codec.encode({"a": array, "n": np.float32(0.1), "nan": float("nan")}))
    assert again["a"].dtype == array.dtype
    assert again["a"].shape == array.shape
    assert again["a"].tobytes() == array.tobytes()
    assert again["n"] == np.float32(0.1)
    assert math.isnan(again["nan"])


def test_codec_refuses_objects_and_says_where_they_lie() -> None:
    with pytest.raises(codec.NotEncodable, match=r"state\.env\[1\]"):
        codec.encode({"env": [1, object()]})
    with pytest.raises(codec.NotEncodable):
        codec.encode(np.array([object()]))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_codec_survives_any_damage_without_allocating_more_than_it_was_given(data: Any) -> None:
    whole = codec.encode({"a": np.arange(20.0), "b": [1, (2, 3)], "c": {"x": 1}})
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        tree = codec.decode(bytes(damaged))
    except codec.Undecodable:
        return
    assert len(codec.encode(tree)) < 3 * len(whole)


def test_absurd_sizes_in_a_state_are_refused() -> None:
    for shape in ([2**60], [2**31, 2**31], [-1], [1.5]):
        header = json.dumps({"arrays": [["<f8", shape]], "tree": {"$": "a", "i": 0}}).encode()
        data = codec.MAGIC + len(header).to_bytes(8, "little") + header
        with pytest.raises(codec.Undecodable):
            codec.decode(data)
    with pytest.raises(codec.Undecodable):
        codec.decode(codec.MAGIC + (2**62).to_bytes(8, "little") + b"{}")
    nested = b"[" * 100_000 + b"]" * 100_000
    header = b'{"arrays":[],"tree":' + nested + b"}"
    with pytest.raises(codec.Undecodable):
        codec.decode(codec.MAGIC + len(header).to_bytes(8, "little") + header)
