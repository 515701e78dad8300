"""The whole state of a training at the consistent point, as one tree: what makes a resumed run the same run.

The list, which `capture` reads top to bottom:

- counters of the algorithm (SCALARS), the last observations and episode starts
- weights, the moments of every optimizer, numbers that are learnt beside the policy (SAC's entropy coefficient)
- rows of the rollout buffer so far, or the replay buffer's place (its rows: `kernel.training.sb3.replay`)
- steps and episodes already collected in this rollout: they live on the stack of `collect_rollouts` and nowhere else
- every environment with all its wrappers, its generators and those of its spaces; reward normalisation with `returns`
- the generators of python, numpy and torch, CUDA's included
- what our own callbacks accumulate (`training`)
- parts that some algorithms have and others have not (`kernel.training.sb3.particular`)

Wall-clock times are no part of it, so that equal runs have equal states.
"""

from __future__ import annotations

import copy
import functools
import inspect
import random
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env.util import obs_space_info

from kernel.contract.manifest import CheckpointInvalid
from kernel.training.codec import is_like
from kernel.training.environment_state import Beat, EnvironmentState, put_normalisation, why_lost
from kernel.training.sb3 import particular
from kernel.training.sb3.optimizers import optimizers_of

SCALARS = (
    "num_timesteps",
    "_total_timesteps",
    "_episode_num",
    "_n_updates",
    "_current_progress_remaining",
    "_n_calls",
    "exploration_rate",
)
ARRAYS = ("_last_obs", "_last_episode_starts", "_last_original_obs")
EPISODES = ("ep_info_buffer", "ep_success_buffer")
ROLLOUT = ("actions", "rewards", "episode_starts", "values", "log_probs")
_WORKED_OUT = ("observations", "returns", "advantages")
"""Columns that are kept otherwise, or calculated once a rollout is whole."""


def capture(model: Any, environment_state: EnvironmentState, training: Any) -> dict[str, Any]:
    """Copies of everything; `training` is what the callbacks want back."""
    return {
        "scalars": {name: getattr(model, name) for name in SCALARS if hasattr(model, name)},
        "arrays": {name: _copied(getattr(model, name)) for name in ARRAYS},
        "episodes": {name: [_plain(item) for item in getattr(model, name) or ()] for name in EPISODES},
        **_capture_tensors(model),
        "rollout": _capture_rollout(model, model.collected_steps),
        "collected": [model.collected_steps, model.collected_episodes],
        "environments": environment_state.take(),
        "random": _capture_random(model),
        "training": training,
        **particular.capture(model),
    }


def require_whole(model: Any, environment_state: EnvironmentState, state: Any, training: Any) -> None:
    """Look whether `state` has what `restore` reads, in the form in which `capture` would give it of `model`.

    `training` is what the callbacks have before anything was learnt. What this lets through can be restored and learnt
    from, but for what lies within environments: that is theirs.

    Raises
    ------
    CheckpointInvalid
        `capture` never made it; the message names the part.
    """
    fresh, parts = _capture_tensors(model), particular.capture(model)
    on_policy, off_policy = isinstance(model, OnPolicyAlgorithm), isinstance(model, OffPolicyAlgorithm)
    sample = {
        "scalars": {name: getattr(model, name) for name in SCALARS if hasattr(model, name)},
        "arrays": dict.fromkeys(ARRAYS, object),
        "episodes": dict.fromkeys(EPISODES, list),
        **_form_of(fresh),
        "rollout": {"pos": int, "rows": object} if on_policy else None,
        "collected": [0, 0],
        "environments": dict,
        "random": {**_capture_random(model), "cuda": object},
        "training": training,
        **({"replay": dict} if off_policy else {}),
        **dict.fromkeys(parts, object),
    }
    if not isinstance(state, dict) or set(state) != set(sample):
        raise CheckpointInvalid(f"its state has not the parts {', '.join(sample)}")
    looks: dict[str, Callable[[Any], bool]] = {
        "scalars": lambda part: part["num_timesteps"] >= 0 and part["_total_timesteps"] > 0,
        "arrays": lambda part: _are_observations(model, part),
        "episodes": lambda part: (
            all(map(_is_episode, part["ep_info_buffer"])) and all(map(_is_success, part["ep_success_buffer"]))
        ),
        "optimizer": lambda part: _is_optimizer_state(model.policy.optimizer, part, fresh["optimizer"]),
        "optimizers": lambda part: all(
            _is_optimizer_state(optimizers_of(model)[name], held, fresh["optimizers"][name])
            for name, held in part.items()
        ),
        "rollout": lambda part: not on_policy or _is_rollout(model, part, state["collected"][0]),
        "collected": lambda part: _is_inside_rollout(model, *part),
        **{name: functools.partial(particular.is_whole, name, fresh=held) for name, held in parts.items()},
    }
    for name, wanted in sample.items():
        if not is_like(state[name], wanted) or not looks.get(name, lambda part: True)(state[name]):
            raise CheckpointInvalid(f"its state has a part {name!r} that does not fit {type(model).__name__}")
    environment_state.require_whole(state["environments"])


