"""Rows of stable-baselines3's replay buffer, out of its ring and back; `kernel.training.segment_store` keeps them."""

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
    index = np.arange(first, last) % buffer.buffer_size
    return {name: values[index] for name, values in _columns(buffer).items()}


def put_rows(model: Any, first: int, rows: Arrays, num_rows: int) -> None:
    """Fill the ring with `rows`, which begin at `first`, as it was when `num_rows` had been put into it."""
    buffer = model.replay_buffer
    columns = _columns(buffer)
    begin = max(first, num_rows - buffer.buffer_size)
    index = np.arange(begin, num_rows) % buffer.buffer_size
    for name, values in rows.items():
        columns[name][index] = values[begin - first : num_rows - first]
    buffer.pos, buffer.full = num_rows % buffer.buffer_size, num_rows >= buffer.buffer_size


def _columns(buffer: Any) -> Arrays:
    columns: Arrays = {}
    for name in ROWS:
        held = getattr(buffer, name)
        columns.update({f"{name}/{key}": v for key, v in held.items()} if isinstance(held, dict) else {name: held})
    return columns
