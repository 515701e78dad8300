"""The environments that a run trains on, made from its configuration."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from kernel import isolation
from kernel.contract.config import RunConfig
from kernel.contract.names import TRAFFIC
from kernel.training import codec


class UnknownEnvironment(ValueError):
    """Raised where `RunConfig.env` names nothing."""


class Episodes(gymnasium.Wrapper):
    """Return and length of each episode in its last `info`, with no wall-clock time among them."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.episode_return = 0.0
        self.episode_length = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.episode_return, self.episode_length = 0.0, 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.episode_return += float(reward)
        self.episode_length += 1
        if terminated or truncated:
            info["episode"] = {"r": self.episode_return, "l": self.episode_length}
        return obs, reward, terminated, truncated, info


def make_environment(run: RunConfig, device: str) -> gymnasium.Env:
    """One environment of `run`, with what the exact resume needs around it."""
    kwargs = dict(copy.deepcopy(run.env_kwargs))  # the factory's own, whatever it does to them
    if run.env.startswith("arz_model:"):
        kwargs.setdefault("device", device)
    env = _factory(run.env)(**kwargs)
    if not isinstance(env, gymnasium.Env):
        raise UnknownEnvironment(
            f"env is {run.env!r}, and what it returned is {type(env).__qualname__}, no gymnasium environment."
        )
    return Episodes(env)


def make_environments(run: RunConfig, device: str) -> VecEnv:
    """All environments of `run`, stepped together in this process; traffic in one kernel call."""
    venv: VecEnv
    if is_batched(run) and run.n_envs > 1:
        from arz_model.control.sb3 import TrafficSignalVecEnv  # compiles: only for who asks for traffic

        venv = TrafficSignalVecEnv(run.n_envs, **{"device": device, **copy.deepcopy(run.env_kwargs)})
    else:
        venv = DummyVecEnv([lambda: make_environment(run, device)] * run.n_envs)
    if run.normalize:
        gamma = float(run.hyperparameters.get("gamma", 0.99))
        venv = VecNormalize(venv, norm_obs=False, norm_reward=True, gamma=gamma)
    return venv


def is_batched(run: RunConfig) -> bool:
    """Whether many environments of `run` cost little more than one."""
    return run.env == TRAFFIC


def _factory(name: str) -> Callable[..., gymnasium.Env]:
    module_name, _, attribute = name.partition(":")
    if attribute and "-v" not in attribute:
        factory = getattr(_imported(module_name), attribute, None)
        if factory is None:
            raise UnknownEnvironment(f"env is {name!r}, but module {module_name} has no {attribute!r}.")
        return factory
    if attribute:
        _imported(module_name)
    try:
        gymnasium.spec(attribute or name)
    except gymnasium.error.Error as error:
        raise UnknownEnvironment(f"env is {name!r}, which gymnasium does not know: {error}") from error
    return lambda **kwargs: gymnasium.make(name, **kwargs)


def _imported(module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UnknownEnvironment(f"env is in module {module_name!r}, which cannot be found.") from error


def canary(run: RunConfig, device: str) -> str | None:
    """sha256 of three intervals of traffic: compiled code that rounds otherwise gives another. None for other runs."""
    if run.env != TRAFFIC:
        return None
    env = make_environment(run, device).unwrapped
    env.reset(seed=20_251_021)
    for phase in (0, 1, 1):
        env.step(np.full(env.action_space.shape, phase))
    return hashlib.sha256(codec.encode(env.state_dict())).hexdigest()  # type: ignore[attr-defined]


def source_modules(run: RunConfig) -> list[str]:
    """Top-level modules that the environment of `run` comes from, and what else the researcher packed."""
    module_name = run.env.partition(":")[0] if ":" in run.env else ""
    bundle = os.environ.get("KAGLAUNCH_BUNDLE")
    packed = isolation.project_modules(bundle) if bundle else []
    return sorted({*packed, *([module_name.partition(".")[0]] if module_name else [])})


def base_of(venv: VecEnv) -> VecEnv:
    """The vectorised environment under all wrappers: a DummyVecEnv, or one that has `state_dict` itself."""
    while hasattr(venv, "venv"):
        venv = venv.venv
    return venv


def reward_source(venv: VecEnv) -> str:
    """What the environment says its reward is: its `reward_specification`, or nothing."""
    base = base_of(venv)
    owner = base.envs[0].unwrapped if isinstance(base, DummyVecEnv) else base
    specification = getattr(owner, "reward_specification", "")
    return str(specification() if inspect.isroutine(specification) else specification)
