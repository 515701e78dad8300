"""What a run trains and what a session of it may use; both sides of the wire read this module.

A configuration file is one JSON object of two parts::

    {"run": {...RunConfig...}, "session": {...SessionConfig...}}

`run` is the same in every session of a run, and its digest is part of every checkpoint; `session` differs from
session to session and changes nothing about what is learnt.

Standard library only: the launcher imports it without torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeVar

from kernel.contract import typed
from kernel.contract.frozen import frozen
from kernel.contract.names import NAMED, RUN_ID, TRAFFIC
from kernel.contract.record import Record

DEVICES = ("auto", "cpu", "cuda")
FLOOD_ACTIONS = ("stop", "throttle")
HEALTH_ACTIONS = ("warn", "stop")
_STABLE_BASELINES3 = "kernel.training.sb3.learner:StableBaselines3Learner"
NO_LIMIT_SECONDS = 10 * 365 * 86_400.0
"""Session limit of a session that has none."""
_ROLLOUTS: Mapping[str, tuple[str, int]] = {
    "PPO": ("n_steps", 2048),
    "A2C": ("n_steps", 5),
    "DQN": ("train_freq", 4),
    "SAC": ("train_freq", 1),
    "TD3": ("train_freq", 1),
    "DDPG": ("train_freq", 1),
    "MaskablePPO": ("n_steps", 2048),
    "RecurrentPPO": ("n_steps", 128),
    "TQC": ("train_freq", 1),
    "QRDQN": ("train_freq", 4),
    "TRPO": ("n_steps", 2048),
    "CrossQ": ("train_freq", 1),
    "ARS": ("", 1),
}
"""What has an algorithm's number of steps between two updates, and its value where none is given."""
OF_CONTRIB = ("MaskablePPO", "RecurrentPPO", "TQC", "QRDQN", "TRPO", "CrossQ", "ARS")
"""Algorithms of sb3-contrib; the others are stable-baselines3's."""
LEARNERS = dict.fromkeys(_ROLLOUTS, _STABLE_BASELINES3)
"""Who learns an algorithm: `module:class` of a `kernel.training.learner.Learner`. Another one plugs in by its entry."""
ALGORITHMS = tuple(LEARNERS)
_USUAL_POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
POLICIES_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_ROLLOUTS, _USUAL_POLICIES),
    "RecurrentPPO": ("MlpLstmPolicy", "CnnLstmPolicy", "MultiInputLstmPolicy"),
    "CrossQ": ("MlpPolicy",),
    "ARS": ("MlpPolicy", "LinearPolicy"),
}
"""Algorithm -> the policies that it has by name."""
POLICIES = tuple(dict.fromkeys(policy for policies in POLICIES_OF.values() for policy in policies))

T = TypeVar("T")


