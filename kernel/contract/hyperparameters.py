"""What each algorithm takes as `hyperparameters`, so that what it does not is refused before anything is loaded.

The tables say what the constructors of stable-baselines3 take, as far as a run may give it; a test holds them against
the signatures of the installed library. An algorithm without a table is left to its learner.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from kernel.contract import typed
from kernel.contract.config import ConfigurationError
from kernel.contract.names import NAMED

KEY = "hyperparameters"
SCHEDULE = float | str
"""A number, or a schedule as text: `lin_3e-4` falls from 3e-4 to 0 over the run, `module:name` is a function of the
share of the run that remains."""
_TABLE = Mapping[str, Any] | None

_EVERY: Mapping[str, Any] = {
    "policy": str,
    "learning_rate": SCHEDULE,
    "stats_window_size": float,
    "tensorboard_log": str | None,
    "policy_kwargs": _TABLE,
    "verbose": float,
}
_ON_POLICY: Mapping[str, Any] = {
    **_EVERY,
    "gamma": float,
    "n_steps": float,
    "gae_lambda": float,
    "normalize_advantage": bool,
}
_EXPLORATION: Mapping[str, Any] = {"use_sde": bool, "sde_sample_freq": float}
_ROLLOUT_BUFFER: Mapping[str, Any] = {"rollout_buffer_class": Any, "rollout_buffer_kwargs": _TABLE}
_ACTOR_CRITIC: Mapping[str, Any] = {**_ON_POLICY, "ent_coef": float, "vf_coef": float, "max_grad_norm": float}
_CLIPPED: Mapping[str, Any] = {
    **_ACTOR_CRITIC,
    "batch_size": float,
    "n_epochs": float,
    "clip_range": SCHEDULE,
    "clip_range_vf": SCHEDULE | None,
    "target_kl": float | None,
}
_OFF_POLICY: Mapping[str, Any] = {
    **_EVERY,
    "gamma": float,
    "n_steps": float,
    "buffer_size": float,
    "learning_starts": float,
    "batch_size": float,
    "train_freq": Any,
    "gradient_steps": float,
    "replay_buffer_class": Any,
    "replay_buffer_kwargs": _TABLE,
    "optimize_memory_usage": bool,
}
_VALUES: Mapping[str, Any] = {
    **_OFF_POLICY,
    "tau": float,
    "target_update_interval": float,
    "exploration_fraction": float,
    "exploration_initial_eps": float,
    "exploration_final_eps": float,
    "max_grad_norm": float | None,
}
NOISE_TYPES = ("normal", "ornstein-uhlenbeck")
"""Kinds of action noise, as rl-baselines3-zoo calls them."""
_NOISE: Mapping[str, Any] = {"noise_type": Literal[NOISE_TYPES], "noise_std": float}
_CONTINUOUS: Mapping[str, Any] = {**_OFF_POLICY, **_NOISE, "tau": float}
_ENTROPY: Mapping[str, Any] = {
    **_EXPLORATION,
    "use_sde_at_warmup": bool,
    "ent_coef": float | str,
    "target_entropy": float | str,
}
TAKEN: Mapping[str, Mapping[str, Any]] = {
    "PPO": {**_CLIPPED, **_EXPLORATION, **_ROLLOUT_BUFFER},
    "A2C": {**_ACTOR_CRITIC, **_EXPLORATION, **_ROLLOUT_BUFFER, "rms_prop_eps": float, "use_rms_prop": bool},
    "DQN": {**_VALUES, "max_grad_norm": float},
    "SAC": {**_CONTINUOUS, **_ENTROPY, "target_update_interval": float},
    "TD3": {**_CONTINUOUS, "policy_delay": float, "target_policy_noise": float, "target_noise_clip": float},
    "DDPG": {name: hint for name, hint in _CONTINUOUS.items() if name != "stats_window_size"},
    "MaskablePPO": {**_CLIPPED, **_ROLLOUT_BUFFER, "batch_size": float | None},
    "RecurrentPPO": {**_CLIPPED, **_EXPLORATION, "batch_size": float | None},
    "TQC": {
        **_CONTINUOUS,
        **_ENTROPY,
        "target_update_interval": float,
        "top_quantiles_to_drop_per_net": float,
    },
    "QRDQN": _VALUES,
    "TRPO": {
        **_ON_POLICY,
        **_EXPLORATION,
        **_ROLLOUT_BUFFER,
        "batch_size": float,
        "cg_max_steps": float,
        "cg_damping": float,
        "line_search_shrinking_factor": float,
        "line_search_max_iter": float,
        "n_critic_updates": float,
        "target_kl": float,
        "sub_sampling_factor": float,
    },
    "CrossQ": {**_OFF_POLICY, **_NOISE, **_ENTROPY, "policy_delay": float},
    "ARS": {
        **_EVERY,
        "n_delta": float,
        "n_top": float | None,
        "delta_std": SCHEDULE,
        "zero_policy": bool,
        "alive_bonus_offset": float,
        "n_eval_episodes": float,
    },
}
"""Algorithm -> keyword -> its type; `float` stands for whole numbers too, which the library takes for one another."""
SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
"""What may be a schedule."""
GIVEN_ELSEWHERE: Mapping[str, str] = {
    "env": "the key env names the environment",
    "seed": "the key seed is the seed",
    "device": "the session's device is the device",
    "action_noise": "noise_type (normal or ornstein-uhlenbeck) and noise_std say what it is",
}
"""What the constructors take and no hyperparameter may be, and why."""
HINDSIGHT = "HerReplayBuffer"
UNSUPPORTED: Mapping[str, str] = {
    "replay_buffer_class": f"another replay buffer than {HINDSIGHT} has another state",
    "rollout_buffer_class": "another rollout buffer has another state",
}
"""What may be given as null alone, and why."""
CLASSES = ("activation_fn", "features_extractor_class", "optimizer_class")
"""What `policy_kwargs` takes as a class of Python: by its name, as NAMED has it."""
FREQUENCY_UNITS = ("step", "episode")


class HyperparametersRefused(ConfigurationError):
    """Raised for a hyperparameter that the algorithm lacks or that exact resume does not cover."""

    def __init__(self, problem: str, *, asked: str = "", among: tuple[str, ...] = ()) -> None:
        super().__init__(f"{KEY}: {problem}", KEY, asked=asked, among=among)


def require(algorithm: str, given: Mapping[str, Any]) -> None:
    """Raise HyperparametersRefused for the first of `given` that `algorithm` cannot be made with."""
    for name, reason in {**GIVEN_ELSEWHERE, **UNSUPPORTED}.items():
        known = name == "replay_buffer_class" and given.get(name) == HINDSIGHT
        if (given.get(name) and not known) or (name in given and name in GIVEN_ELSEWHERE):
            raise HyperparametersRefused(f"{name} is not supported: {reason}. Leave it out.")
    taken = TAKEN.get(algorithm)
    if taken is None:
        return
    if ("noise_type" in given) != ("noise_std" in given):
        raise HyperparametersRefused("noise_type and noise_std go together.")
    for name, value in given.items():
        if name not in taken:
            known = tuple(sorted(taken))
            raise HyperparametersRefused(
                f"{algorithm} takes no {name!r}; it takes {', '.join(known)}.", asked=name, among=known
            )
        _require_type(name, value, taken[name])
    for name in CLASSES:
        value = (given.get("policy_kwargs") or {}).get(name, "any:name")
        if not isinstance(value, str) or not NAMED.fullmatch(value):
            told = f"policy_kwargs.{name} must name a class, as torch.nn:ELU or my_networks:Extractor; got {value!r}"
            raise HyperparametersRefused(f"{told}.")
    if "train_freq" in given:
        _require_frequency(given["train_freq"])


def _require_frequency(value: Any) -> None:
    count, unit = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, "step")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or unit not in FREQUENCY_UNITS:
        found = list(value) if isinstance(value, tuple) else value
        raise HyperparametersRefused(f'train_freq must be a number of steps, or as [2, "episode"]; got {found!r}.')


def _require_type(name: str, value: Any, hint: Any) -> None:
    if isinstance(value, str) and name in SCHEDULED:
        if not NAMED.fullmatch(value):
            schedule_start(name, value)
        return
    try:
        typed.value_of(name, value, hint)
    except typed.WrongType as error:
        raise HyperparametersRefused(f"{error}.") from error


def schedule_start(name: str, text: str) -> float:
    """Where the schedule `text` of the hyperparameter `name` starts.

    Raises
    ------
    HyperparametersRefused
        It is none.
    """
    kind, _, start = text.partition("_")
    try:
        if kind == "lin" and math.isfinite(float(start)):
            return float(start)
    except ValueError:
        pass
    ways = "a number, a linear schedule as lin_3e-4, or a function of what remains as my_schedules:warm_up"
    raise HyperparametersRefused(f"{name} must be {ways}; got {text!r}.")
