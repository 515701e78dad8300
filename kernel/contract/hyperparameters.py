"""What each algorithm takes as `hyperparameters`, so that what it does not is refused before anything is loaded.

The tables say what the constructors of stable-baselines3 take, as far as a run may give it; a test holds them against
the signatures of the installed library. An algorithm without a table is left to its learner.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kernel.contract import typed
from kernel.contract.config import ConfigurationError

KEY = "hyperparameters"
SCHEDULE = float | str
"""A number, or a linear schedule as text: `lin_3e-4` falls from 3e-4 to 0 over the run."""
_TABLE = Mapping[str, Any] | None

_EVERY: Mapping[str, Any] = {
    "policy": str,
    "learning_rate": SCHEDULE,
    "gamma": float,
    "n_steps": float,
    "max_grad_norm": float,
    "stats_window_size": float,
    "tensorboard_log": str | None,
    "policy_kwargs": _TABLE,
    "verbose": float,
}
_ON_POLICY: Mapping[str, Any] = {
    **_EVERY,
    "gae_lambda": float,
    "ent_coef": float,
    "vf_coef": float,
    "normalize_advantage": bool,
    "use_sde": bool,
    "sde_sample_freq": float,
    "rollout_buffer_class": Any,
    "rollout_buffer_kwargs": _TABLE,
}
TAKEN: Mapping[str, Mapping[str, Any]] = {
    "PPO": {
        **_ON_POLICY,
        "batch_size": float,
        "n_epochs": float,
        "clip_range": SCHEDULE,
        "clip_range_vf": SCHEDULE | None,
        "target_kl": float | None,
    },
    "A2C": {**_ON_POLICY, "rms_prop_eps": float, "use_rms_prop": bool},
    "DQN": {
        **_EVERY,
        "buffer_size": float,
        "learning_starts": float,
        "batch_size": float,
        "tau": float,
        "train_freq": Any,
        "gradient_steps": float,
        "replay_buffer_class": Any,
        "replay_buffer_kwargs": _TABLE,
        "optimize_memory_usage": bool,
        "target_update_interval": float,
        "exploration_fraction": float,
        "exploration_initial_eps": float,
        "exploration_final_eps": float,
    },
}
"""Algorithm -> keyword -> its type; `float` stands for whole numbers too, which the library takes for one another."""
SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")
"""What may be a schedule."""
GIVEN_ELSEWHERE: Mapping[str, str] = {
    "env": "the key env names the environment",
    "seed": "the key seed is the seed",
    "device": "the session's device is the device",
}
"""What the constructors take and no hyperparameter may be, and why."""
UNSUPPORTED: Mapping[str, str] = {
    "use_sde": "its noise is drawn before the consistent point",
    "optimize_memory_usage": "rows of its replay buffer overlap",
    "replay_buffer_class": "another replay buffer has another state",
    "rollout_buffer_class": "another rollout buffer has another state",
}
"""What may be given as false or null alone, and why."""
CLASSES = ("activation_fn", "features_extractor_class", "optimizer_class")
"""What `policy_kwargs` takes as a class of Python, which no configuration can hold."""
FREQUENCY_UNITS = ("step", "episode")


class HyperparametersRefused(ConfigurationError):
    """Raised for a hyperparameter that the algorithm lacks or that exact resume does not cover."""

    def __init__(self, problem: str, *, asked: str = "", among: tuple[str, ...] = ()) -> None:
        super().__init__(f"{KEY}: {problem}", KEY, asked=asked, among=among)


def require(algorithm: str, given: Mapping[str, Any]) -> None:
    """Raise HyperparametersRefused for the first of `given` that `algorithm` cannot be made with."""
    for name, reason in {**GIVEN_ELSEWHERE, **UNSUPPORTED}.items():
        if given.get(name) or (name in given and name in GIVEN_ELSEWHERE):
            raise HyperparametersRefused(f"{name} is not supported: {reason}. Leave it out.")
    taken = TAKEN.get(algorithm)
    if taken is None:
        return
    for name, value in given.items():
        if name not in taken:
            known = tuple(sorted(taken))
            raise HyperparametersRefused(
                f"{algorithm} takes no {name!r}; it takes {', '.join(known)}.", asked=name, among=known
            )
        _require_type(name, value, taken[name])
    for name in CLASSES:
        if name in (given.get("policy_kwargs") or {}):
            told = f"policy_kwargs.{name} is not supported: it is a class, and a configuration holds none"
            raise HyperparametersRefused(f"{told}. Leave it out.")
    if "train_freq" in given:
        _require_frequency(given["train_freq"])


def _require_frequency(value: Any) -> None:
    count, unit = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, "step")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or unit not in FREQUENCY_UNITS:
        found = list(value) if isinstance(value, tuple) else value
        raise HyperparametersRefused(f'train_freq must be a number of steps, or as [2, "episode"]; got {found!r}.')


def _require_type(name: str, value: Any, hint: Any) -> None:
    if isinstance(value, str) and name in SCHEDULED:
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
    raise HyperparametersRefused(f"{name} must be a number, or a linear schedule as lin_3e-4; got {text!r}.")