def _form_of(tensors: dict[str, Any]) -> dict[str, Any]:
    """What saved tensors are held to at first; what optimizers keep is looked at one by one."""

    def form(optimizer: dict[str, Any]) -> dict[str, Any]:
        return {"state": dict, "param_groups": [dict for _ in optimizer["param_groups"]]}

    found = dict(tensors)
    if "optimizer" in found:
        found["optimizer"] = form(found["optimizer"])
    if "optimizers" in found:
        found["optimizers"] = {name: form(held) for name, held in found["optimizers"].items()}
    return found


def _is_episode(item: Any) -> bool:
    return isinstance(item, dict) and is_like({key: item.get(key) for key in ("r", "l")}, {"r": 0.0, "l": 0.0})


def _is_success(item: Any) -> bool:
    return isinstance(item, (bool, int, float, np.bool_, np.number, np.ndarray))


def _are_observations(model: Any, arrays: dict[str, Any]) -> bool:
    keys, shapes, _ = obs_space_info(model.env.observation_space)

    def fits(obs: Any) -> bool:
        held = obs if isinstance(obs, dict) else {None: obs}
        return set(held) == set(keys) and all(
            isinstance(held[key], np.ndarray) and held[key].shape == (model.n_envs, *shapes[key]) for key in keys
        )

    starts, original = arrays["_last_episode_starts"], arrays["_last_original_obs"]
    return (
        fits(arrays["_last_obs"])
        and (original is None or fits(original))
        and (starts is None or (isinstance(starts, np.ndarray) and starts.shape == (model.n_envs,)))
        and (starts is not None or not isinstance(model, OnPolicyAlgorithm))
    )


