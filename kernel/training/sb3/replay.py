"""Rows of stable-baselines3's replay buffer, out of its ring and back; `kernel.training.replay_store` keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

ROWS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
Arrays = dict[str, np.ndarray]


def has_replay(model: Any) -> bool:
    """Whether `model` learns from a replay buffer."""
    return isinstance(model, OffPolicyAlgorithm)


def rows_done(model: Any) -> int:
    """Rows that were put into the buffer since the run began: one a vector step."""
    return int(model.num_timesteps) // int(model.n_envs)


def copy_rows(model: Any, first: int, last: int) -> Arrays:
    """Copies of rows [first, last); all of them must still be in the ring."""
    buffer = model.replay_buffer
    parts = _places(first, last, buffer.buffer_size)
    columns = _columns(buffer)
    return {name: np.concatenate([values[begin:end] for begin, end in parts]) for name, values in columns.items()}


def put_rows(model: Any, first: int, rows: Arrays, num_rows: int) -> None:
    """Put `rows`, which begin at `first`, where they were in the ring when `num_rows` had been put into it."""
    buffer = model.replay_buffer
    columns = _columns(buffer)
    begin = max(first, num_rows - buffer.buffer_size)
    for name, values in rows.items():
        at = begin - first
        for place, end in _places(begin, first + len(values), buffer.buffer_size):
            columns[name][place:end] = values[at : at + end - place]
            at += end - place
    buffer.pos, buffer.full = num_rows % buffer.buffer_size, num_rows >= buffer.buffer_size


def _places(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """Where rows [first, last) lie in a ring of `size`: one slice, two where they go over its end."""
    if last <= first:
        return [(0, 0)]
    begin, end = first % size, (last - 1) % size + 1
    return [(begin, end)] if begin < end else [(begin, size), (0, end)]


def _columns(buffer: Any) -> Arrays:
    columns: Arrays = {}
    for name in ROWS:
        held = getattr(buffer, name)
        columns.update({f"{name}/{key}": v for key, v in held.items()} if isinstance(held, dict) else {name: held})
    return columns
