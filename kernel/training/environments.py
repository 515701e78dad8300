"""The environments that a run trains on, and their whole state as a tree that `kernel.training.codec` holds.

Three ways to a state, the first that the environment allows:

contract
    `env.unwrapped.state_dict()` and `load_state_dict(d)`: the environment says itself what its state is.
attributes
    Every attribute of the environment is a number, a string, an array, a generator, gymnasium's running mean and
    variance, or a container of these.
actions
    The generator's state before the last reset and the actions since: the environment is reset and stepped again.
    True of environments whose reset depends on nothing but their own generator.

Where none works the state says why, and a resume from it begins new episodes.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import os
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from kernel import isolation
from kernel.contract.config import RunConfig
from kernel.contract.manifest import CheckpointInvalid
from kernel.contract.names import TRAFFIC
from kernel.training import codec

MAX_REPLAYED_ACTIONS = 100_000
_GENERATOR = "$generator"
_RUNNING = "$running mean and variance"
_CONSTANT = (FunctionType, MethodType, ModuleType, type, spaces.Space)
_NOT_STATE = frozenset(("env", "spec", "_cached_spec", "metadata", "_metadata", "_reward_range", "render_mode"))
_NOT_STATE |= {"action_space", "observation_space", "_action_space", "_observation_space"}
_NOT_STATE |= {"screen", "clock", "surf", "viewer"}  # what gymnasium's own environments draw with


class NotRestorable(ValueError):
    """Raised where an environment's state cannot be taken or put back; the message names the attribute."""


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