_OF_OPTIMIZERS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What torch and its optimizers raise of a state that they did not make."""


def _is_optimizer_state(optimizer: th.optim.Optimizer, saved: dict[str, Any], fresh: dict[str, Any]) -> bool:
    """Whether it has the form of what `optimizer` keeps, and a step can be made from it."""
    groups = zip(saved["param_groups"], fresh["param_groups"], strict=True)
    for group, wanted in groups:
        if not is_like({k: v for k, v in group.items() if k in wanted}, {k: wanted[k] for k in group if k in wanted}):
            return False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = _kept_by(optimizer)
    for index, held in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(held, dict):
            return False
        for name, value in held.items():
            if not isinstance(value, kept.get(name, (np.ndarray, int, float, bool, type(None)))):
                return False
            shapes = ((), tuple(parameters[index].shape))
            if name in kept and isinstance(value, np.ndarray) and value.shape not in shapes:
                return False
    try:
        another = _copy_of(optimizer)
        another.load_state_dict(to_tensors(_completed(another, copy.deepcopy(saved))))
        for group in another.param_groups:
            for parameter in group["params"]:
                parameter.grad = th.zeros_like(parameter)
        another.step()
    except _OF_OPTIMIZERS:
        return False
    return True


def _copy_of(optimizer: th.optim.Optimizer) -> th.optim.Optimizer:
    """With copies of its parameters, and of all attributes: torch's own copies leave out what is not torch's."""
    another = object.__new__(type(optimizer))
    memo: dict[int, Any] = {}
    vars(another).update({name: copy.deepcopy(value, memo) for name, value in vars(optimizer).items()})
    return another


def _kept_by(optimizer: th.optim.Optimizer) -> dict[str, type]:
    """What an optimizer keeps of a single number, found out by one step of another one of its kind; of more it may keep
    other things, and of one that cannot be made so nothing is known."""
    number = th.nn.Parameter(th.zeros(1))
    number.grad = th.zeros(1)
    taken = inspect.signature(type(optimizer)).parameters
    try:
        another = type(optimizer)([number], **{k: v for k, v in optimizer.defaults.items() if k in taken})
        another.step()
    except _OF_OPTIMIZERS:
        return {}
    return {k: np.ndarray if isinstance(v, th.Tensor) else type(v) for k, v in another.state[number].items()}


def _is_inside_rollout(model: Any, steps: int, episodes: int) -> bool:
    if isinstance(model, OnPolicyAlgorithm):
        return 0 <= steps < model.n_steps and episodes == 0
    if not isinstance(model, OffPolicyAlgorithm):
        return steps == episodes == 0
    frequency: Any = model.train_freq
    done = steps if frequency.unit == TrainFrequencyUnit.STEP else episodes
    return steps >= 0 and 0 <= episodes <= steps * model.n_envs and done < frequency.frequency


def _is_rollout(model: Any, saved: dict[str, Any], steps: int) -> bool:
    if not steps:
        return saved["rows"] is None
    return saved["pos"] == steps and is_like(saved["rows"], _rows(model.rollout_buffer, steps))


def what_was_lost(state: Mapping[str, Any]) -> str:
    """Why the environments of a captured state cannot be put back; empty where they can."""
    return why_lost(state["environments"])


def restore(model: Any, environment_state: EnvironmentState, state: dict[str, Any], beat: Beat = lambda: None) -> None:
    """Put everything back, generators last; what drew from them in between becomes harmless.

    Called twice: before `learn`, so that it does not reset the environment, and at its first consistent point, after
    whatever building and starting changed.
    """
    for name, value in state["scalars"].items():
        setattr(model, name, value)
    for name, value in state["arrays"].items():
        setattr(model, name, _copied(value))
    for name, items in state["episodes"].items():
        setattr(model, name, deque((dict(i) if isinstance(i, dict) else i for i in items), model._stats_window_size))
    _restore_tensors(model, state)
    model.collected_steps, model.collected_episodes = state["collected"]
    _restore_rollout(model, state["rollout"])
    particular.restore(model, state)
    if state["environments"] is not None:
        environment_state.put(state["environments"], beat)
    _restore_random(model, state["random"])


def with_new_episodes(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """`state` for environments that were just reset, to be left as they are: theirs cannot be put back."""
    put_normalisation(model.env, state["environments"])
    obs = model.env.reset()
    original = getattr(model.env, "get_original_obs", lambda: obs)()
    arrays = {
        "_last_obs": obs,
        "_last_episode_starts": np.ones(model.n_envs, bool),
        "_last_original_obs": None if state["arrays"]["_last_original_obs"] is None else original,
    }
    return {**state, "arrays": arrays, "environments": None}


def _completed(optimizer: th.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """`saved` with the options that an optimizer of another version lacks."""
    groups = zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True)
    return {**saved, "param_groups": [{**present, **group} for present, group in groups]}


def to_tensors(tree: Any) -> Any:
    """`tree` with each array as a tensor over the same memory."""
    if isinstance(tree, np.ndarray):
        return th.from_numpy(tree)
    if isinstance(tree, dict):
        return {k: to_tensors(v) for k, v in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(to_tensors(v) for v in tree)
    return tree


_Place = tuple[str, dict[str, Any], str]
_places: weakref.WeakKeyDictionary[Any, list[_Place]] = weakref.WeakKeyDictionary()
"""Where the tensors of each policy are held, by name: walking its modules is slow, and buffers may be assigned anew."""
_OF_POLICY = "policy.optimizer"


def _capture_tensors(model: Any) -> dict[str, Any]:
    """Copies of weights and of optimizers' states, which must not share memory with what training goes on with."""
    optimizers = {name: held.state_dict() for name, held in optimizers_of(model).items()}
    found: dict[str, Any] = {"policy": _named_tensors(model.policy)}
    if _OF_POLICY in optimizers:
        found["optimizer"] = optimizers.pop(_OF_POLICY)
    if optimizers:
        found["optimizers"] = optimizers
    if variables := model._get_torch_save_params()[1]:
        found["variables"] = {name: getattr(model, name) for name in variables}
    return _filled(found, iter(_copies(list(_tensors_in(found)))))


def _named_tensors(policy: Any) -> dict[str, Any]:
    """What `state_dict` gives, its tensors themselves."""
    if policy not in _places:
        modules = list(policy.named_modules(remove_duplicate=False))
        places = [
            (f"{prefix}.{name}" if prefix else name, held, name)
            for prefix, module in modules
            for held in (module._parameters, module._buffers)
            for name in held
            if name not in module._non_persistent_buffers_set and held[name] is not None
        ]
        known = policy.state_dict(keep_vars=True)
        _places[policy] = places if [name for name, _, _ in places] == list(known) else []
    places = _places[policy]
    return {name: held[key] for name, held, key in places} if places else dict(policy.state_dict(keep_vars=True))


