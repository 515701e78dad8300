"""What some algorithms keep beside what all of them have, each part by its name in the exact state.

- `noise`: last values of action noise that remembers them
- `exploration`: weights of state-dependent exploration, drawn every few steps
- `memory`: hidden states of a recurrent policy
- `notes`: of a replay buffer what its rows do not tell: the observation that comes next, where episodes begin and end

A part is there only where the algorithm has it. How a buffer's rows are kept: `kernel.training.replay_store`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch as th

from kernel.training.codec import is_like
from kernel.training.sb3 import noise, replay


class Part(NamedTuple):
    """One part: whether a model has it, copies of it, and how it is put back."""

    of: Callable[[Any], bool]
    take: Callable[[Any], Any]
    put: Callable[[Any, Any], None]


def capture(model: Any) -> dict[str, Any]:
    """Copies of every part that `model` has."""
    return {name: part.take(model) for name, part in PARTS.items() if part.of(model)}


def restore(model: Any, state: Mapping[str, Any]) -> None:
    """Put back what `capture` gave of a model like this one."""
    for name, part in PARTS.items():
        if name in state and part.of(model):
            part.put(model, state[name])


def is_whole(name: str, saved: Any, fresh: Any) -> bool:
    """Whether a saved part has the form of `fresh`, which `capture` gave of this model."""
    if name == "notes":
        return replay.are_notes(saved, fresh)
    if name == "exploration":
        return _is_exploration(saved, fresh)
    return is_like(saved, fresh) and all(
        one.shape == other.shape for one, other in zip(saved, fresh, strict=True) if isinstance(other, np.ndarray)
    )


def _explorer(model: Any) -> Any:
    return getattr(model, "actor", None) or model.policy


def _take_exploration(model: Any) -> list[Any]:
    drawn = _explorer(model).action_dist
    return [held.detach().cpu().numpy().copy() for held in (drawn.exploration_mat, drawn.exploration_matrices)]


def _put_exploration(model: Any, saved: list[Any]) -> None:
    one, each = (th.from_numpy(array.copy()).to(model.device) for array in saved)
    drawn = _explorer(model).action_dist
    drawn.exploration_mat, drawn.exploration_matrices = one, each


def _is_exploration(saved: Any, fresh: list[Any]) -> bool:
    """One matrix, and one an environment: at first there is a single one."""
    if not isinstance(saved, list) or len(saved) != 2 or not all(isinstance(one, np.ndarray) for one in saved):
        return False
    (one, each), (wanted, _) = saved, fresh
    return one.dtype == each.dtype == wanted.dtype and one.shape == wanted.shape == each.shape[1:]


def _take_memory(model: Any) -> list[np.ndarray]:
    return [held.cpu().numpy().copy() for pair in model._last_lstm_states for held in pair]


def _put_memory(model: Any, saved: list[np.ndarray]) -> None:
    hidden = [th.from_numpy(array.copy()).to(model.device) for array in saved]
    model._last_lstm_states = type(model._last_lstm_states)((hidden[0], hidden[1]), (hidden[2], hidden[3]))


PARTS: dict[str, Part] = {
    "noise": Part(
        lambda model: bool(noise.memory_of(getattr(model, "action_noise", None))),
        lambda model: noise.memory_of(model.action_noise),
        lambda model, saved: noise.remember(model.action_noise, saved),
    ),
    "exploration": Part(lambda model: getattr(model, "use_sde", False), _take_exploration, _put_exploration),
    "memory": Part(lambda model: getattr(model, "_last_lstm_states", None) is not None, _take_memory, _put_memory),
    "notes": Part(replay.has_notes, replay.take_notes, replay.put_notes),
}