class ActionLog(gymnasium.Wrapper):
    """Remembers what leads from the last reset to here, for environments whose state cannot be read."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.needed = True
        self.before_reset: Any = None
        self.reset_arguments: dict[str, Any] = {}
        self.actions: list[Any] = []
        self.obs: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if self.needed:
            self.before_reset = _generators(self.env)
            self.reset_arguments, self.actions = dict(kwargs), []
        self.obs, info = self.env.reset(**kwargs)
        return self.obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.needed and len(self.actions) <= MAX_REPLAYED_ACTIONS:
            self.actions.append(np.array(action))
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        return self.obs, reward, terminated, truncated, info

    def record(self) -> dict[str, Any]:
        """What `play` needs."""
        if len(self.actions) > MAX_REPLAYED_ACTIONS:
            raise NotRestorable(
                f"{type(self.env.unwrapped).__qualname__} gives no state and its episode has more than "
                f"{MAX_REPLAYED_ACTIONS:,} steps. Give it state_dict() and load_state_dict()."
            )
        actions = np.stack(self.actions) if self.actions else np.zeros(0)
        return {"before": self.before_reset, "reset": self.reset_arguments, "actions": actions, "obs": self.obs}

    def play(self, record: dict[str, Any]) -> None:
        """Reset and step the environment as `record` says; it must end at the same observation."""
        _restore_generators(self.env, record["before"])
        self.reset(**record["reset"])
        self.before_reset = record["before"]
        for action in record["actions"]:
            self.step(action if action.shape else action[()])
        if codec.encode(self.obs) != codec.encode(record["obs"]):
            raise NotRestorable(
                f"{type(self.env.unwrapped).__qualname__} gives no state, and repeating its "
                f"{len(record['actions']):,} actions led elsewhere. Give it state_dict() and load_state_dict()."
            )


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
    if not hasattr(env.unwrapped, "state_dict"):
        env = ActionLog(env)
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


def capture(venv: VecEnv) -> dict[str, Any]:
    """The state of all environments of `venv`, and of its reward normalisation; copies throughout.

    Where there is no way to the state of one, `lost` says why, and of all of them nothing is kept.
    """
    base = base_of(venv)
    state: dict[str, Any] = {"envs": [], "batch": None, "normalize": None}
    try:
        if isinstance(base, DummyVecEnv):
            state["envs"] = [_capture_env(env) for env in base.envs]
        else:
            state["batch"] = {"state": _told_by(base), "spaces": _spaces_of(base)}
    except NotRestorable as error:
        state |= {"envs": [], "batch": None, "lost": str(error)}
    if isinstance(venv, VecNormalize):
        rms = venv.ret_rms
        state["normalize"] = {
            "mean": np.array(rms.mean),
            "var": np.array(rms.var),
            "count": float(rms.count),
            "returns": venv.returns.copy(),
        }
    return state


def restore(venv: VecEnv, state: dict[str, Any]) -> None:
    """Put back what `capture` took, into environments that `make_environments` made of the same run.

    Raises
    ------
    NotRestorable
        It was lost when it was taken, or the environments do not take it.
    """
    base = base_of(venv)
    if lost := state.get("lost"):
        raise NotRestorable(lost)
    try:
        if isinstance(base, DummyVecEnv):
            for env, saved in zip(base.envs, state["envs"], strict=True):
                _restore_env(env, saved)
        else:
            base.load_state_dict(state["batch"]["state"])  # type: ignore[attr-defined]
            _set_space_state(base.action_space, state["batch"]["spaces"][0])
            _set_space_state(base.observation_space, state["batch"]["spaces"][1])
    except NotRestorable:
        raise
    except Exception as error:  # whatever the researcher's code raises of a state that it does not take
        raise NotRestorable(f"its environments could not be put back ({type(error).__name__}: {error}).") from error
    restore_normalisation(venv, state)
    # Seeds and options count for the first reset of a run only.
    base._reset_seeds()
    base._reset_options()


def require_whole(venv: VecEnv, state: Any) -> None:
    """Look whether `state` has what `restore` reads, of as many environments as `venv` has.

    Raises
    ------
    CheckpointInvalid
        `capture` never made it.
    """
    batched = not isinstance(base_of(venv), DummyVecEnv)
    sample: dict[str, Any] = {"envs": list, "batch": dict if batched else type(None), "normalize": type(None)}
    if isinstance(venv, VecNormalize):
        sample["normalize"] = {
            "mean": venv.ret_rms.mean,
            "var": venv.ret_rms.var,
            "count": 0.0,
            "returns": venv.returns,
        }
    if isinstance(state, dict) and "lost" in state:
        sample |= {"batch": type(None), "lost": str}
    _require(codec.is_like(state, sample), "")
    if "lost" in state:
        return
    _require(len(state["envs"]) == (0 if batched else venv.num_envs), "one too many or too few")
    for saved in [state["batch"]] if batched else state["envs"]:
        layers = {"state": dict} if batched else {"layers": list}
        _require(codec.is_like(saved, {**layers, "spaces": [list, list]}), "")
        for layer in saved.get("layers", []):
            _require(isinstance(layer, dict) and str(layer.get("how")) in _HOW, "")
            _require(codec.is_like(layer, {"how": str, **_HOW[layer["how"]]}), f"layer of kind {layer['how']}")
            if layer["how"] == "attributes":
                for name in layer["state"]:
                    _require(_is_attribute(name), f"attribute {name!r}")


_HOW: dict[str, dict[str, Any]] = {
    "attributes": {"state": dict},
    "contract": {"state": object, "np_random": object},
    "actions": {"state": dict},
}


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise CheckpointInvalid(f"the state of its environments is none{what and f' ({what})'}")


def _is_attribute(name: Any) -> bool:
    """Whether `capture` could have found it: nothing that Python or gymnasium uses itself."""
    return isinstance(name, str) and not (name.startswith("__") and name.endswith("__")) and name not in _NOT_STATE


def restore_normalisation(venv: VecEnv, state: dict[str, Any]) -> None:
    """Put back what rewards are divided by."""
    if isinstance(venv, VecNormalize):
        saved = state["normalize"]
        venv.ret_rms.mean, venv.ret_rms.var = saved["mean"].copy(), saved["var"].copy()
        venv.ret_rms.count = saved["count"]
        venv.returns = saved["returns"].copy()


def base_of(venv: VecEnv) -> VecEnv:
    """The vectorised environment under all wrappers: a DummyVecEnv, or one that has `state_dict` itself."""
    while hasattr(venv, "venv"):
        venv = venv.venv
    return venv


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    while True:
        yield env
        if not isinstance(env, gymnasium.Wrapper):
            return
        env = env.env


def _capture_env(env: gymnasium.Env) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for layer in _layers(env):
        if isinstance(layer, ActionLog):
            inner = _attributes_of_all(layer.env) if layer.needed else None
            if layer.needed and inner is None:
                layers.append({"how": "actions", "state": codec.copied(layer.record())})
                break
            layer.needed, layer.actions = False, []
            layers.append({"how": "attributes", "state": {}})
        elif hasattr(layer, "state_dict") and not isinstance(layer, gymnasium.Wrapper):
            layers.append({"how": "contract", "state": _told_by(layer), "np_random": _generator_of(layer)})
        else:
            layers.append({"how": "attributes", "state": _attributes(layer)})
    return {"layers": layers, "spaces": _spaces_of(env)}


def _restore_env(env: gymnasium.Env, saved: dict[str, Any]) -> None:
    for layer, kept in zip(_layers(env), saved["layers"], strict=saved["layers"][-1]["how"] != "actions"):
        if kept["how"] == "actions":
            if not isinstance(layer, ActionLog):
                raise NotRestorable(f"{type(layer.unwrapped).__qualname__} gives its state by another way.")
            layer.play(kept["state"])
        elif kept["how"] == "contract":
            layer.unwrapped.load_state_dict(kept["state"])  # type: ignore[attr-defined]
            _set_generator(layer, kept["np_random"])
        elif isinstance(layer, ActionLog):
            layer.needed = False
        else:
            _set_attributes(layer, kept["state"])
    _set_space_state(env.action_space, saved["spaces"][0])
    _set_space_state(env.observation_space, saved["spaces"][1])


def _told_by(owner: Any) -> Any:
    """What its `state_dict` gives."""
    try:
        return codec.copied(owner.state_dict())
    except Exception as error:  # whatever the researcher's code raises, and what no checkpoint can hold
        name = type(owner).__qualname__
        raise NotRestorable(f"{name} has a state_dict() that fails ({type(error).__name__}: {error}).") from error


def _attributes_of_all(env: gymnasium.Env) -> list[dict[str, Any]] | None:
    try:
        return [_attributes(layer) for layer in _layers(env)]
    except NotRestorable:
        return None


def _attributes(layer: gymnasium.Env) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if name in _NOT_STATE or isinstance(value, _CONSTANT):
            continue
        held[name] = _packed(value)
    try:
        return codec.copied(held)
    except codec.NotEncodable as error:
        raise NotRestorable(f"{type(layer).__qualname__}: {error}") from error


def _set_attributes(layer: gymnasium.Env, saved: dict[str, Any]) -> None:
    for name, value in saved.items():
        if isinstance(getattr(type(layer), name, None), FunctionType):
            raise NotRestorable(f"{type(layer).__qualname__}.{name} is a method, and an attribute in the checkpoint.")
        found = vars(layer).get(name)
        if _fits(found, value):
            found[...] = value  # in place: other attributes may be views of it
            continue
        setattr(layer, name, _unpacked(found, value))


def _fits(found: Any, value: Any) -> TypeGuard[np.ndarray]:
    if not isinstance(found, np.ndarray) or not isinstance(value, np.ndarray):
        return False
    return found.shape == value.shape and found.dtype == value.dtype and found.flags.writeable


def _packed(value: Any) -> Any:
    """`value` with what the codec does not hold as maps of its numbers."""
    if isinstance(value, np.random.Generator):
        return {_GENERATOR: value.bit_generator.state}
    if type(value) is RunningMeanStd:
        return {_RUNNING: dict(vars(value))}
    if isinstance(value, dict):
        return {k: _packed(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_packed(v) for v in value)
    if type(value) is deque:
        return deque((_packed(v) for v in value), value.maxlen)
    return value


def _unpacked(found: Any, value: Any) -> Any:
    """What `_packed` made `value` from, in the object that is there if it is one of its kind."""
    if isinstance(value, dict) and set(value) == {_GENERATOR}:
        generator = found if isinstance(found, np.random.Generator) else np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = value[_GENERATOR]
        return generator
    if isinstance(value, dict) and set(value) == {_RUNNING}:
        running = found if type(found) is RunningMeanStd else RunningMeanStd()
        running.mean, running.var, running.count = (value[_RUNNING][name] for name in ("mean", "var", "count"))
        return running
    if isinstance(value, dict):
        return {k: _unpacked(None, v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_unpacked(None, v) for v in value)
    if type(value) is deque:
        return deque((_unpacked(None, v) for v in value), value.maxlen)
    return value


def _generator_of(layer: gymnasium.Env) -> Any:
    generator = getattr(layer, "_np_random", None)
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else None


def _set_generator(layer: gymnasium.Env, state: Any) -> None:
    if state is not None:
        layer.np_random.bit_generator.state = state


def _generators(env: gymnasium.Env) -> Any:
    """What a reset draws from and leaves alone: generators, and the running statistics of gymnasium's wrappers."""
    before: dict[str, Any] = {"np_random": _generator_of(env.unwrapped), "spaces": _spaces_of(env)}
    if running := [_attributes(layer) for layer in _running_layers(env)]:
        before["running"] = running
    return before