def _restore_tensors(model: Any, state: Mapping[str, Any]) -> None:
    model.policy.load_state_dict({name: th.from_numpy(array.copy()) for name, array in state["policy"].items()})
    saved = {_OF_POLICY: state.get("optimizer"), **state.get("optimizers", {})}
    for name, optimizer in optimizers_of(model).items():
        optimizer.load_state_dict(to_tensors(_completed(optimizer, saved[name])))
    with th.no_grad():
        for name, array in state.get("variables", {}).items():
            getattr(model, name).copy_(th.from_numpy(array.copy()))
        if hasattr(model, "weights"):  # ARS has its policy's once more, as one vector
            model.weights = th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


def _copies(tensors: list[th.Tensor]) -> list[np.ndarray]:
    """A copy of each; one call for all of a type, because dozens of small ones cost more than their bytes."""
    groups: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.dtype, tensor.device), []).append(index)
    found: dict[int, np.ndarray] = {}
    with th.no_grad():
        for indices in groups.values():
            flat = th.cat([tensors[i].reshape(-1) for i in indices]).cpu().numpy()
            at = 0
            for i in indices:
                count = tensors[i].numel()
                found[i] = flat[at : at + count].reshape(tensors[i].shape)
                at += count
    return [found[i] for i in range(len(tensors))]


def _tensors_in(tree: Any) -> Iterator[th.Tensor]:
    if isinstance(tree, th.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors_in(value)
    elif type(tree) in (list, tuple):
        for value in tree:
            yield from _tensors_in(value)


def _filled(tree: Any, copies: Iterator[np.ndarray]) -> Any:
    """`tree` with the next of `copies` in the place of each tensor."""
    if isinstance(tree, th.Tensor):
        return next(copies)
    if isinstance(tree, dict):
        return {k: _filled(v, copies) for k, v in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_filled(v, copies) for v in tree)
    return tree


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def _plain(item: Any) -> Any:
    """An episode's record without its wall-clock time."""
    return {k: v for k, v in item.items() if k != "t"} if isinstance(item, dict) else item


def _capture_rollout(model: Any, collected_steps: int) -> Any:
    if not isinstance(model, OnPolicyAlgorithm):
        return None
    buffer: Any = model.rollout_buffer
    if not collected_steps:
        return {"pos": 0, "rows": None}  # between rollouts the buffer holds nothing that is read again
    return {"pos": buffer.pos, "rows": _rows(buffer, buffer.pos)}


def _columns(buffer: Any) -> list[str]:
    """Names of a rollout buffer's columns, those that sb3-contrib's have beside ROLLOUT included."""
    size = buffer.buffer_size
    more = (name for name, held in vars(buffer).items() if isinstance(held, np.ndarray) and held.shape[:1] == (size,))
    return [*ROLLOUT, *sorted(set(more) - {*ROLLOUT, *_WORKED_OUT})]


def _rows(buffer: Any, at: int) -> dict[str, Any]:
    """Copies of the first `at` rows."""
    rows: dict[str, Any] = {name: getattr(buffer, name)[:at].copy() for name in _columns(buffer)}
    obs = buffer.observations
    rows["observations"] = {k: v[:at].copy() for k, v in obs.items()} if isinstance(obs, dict) else obs[:at].copy()
    return rows


def _restore_rollout(model: Any, saved: Any) -> None:
    if saved is None:
        return
    buffer, at, rows = model.rollout_buffer, saved["pos"], saved["rows"]
    if rows is None:
        return
    for name in _columns(buffer):
        getattr(buffer, name)[:at] = rows[name]
    if isinstance(buffer.observations, dict):
        for key, values in rows["observations"].items():
            buffer.observations[key][:at] = values
    else:
        buffer.observations[:at] = rows["observations"]
    buffer.pos = at


def _capture_random(model: Any) -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    legacy = np.random.get_state(legacy=False)
    return {
        "python": {"version": version, "numbers": np.array(numbers, np.uint32), "gauss": gauss},
        "numpy": {
            "key": legacy["state"]["key"],  # numpy hands out a copy, and so does torch
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
        "torch": th.get_rng_state().numpy(),
        "cuda": [s.numpy() for s in th.cuda.get_rng_state_all()] if model.device.type == "cuda" else None,
    }


def _restore_random(model: Any, saved: dict[str, Any]) -> None:
    python, legacy = saved["python"], saved["numpy"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))
    np.random.set_state(("MT19937", legacy["key"], legacy["pos"], legacy["has_gauss"], legacy["gauss"]))
    th.set_rng_state(th.from_numpy(saved["torch"].copy()))
    if saved["cuda"] is not None and model.device.type == "cuda":
        th.cuda.set_rng_state_all([th.from_numpy(s.copy()) for s in saved["cuda"]])