class ConfigurationError(ValueError):
    """Raised when a configuration holds an unknown key or an impossible value.

    Where it is about the value of one key, `key` is that key, and the message begins with it; `asked` is then what
    was given, and `among` are the words that it could have been.
    """

    def __init__(self, message: str, key: str = "", *, asked: str = "", among: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.key, self.asked, self.among = key, asked, among


class RunConfig(Record):
    """One training, from timestep 0 to `total_timesteps`, however many sessions it takes; frozen all the way down."""

    run_id: str
    """Names the run everywhere: lower-case letters, digits and '-', 5 to 40 characters, starting with a letter."""
    total_timesteps: int
    """Environment steps of the whole run, all environments counted; drives every schedule."""
    checkpoint_freq: int
    """Timesteps between two checkpoints."""
    algorithm: str = "PPO"
    """Which algorithm learns: one of ALGORITHMS."""
    policy: str = "MlpPolicy"
    """Its policy: one of POLICIES_OF the algorithm, or `module:name` of one."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of that algorithm's constructor, as JSON values."""
    env: str = TRAFFIC
    """Environment: an id for `gymnasium.make`, or `module:factory` of a function that returns one."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    n_envs: int = 1
    """Environments stepped together."""
    normalize: bool = False
    """Wrap the environments in stable-baselines3's VecNormalize (rewards only)."""
    eval_freq: int = 0
    """Timesteps between two evaluations on an environment of their own; 0 never evaluates."""
    eval_episodes: int = 5
    """Episodes of one evaluation."""
    seed: int = 0
    """Seed of policy, sampling and environments."""

    def __post_init__(self) -> None:
        for name in ("hyperparameters", "env_kwargs"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if not RUN_ID.fullmatch(self.run_id):
            raise ConfigurationError(
                f"run_id must be 5 to 40 lower-case letters, digits or '-', a letter first; got {self.run_id!r}."
            )
        _require_positive(self, "total_timesteps", "checkpoint_freq", "n_envs", "eval_episodes")
        _require_one_of(self, "algorithm", ALGORITHMS)
        policies = POLICIES_OF.get(self.algorithm, POLICIES)
        if self.policy == POLICIES[0] and self.policy not in policies:
            object.__setattr__(self, "policy", policies[0])  # nobody asked for another
        if not NAMED.fullmatch(self.policy):
            _require_one_of(self, "policy", policies)
        _require_not_negative(self, "seed", "eval_freq")

    @property
    def whole_timesteps(self) -> int:
        """`total_timesteps` up to a whole number of rollouts, where that is known beforehand: none is left half done.

        The trainer's own word counts before it.
        """
        name, usual = _ROLLOUTS.get(self.algorithm, ("", 1))
        steps = self.hyperparameters.get(name, usual)
        if isinstance(steps, (list, tuple)):  # train_freq as [count, unit]; an episode has no length to know
            steps = steps[0] if len(steps) == 2 and steps[1] == "step" else None
        if not isinstance(steps, int) or steps < 1:
            return self.total_timesteps
        rollout = steps * self.n_envs
        return math.ceil(self.total_timesteps / rollout) * rollout

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON: equal digests train the same thing."""
        return hashlib.sha256(canonical_json(dataclasses.asdict(self)).encode()).hexdigest()


STATE_WAYS = ("contract", "graph", "actions", "visible", "none")
"""The environment's own `state_dict`; all that Python sees; with repeated actions; that without; new episodes."""
CHANGEABLE = (
    *("code", "observation_space", "action_space", "reward", "configuration"),
    *(item.name for item in dataclasses.fields(RunConfig) if item.name != "run_id"),
)
"""What a checkpoint may have been made with otherwise, and `allow_changed` accepts."""


class SessionConfig(Record):
    """One kernel execution of a run: its number, its limits, and where its checkpoints go."""

    session: int = 1
    """1 for the first session of the run; the number that fences publishes."""
    device: str = "auto"
    """Where solver and policy run: one of DEVICES; `auto` takes the GPU where there is one."""
    max_seconds: float = 43_200.0
    """Session limit that the platform was told [s]; at this instant it kills."""
    margin_seconds: float = 0.0
    """Time kept before the limit for the last checkpoint and its publishing [s]; 0 derives it from measurements."""
    dataset: str = ""
    """`owner/slug` of the dataset that takes the checkpoints; empty publishes nothing and keeps outputs only."""
    publish_interval_seconds: float = 300.0
    """Shortest time between two publishes [s]."""
    max_timesteps_at_risk: int = 0
    """The trainer waits when it is this many timesteps ahead of the last published one; 0 never waits."""
    replay_dataset_bytes: int = 32_000_000
    """From so many bytes of sealed replay chunks on they are published in a dataset of their own, each once."""
    checkpoint_seconds: float = 60.0
    """A checkpoint comes at the latest this long after the last one [s]; 0 leaves it to `checkpoint_freq`."""
    silence_seconds: float = 300.0
    """A trainer that gives no sign of life for this long [s], and for three times as long as its phase ever took, is
    restarted from its last checkpoint."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept on the session's disk (the best one and every power of two besides)."""
    keep_replay_buffers: int = 2
    """Newest checkpoints that keep their replay buffer, whatever it takes; the others are left with their weights."""
    disk_bytes: int = 0
    """What checkpoints and replay buffers may take of the session's disk [B]; 0 leaves it to what is free."""
    on_flood: str = "stop"
    """What a log flood does: one of FLOOD_ACTIONS."""
    on_unhealthy: str = "warn"
    """What an unhealthy training does: one of HEALTH_ACTIONS."""
    environment_state: str = ""
    """How the state of the environments is taken: one of STATE_WAYS; empty finds out, `none` begins new episodes."""
    inexact_because: str = ""
    """Why no way to the environments' state leads to the same training again, where that was found before."""
    proof: bool = True
    """Execute a stretch of the training again beside it, in a process of its own, and compare."""
    proof_after_seconds: float = 20.0
    """How long a trainer has been training before that begins [s]."""
    require_exact: bool = False
    """Refuse to resume where bit-identical continuation cannot be promised."""
    allow_changed: tuple[str, ...] = ()
    """What may differ from the checkpoint: some of CHANGEABLE."""
    gate: bool = False
    """Try ten timesteps and a resume before a training from scratch; what fails is not trained."""
    waived: tuple[str, ...] = ()
    """Names of checks that may fail."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_changed", tuple(self.allow_changed))
        object.__setattr__(self, "waived", tuple(self.waived))
        _require_positive(self, "session", "max_seconds", "keep_checkpoints", "keep_replay_buffers")
        _require_positive(self, "silence_seconds")
        _require_not_negative(
            self,
            "margin_seconds",
            "publish_interval_seconds",
            "max_timesteps_at_risk",
            "checkpoint_seconds",
            "disk_bytes",
            "replay_dataset_bytes",
        )
        _require_not_negative(self, "proof_after_seconds")
        _require_one_of(self, "device", DEVICES)
        _require_one_of(self, "on_flood", FLOOD_ACTIONS)
        _require_one_of(self, "on_unhealthy", HEALTH_ACTIONS)
        _require_one_of(self, "environment_state", ("", *STATE_WAYS))
        if self.dataset and not re.fullmatch(r"[A-Za-z0-9-]+/[a-z0-9-]{6,50}", self.dataset):
            raise ConfigurationError(f"dataset must be 'owner/slug'; got {self.dataset!r}.")


class Configuration(Record):
    """Both parts, as one file holds them."""

    run: RunConfig
    session: SessionConfig

    def to_json(self) -> str:
        """Canonical JSON of both parts."""
        return canonical_json({"run": dataclasses.asdict(self.run), "session": dataclasses.asdict(self.session)})

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Read what `to_json` wrote.

        Raises
        ------
        ConfigurationError
            Not JSON, an unknown or missing key, or an impossible value; the message names it.
        """
        try:
            parts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"The configuration is not JSON: {error}.") from error
        if not isinstance(parts, dict) or set(parts) != {"run", "session"}:
            raise ConfigurationError('A configuration is one JSON object with exactly the keys "run" and "session".')
        return cls(from_mapping(RunConfig, parts["run"]), from_mapping(SessionConfig, parts["session"]))


def unlimited(seconds: float) -> bool:
    """Whether `seconds`, of a session's limit or what is left of it, say that it has none."""
    return seconds > NO_LIMIT_SECONDS / 2


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def from_mapping(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build dataclass `cls` from `values`; unknown, missing and mistyped keys are refused by name."""
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigurationError(f"Unknown key {unknown[0]!r}. The valid ones: {', '.join(sorted(known))}.")
    required = {
        name
        for name, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(values))
    if missing:
        raise ConfigurationError(f"Missing key {missing[0]!r} in the configuration.")
    try:
        return typed.read(cls, values)
    except typed.WrongType as error:
        key = re.match(r"\w+", str(error))
        raise ConfigurationError(f"{error}.", key[0] if key and key[0] in known else "") from error


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigurationError(f"{name} must be more than 0; got {getattr(config, name)}.", name)


def _require_not_negative(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 0:
            raise ConfigurationError(f"{name} must be 0 or more; got {getattr(config, name)}.", name)


def _require_one_of(config: object, name: str, choices: tuple[str, ...]) -> None:
    if (value := getattr(config, name)) not in choices:
        raise ConfigurationError(
            f"{name} must be one of {', '.join(choices)}; got {value!r}.", name, asked=str(value), among=choices
        )