def _restore_generators(env: gymnasium.Env, saved: Any) -> None:
    _set_generator(env.unwrapped, saved["np_random"])
    _set_space_state(env.action_space, saved["spaces"][0])
    _set_space_state(env.observation_space, saved["spaces"][1])
    for layer, held in zip(_running_layers(env), saved.get("running", []), strict=True):
        _set_attributes(layer, held)


def _running_layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    """The wrappers that keep a running mean and variance."""
    wrappers = [layer for layer in _layers(env) if isinstance(layer, gymnasium.Wrapper)]
    return [layer for layer in wrappers if any(type(value) is RunningMeanStd for value in vars(layer).values())]


def _space_tree(space: spaces.Space) -> Iterator[spaces.Space]:
    yield space
    inner = getattr(space, "spaces", ())
    for part in inner.values() if isinstance(inner, dict) else inner:
        yield from _space_tree(part)


def _spaces_of(env: gymnasium.Env | VecEnv) -> list[Any]:
    return [_space_state(env.action_space), _space_state(env.observation_space)]


def _space_state(space: spaces.Space) -> list[Any]:
    return [None if s._np_random is None else s._np_random.bit_generator.state for s in _space_tree(space)]


def _set_space_state(space: spaces.Space, saved: list[Any]) -> None:
    # Into the objects that are there: model, venv and environment share one space and so one stream.
    for part, state in zip(_space_tree(space), saved, strict=True):
        if state is not None:
            part.np_random.bit_generator.state = state


def reward_source(venv: VecEnv) -> str:
    """What the environment says its reward is: its `reward_specification`, or nothing."""
    base = base_of(venv)
    owner = base.envs[0].unwrapped if isinstance(base, DummyVecEnv) else base
    specification = getattr(owner, "reward_specification", "")
    return str(specification() if inspect.isroutine(specification) else specification)
