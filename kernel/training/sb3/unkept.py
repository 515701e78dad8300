"""What networks and optimizers of the user's own classes hold beside what torch saves of them: no checkpoint has it.

A count of calls, a mean in numpy, the slow weights of an optimizer that looks ahead. Where one of them changes while a
stretch is executed again, that the same states came of it proves nothing for a resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

from kernel.training.sb3.optimizers import optimizers_of

_LIBRARIES = ("torch", "stable_baselines3", "sb3_contrib")
_OF_MODULES = frozenset(vars(th.nn.Module()))
_OF_OPTIMIZERS = frozenset(vars(th.optim.SGD([th.nn.Parameter(th.zeros(1))], lr=1.0)))
_DEPTH = 6


def unkept(model: Any) -> dict[str, str]:
    """sha256 of each such attribute of the algorithm `model`, by the words that lead there, with dots between."""
    modules = {f"policy.{name}".rstrip("."): module for name, module in model.policy.named_modules()}
    found: dict[str, str] = {}
    for path, owner in {**modules, **optimizers_of(model)}.items():
        if type(owner).__module__.partition(".")[0] in _LIBRARIES:
            continue
        known = _OF_OPTIMIZERS if isinstance(owner, th.optim.Optimizer) else _OF_MODULES
        for name, value in vars(owner).items():
            if name not in known and not isinstance(value, (th.nn.Module, th.nn.Parameter, th.optim.Optimizer)):
                digest = hashlib.sha256()
                _add(value, digest, _DEPTH)
                found[f"{path}.{name}"] = digest.hexdigest()
    return found


def _add(value: Any, digest: Any, depth: int) -> None:
    digest.update(f"{type(value).__qualname__} ".encode())
    if isinstance(value, th.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (int, float, complex, str, bytes, type(None), np.generic)):
        digest.update(repr(value).encode())
    elif isinstance(value, np.random.Generator):
        digest.update(repr(value.bit_generator.state).encode())
    elif depth and isinstance(value, Mapping):
        for key, held in value.items():
            _add(key, digest, depth - 1)
            _add(held, digest, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for held in value:
            _add(held, digest, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, (type, th.nn.Module)):
        _add(vars(value), digest, depth - 1)
