"""The optimizers of an algorithm, by the names under which its library saves them."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.save_util import recursive_getattr


def optimizers_of(model: Any) -> dict[str, th.optim.Optimizer]:
    """Every optimizer of `model`."""
    found = {name: recursive_getattr(model, name) for name in model._get_torch_save_params()[0]}
    return {name: held for name, held in found.items() if isinstance(held, th.optim.Optimizer)}
