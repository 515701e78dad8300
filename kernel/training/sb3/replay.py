"""Rows of stable-baselines3's replay buffer, out of its ring and back; `kernel.training.replay_store` keeps them.

What rows do not tell are its notes. A buffer that saves memory has each next observation in the row after: the newest
one is in no row yet. One with hindsight writes down where an episode began and, in all of its rows once it is over, how
long it was: `[values, counts]` of what is alike, environment by environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from kernel.training.codec import is_like

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
        if name == "next_observations" and buffer.optimize_memory_usage:
            continue
        held = getattr(buffer, name)
        columns.update({f"{name}/{key}": v for key, v in held.items()} if isinstance(held, dict) else {name: held})
    return columns


_EPISODES = ("ep_start", "ep_length")


def has_notes(model: Any) -> bool:
    """Whether its buffer holds something that its rows do not tell."""
    buffer = getattr(model, "replay_buffer", None)
    return buffer is not None and (buffer.optimize_memory_usage or isinstance(buffer, HerReplayBuffer))


def take_notes(model: Any) -> dict[str, Any]:
    """Copies of them."""
    buffer = model.replay_buffer
    notes: dict[str, Any] = {}
    if buffer.optimize_memory_usage:
        notes["next"] = buffer.observations[buffer.pos].copy()
    if isinstance(buffer, HerReplayBuffer):
        notes["begins"] = buffer._current_ep_start.copy()
        notes.update({name: _runs(getattr(buffer, name)) for name in _EPISODES})
    return notes


def put_notes(model: Any, notes: dict[str, Any]) -> None:
    """Put back what `take_notes` gave; the rows lie in the buffer already."""
    buffer = model.replay_buffer
    if "next" in notes:
        buffer.observations[buffer.pos] = notes["next"]
    if "begins" in notes:
        buffer._current_ep_start[:] = notes["begins"]
        for name in _EPISODES:
            values, counts = notes[name]
            getattr(buffer, name)[:] = np.repeat(values, counts).reshape(buffer.n_envs, -1).T


def are_notes(saved: Any, fresh: dict[str, Any]) -> bool:
    """Whether `saved` could be put back into the buffer that `fresh` was taken of."""
    if not isinstance(saved, dict) or set(saved) != set(fresh):
        return False
    for name, sample in fresh.items():
        held = saved[name]
        if name not in _EPISODES:
            if not (isinstance(held, np.ndarray) and held.dtype == sample.dtype and held.shape == sample.shape):
                return False
            continue
        if not is_like(held, [np.zeros(0, np.int64)] * 2) or len(held[0]) != len(held[1]):
            return False
        size = int(sample[1].sum())
        if (held[1] < 0).any() or held[1].sum() != size or ((held[0] < 0) | (held[0] > size)).any():
            return False
    return True


def _runs(numbers: np.ndarray) -> list[np.ndarray]:
    """`numbers`, of shape (rows, environments), as values and how often each follows itself."""
    flat = numbers.T.reshape(-1)
    begins = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return [flat[begins], np.diff(begins, append=len(flat))]
