"""What a recipe names, as `module:name` or with dots: classes and functions of the user's files and of libraries."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from kernel.contract.hyperparameters import CLASSES, SCHEDULED, HyperparametersRefused
from kernel.contract.names import NAMED

_KINDS: Mapping[str, type] = dict(zip(CLASSES, (th.nn.Module, BaseFeaturesExtractor, th.optim.Optimizer), strict=True))
"""What a class must be to stand under a key of `policy_kwargs`."""


def resolved(given: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters with what they name in the place of its name.

    Raises
    ------
    HyperparametersRefused
        There is no such module, nothing of that name in it, or it is of another kind; the message begins with the key.
    """
    found = dict(given)
    policy = found.get("policy")
    if isinstance(policy, str) and NAMED.fullmatch(policy):
        found["policy"] = _class("policy", policy, BasePolicy)
    networks = found.get("policy_kwargs")
    if networks:
        named = {
            key: _class(f"policy_kwargs.{key}", networks[key], kind) for key, kind in _KINDS.items() if key in networks
        }
        found["policy_kwargs"] = {**networks, **named}
    for key in SCHEDULED:
        if isinstance(found.get(key), str) and NAMED.fullmatch(found[key]):
            found[key] = _schedule(key, found[key])
    return found


def _class(key: str, text: str, kind: type) -> type:
    found = lookup(key, text)
    if not isinstance(found, type) or not issubclass(found, kind):
        raise HyperparametersRefused(f"{key} must be a {kind.__module__}.{kind.__qualname__}; {text} is {found!r}.")
    return found


def _schedule(key: str, text: str) -> Callable[[float], float]:
    function: Callable[[float], float] = lookup(key, text)
    try:
        float(function(1.0))
    except (TypeError, ValueError) as error:
        told = f"{text}(1.0) must give a number: what {key} is while all of the run remains"
        raise HyperparametersRefused(f"{told}. It raised {type(error).__name__}: {error}.") from error
    return function


def lookup(key: str, text: str) -> Any:
    """What `text` names; `key` is what it was given for."""
    module_name, _, path = text.partition(":") if ":" in text else text.rpartition(".")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks something itself
        raise HyperparametersRefused(f"{key}: there is no module {error.name!r} for {text!r}.") from error
    for name in path.split("."):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, dir(found), n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise HyperparametersRefused(f"{key}: {module_name} has no {path!r}.{meant}")
        found = getattr(found, name)
    return found
