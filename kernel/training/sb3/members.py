"""The members that make a checkpoint readable by plain stable-baselines3; nothing of ours reads them back."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import stable_baselines3
import torch as th
from stable_baselines3.common.save_util import data_to_json

from kernel.training.sb3.exact_state import ARRAYS, EPISODES, SCALARS, to_tensors

_OURS = ("at_consistent_point", "collected_steps", "collected_episodes", "resumes_inside_rollout", "_updating")


def constant_data(model: Any) -> dict[str, Any]:
    """Attributes of `model` that never change in a run, as member `data` has them; made once, for it is slow."""
    torch_names = {name.partition(".")[0] for names in model._get_torch_save_params() for name in names}
    left_out = {*model._excluded_save_params(), *torch_names, *ARRAYS, *EPISODES, *_OURS, "_episodes_before_rollout"}
    return json.loads(data_to_json({k: v for k, v in vars(model).items() if k not in left_out}))


def members(constant: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, bytes]:
    """Members `data` and the tensors, from a captured state."""
    data = {**constant, **{name: state["scalars"][name] for name in SCALARS if name in state["scalars"]}}
    # Observations and episode records are not needed to load; None is what a model begins with.
    data.update(dict.fromkeys((*ARRAYS, *EPISODES)))
    return {
        "data": json.dumps(data).encode(),
        "policy.pth": _saved(to_tensors(state["policy"])),
        **{f"{name}.pth": _saved(to_tensors(held)) for name, held in _optimizers(state).items()},
        **({"pytorch_variables.pth": _saved(to_tensors(state["variables"]))} if "variables" in state else {}),
        "_stable_baselines3_version": stable_baselines3.__version__.encode(),
    }


def _optimizers(state: Mapping[str, Any]) -> dict[str, Any]:
    own = {"policy.optimizer": state["optimizer"]} if "optimizer" in state else {}
    return {**own, **state.get("optimizers", {})}


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    th.save(value, file)
    return file.getvalue()
