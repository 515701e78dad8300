"""kaglaunch.toml, environment and flags become one frozen configuration; flags win over environment over file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import secrets
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from kernel.contract import hyperparameters
from kernel.contract.config import (
    CHANGEABLE,
    DEVICES,
    RUN_ID,
    ConfigurationError,
    RunConfig,
    SessionConfig,
    canonical_json,
    from_mapping,
)
from kernel.contract.frozen import frozen
from kernel.contract.names import TRAFFIC
from launcher import suggestions
from launcher.errors import ConfigError
from launcher.reasons import reason

FILE = "kaglaunch.toml"
PREFIX = "KAGLAUNCH_"
ACCELERATORS = ("NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000")
RETIRED_ACCELERATORS = ("NvidiaTeslaP100", "TpuV38", "Tpu1VmV38", "TpuV232", "TpuV2256")
MAX_HOURS = 12
"""Kaggle's own limit of a session."""


T = TypeVar("T")


@dataclass(frozen=True)
class RunSettings:
    """Section [run]: what is trained; frozen all the way down, whatever becomes of what it was given."""

    timesteps: int = 100_000
    """Timesteps of the whole run."""
    checkpoint_freq: int = 2_000
    """Timesteps between two checkpoints."""
    env: str = TRAFFIC
    """Environment id for `gymnasium.make`, or `module:factory` of a function that returns one."""
    env_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"scenario": "quick"})
    """Keyword arguments of the environment; none by default for another `env` than the traffic one."""
    include: tuple[str, ...] = ()
    """Files and folders of this folder that go into the bundle, each under its own name; what .gitignore and
    .kaglaunchignore name stays here. Without any: the modules of this folder that `env` and the recipe name."""
    algorithm: str = "PPO"
    """Algorithm of stable-baselines3 (PPO, A2C, DQN, SAC, TD3, DDPG) or sb3-contrib (MaskablePPO, RecurrentPPO, TQC,
    QRDQN, TRPO, CrossQ, ARS)."""
    policy: str = "MlpPolicy"
    """Its policy: MlpPolicy, CnnPolicy, MultiInputPolicy, another of the algorithm's, or `module:name` of your own."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the algorithm; a linear schedule is written "lin_3e-4"."""
    n_envs: int = 1
    """Environments stepped together."""
    normalize: bool = False
    """Normalise rewards with VecNormalize."""
    eval_freq: int = 0
    """Timesteps between two evaluations; 0 never evaluates."""
    eval_episodes: int = 5
    """Episodes of one evaluation."""
    seed: int = 0
    """Seed of the training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "include", tuple(self.include))
        for name in ("env_kwargs", "hyperparameters"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


@dataclass(frozen=True)
class SessionSettings:
    """Section [session]: what one kernel execution may use."""

    device: str = "auto"
    """auto, cpu or cuda; a cpu session costs no GPU quota."""
    accelerator: str = "NvidiaTeslaT4"
    """Machine shape of a session that is not on the cpu."""
    max_hours: float = 11.5
    """Session limit that Kaggle is told."""
    publish_interval_s: float = 300.0
    """Shortest time between two published checkpoints."""
    max_timesteps_at_risk: int = 0
    """Training waits when it is this far ahead of the last published checkpoint; 0 never waits."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept on the session's disk."""
    silence_s: float = 300.0
    """A training that does nothing for this long, and for three times what its phase ever took, starts again from its
    newest checkpoint. Steps, updates, evaluations and repeated actions count one by one: it must cover the slowest."""
    disk_gb: float = 0.0
    """What checkpoints and replay buffers may take of the session's disk; 0 leaves it to what is free."""
    replay_dataset_mb: float = 32.0
    """From so much on, a replay buffer is published in a private dataset of its own, which takes each row once."""
    on_flood: str = "stop"
    """What a log flood does inside the session: stop or throttle."""
    on_unhealthy: str = "warn"
    """What an unhealthy training does inside the session: warn or stop."""
    proof: bool = True
    """Execute a stretch again beside the training, and compare; false where two environments cannot run at once."""
    require_exact: bool = False
    """Refuse to go on where the continuation cannot be bit-identical."""
    allow_changed: tuple[str, ...] = ()
    """What may differ from the checkpoint that is gone on from: code, reward, observation_space, ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_changed", tuple(self.allow_changed))


@dataclass(frozen=True)
class WatchSettings:
    """Section [watch]: when an alert is raised."""

    max_lines_per_s: float = 100.0
    """More log lines per second than this for a whole minute: STOP."""
    max_burst_lines_per_s: float = 1_000.0
    """More log lines than this in one second: STOP."""
    max_debug_lines_per_s: float = 20.0
    """More lines with a [DEBUG tag than this in one second: STOP."""
    grace_s: float = 30.0
    """So long the kernel has to say itself that it stops a flood that is seen here, before it is ended by force: 10 s
    that it looks at its trainer's output, 10 s between two looks at the log, 10 s that a line may be under way."""
    min_timesteps_per_s: float = 5.0
    """Slower training than this: WARN."""
    silence_s: float = 600.0
    """No line for this long: WARN."""
    publish_silence_s: float = 1_800.0
    """Training goes on and nothing was published for this long: ALERT."""
    health_reports: int = 1
    """So many health findings of one kind by the kernel (constant reward, one action, NaN, memory): WARN."""
    min_session_left_s: float = 900.0
    """Less than this left of the session, and the run will not be done by then: WARN."""
    min_quota_left_h: float = 1.0
    """Fewer GPU hours than this left of the week, or fewer than the run still needs: WARN."""
    quota_poll_s: float = 300.0
    """How often the quota is asked for while a GPU session is watched; 0 never asks."""
    notify_command: str = ""
    """Run for each alert, without a shell: its text on standard input and in KAGLAUNCH_ALERT_TEXT, its parts in
    KAGLAUNCH_ALERT_LEVEL, _RULE, _MESSAGE, _RUN and _SESSION."""
    notify_webhook: str = field(default="", repr=False)
    """Address that gets each alert as a JSON POST. It is kept as a secret: set it in the environment, as
    KAGLAUNCH_WATCH_NOTIFY_WEBHOOK, rather than in a file."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (int, float)) and not value >= 0:
                raise ConfigurationError(f"{item.name} must not be negative; got {value}.", item.name)
        if self.notify_webhook and not self.notify_webhook.startswith(("http://", "https://")):
            raise ConfigurationError(
                "notify_webhook must be an http:// or https:// address; what it holds is none.", "notify_webhook"
            )
        try:
            shlex.split(self.notify_command)
        except ValueError as error:
            raise ConfigurationError(
                f"notify_command cannot be split into words: {error}.", "notify_command"
            ) from error


@dataclass(frozen=True)
class Settings:
    """The whole configuration of one command."""

    run: RunSettings = field(default_factory=RunSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    def run_config(self, run_id: str) -> RunConfig:
        """What the kernel is told about the run."""
        values = {f.name: getattr(self.run, f.name) for f in dataclasses.fields(self.run) if f.name != "include"}
        return RunConfig(run_id=run_id, total_timesteps=values.pop("timesteps"), **values)

    def session_config(self, number: int, dataset: str, waived: tuple[str, ...] = ()) -> SessionConfig:
        """What the kernel is told about one session; the first tries the training before it begins it."""
        chosen = self.session
        return SessionConfig(
            session=number,
            device=chosen.device,
            max_seconds=chosen.max_hours * 3600,
            dataset=dataset,
            publish_interval_seconds=chosen.publish_interval_s,
            max_timesteps_at_risk=chosen.max_timesteps_at_risk,
            keep_checkpoints=chosen.keep_checkpoints,
            silence_seconds=chosen.silence_s,
            disk_bytes=int(chosen.disk_gb * 1e9),
            replay_dataset_bytes=int(chosen.replay_dataset_mb * 1e6),
            on_flood=chosen.on_flood,
            on_unhealthy=chosen.on_unhealthy,
            proof=chosen.proof,
            require_exact=chosen.require_exact,
            allow_changed=chosen.allow_changed,
            gate=number == 1,
            waived=waived,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Literal values of this configuration that must never leave in a bundle."""
        return (self.watch.notify_webhook,) if self.watch.notify_webhook else ()

    @property
    def accelerator(self) -> str | None:
        """The machine shape to ask for; None on the cpu."""
        return None if self.session.device == "cpu" else self.session.accelerator


QUICK: Mapping[str, Mapping[str, Any]] = {
    "run": {"timesteps": 100, "checkpoint_freq": 10},
    "session": {"max_hours": 0.25, "publish_interval_s": 0.0, "max_timesteps_at_risk": 20, "keep_checkpoints": 10},
}
"""`--quick`: 100 timesteps, a checkpoint every 10, and training never more than 20 ahead of what is published."""

QUICK_HYPERPARAMETERS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"n_steps": 10, "batch_size": 10} for name in ("PPO", "MaskablePPO", "RecurrentPPO", "TRPO")},
    **{name: {"learning_starts": 20} for name in ("DQN", "QRDQN", "SAC", "TD3", "DDPG", "TQC", "CrossQ")},
    "A2C": {"n_steps": 10},
    "ARS": {"n_delta": 1},
}
"""By algorithm, over the run's own: an update must come within 100 timesteps."""

_SECTIONS = {"run": RunSettings, "session": SessionSettings, "watch": WatchSettings}
_QUICK_SOURCE = "--quick"
_RANDOM_LETTERS = 6
SECRET_KEYS = ("notify_webhook",)
"""Keys whose values are never shown and never leave in a bundle."""


@dataclass(frozen=True)
class Effective:
    """The configuration that holds, and where each value of it comes from."""

    settings: Settings
    sources: Mapping[str, Mapping[str, str]]
    """section -> key -> `flag`, `--quick`, `environment`, the file's name, or `default`."""
    names: Mapping[str, Callable[[str, str], str]] = field(default_factory=dict, repr=False, compare=False)
    """Source -> section, key -> what the person who gave the value calls it."""

    def called(self, key: str) -> str:
        """What whoever gave the value of `key` calls it: a flag, a variable, a key of a file."""
        section = next(section for section in _SECTIONS if key in self.sources[section])
        # Only what lies below `--quick` can be wrong: its own values are ours.
        source = self.sources[section][key].rpartition(" over ")[2]
        return self.names[source](section, key) if source in self.names else key

    def plain(self) -> dict[str, dict[str, dict[str, Any]]]:
        """section -> key -> `{"value": …, "source": …}`, for JSON."""
        return {
            name: {
                key: {"value": "(hidden)" if value and key in SECRET_KEYS else value, "source": self.sources[name][key]}
                for key, value in dataclasses.asdict(getattr(self.settings, name)).items()
            }
            for name in _SECTIONS
        }

    def lines(self) -> list[str]:
        """One line a key, as a person reads it."""
        shown = []
        for name, keys in self.plain().items():
            shown.append(f"[{name}]")
            shown += [f"  {key} = {json.dumps(item['value'])}  ({item['source']})" for key, item in keys.items()]
        return shown


def load(
    flags: Mapping[str, Mapping[str, Any]],
    *,
    quick: bool = False,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of `resolve`."""
    return resolve(flags, quick=quick, folder=folder, environ=environ).settings


def resolve(
    flags: Mapping[str, Mapping[str, Any]],
    *,
    quick: bool = False,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Effective:
    """Merge file, environment, `--quick` and flags (section -> key -> value; None means not given).

    Raises
    ------
    ConfigError
        An unknown section or key, or an impossible value, with where it stands and what is valid.
    """
    file = (folder or Path.cwd()) / FILE
    layers: list[tuple[str, _Named, Mapping[str, Mapping[str, Any]]]] = [
        (FILE, lambda section, key: f"[{section}] {key} in {file}", _from_file(file)),
        ("environment", _variable, _from_environment(os.environ if environ is None else environ)),
    ]
    if quick:
        layers.append((_QUICK_SOURCE, lambda section, key: f"{key} of {_QUICK_SOURCE}", QUICK))
    layers.append(("flag", _typed(flags), flags))
    return _merged(layers, quick)


def require_possible(flags: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ConfigError where `flags` alone hold an impossible value, before a file is read or anything is asked."""
    _merged([("flag", _typed(flags), flags)], quick=False)


class Keywords(dict[str, dict[str, Any]]):
    """Settings that came as keyword arguments, and are named so in errors; others were typed as options."""


_Named = Callable[[str, str], str]
"""section, key -> what the person who gave a value calls it."""


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}{section}_{key}".upper()


def _typed(flags: Mapping[str, Mapping[str, Any]]) -> _Named:
    if isinstance(flags, Keywords):
        return lambda section, key: key
    return lambda section, key: f"--{key.replace('_', '-')}"


def _merged(layers: Sequence[tuple[str, _Named, Mapping[str, Mapping[str, Any]]]], quick: bool) -> Effective:
    sections: dict[str, Any] = {}
    sources: dict[str, dict[str, str]] = {}
    names: dict[str, _Named] = {}
    for name, cls in _SECTIONS.items():
        values: dict[str, Any] = {}
        sources[name] = {f.name: "default" for f in dataclasses.fields(cls)}
        for source, named, layer in layers:
            names[source] = named
            given = {key: value for key, value in layer.get(name, {}).items() if value is not None}
            with _refusing(functools.partial(named, name)):
                from_mapping(cls, given)
            values |= given
            sources[name] |= dict.fromkeys(given, source)
        if name == "run":
            _complete_run(values, sources[name], quick)
        sections[name] = cls(**values)
    effective = Effective(Settings(**sections), sources, names)
    with _refusing(effective.called):
        _validate(effective.settings)
    return effective


@contextlib.contextmanager
def _refusing(called: Callable[[str], str]) -> Iterator[None]:
    """Name the key of a ConfigurationError as `called` does, and propose what may have been meant."""
    try:
        yield
    except ConfigurationError as error:
        if not error.key:
            raise ConfigError(str(error)) from error
        key = _KERNEL_KEYS.get(error.key, error.key)
        meant = suggestions.did_you_mean(error.asked, error.among, _ALIASES.get(key)) or _of_the_other(key, error.asked)
        said = str(error).removeprefix(error.key)
        if item := re.match(r"\[(\d+)\]", said):
            raise ConfigError(f"Item {int(item[1]) + 1} of {called(key)}{said[item.end() :]}") from error
        raise ConfigError(f"{called(key)}{said}{meant}") from error


_KERNEL_KEYS = {
    "total_timesteps": "timesteps",
    "max_seconds": "max_hours",
    "publish_interval_seconds": "publish_interval_s",
    "silence_seconds": "silence_s",
    "disk_bytes": "disk_gb",
    "replay_dataset_bytes": "replay_dataset_mb",
}
"""What the kernel's configuration calls otherwise."""
_ALIASES: Mapping[str, Mapping[str, str]] = {
    "device": {"gpu": "cuda"},
    "accelerator": dict.fromkeys(("gpu", "t4x2", "p100", "nvidiateslap100"), ACCELERATORS[0]),
    "policy": {"mlp": "MlpPolicy", "cnn": "CnnPolicy"},
}
"""Key -> what some of its values are called elsewhere."""
_OTHERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "device": ("accelerator", ACCELERATORS),
    "accelerator": ("device", DEVICES),
}
"""Key -> the one that it is taken for, and the values of that."""


def _of_the_other(key: str, asked: str) -> str:
    other, values = _OTHERS.get(key, ("", ()))
    found = suggestions.closest(asked, values)
    return f" {found[0]} is a value of {other}: did you mean that?" if found else ""


def _complete_run(values: dict[str, Any], sources: dict[str, str], quick: bool) -> None:
    """What follows from other values: the traffic scenario is no argument of another environment."""
    if values.get("env", TRAFFIC) != TRAFFIC:
        values.setdefault("env_kwargs", {})
    if quick and sources["hyperparameters"] != "flag":
        values["hyperparameters"] = {
            **values.get("hyperparameters", {}),
            **QUICK_HYPERPARAMETERS.get(values.get("algorithm", "PPO"), {}),
        }
        before = sources["hyperparameters"]
        sources["hyperparameters"] = _QUICK_SOURCE if before == "default" else f"{_QUICK_SOURCE} over {before}"


def run_prefix(name: str) -> str:
    """`name` as the beginning of a run's name: lower-case, with `-` for blanks, underscores and dots.

    Raises
    ------
    ConfigError
        Something else is left than letters, digits and `-`, no letter comes first, or it is too long.
    """
    slug = re.sub(r"[\s_.-]+", "-", name.strip().lower()).strip("-")
    if not RUN_ID.fullmatch(f"{slug}-{'a' * _RANDOM_LETTERS}"):
        longest = 40 - 1 - _RANDOM_LETTERS
        raise ConfigError(
            f"--name must be letters, digits and '-', a letter first, at most {longest} in all; got {name!r}.\n"
            "The run is called so, with six random letters behind it; --note takes any text."
        )
    return slug


def new_run_id(prefix: str) -> str:
    """A name that no other run has: `prefix` and six random letters and digits."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return f"{prefix}-{''.join(secrets.choice(alphabet) for _ in range(_RANDOM_LETTERS))}"


def _validate(settings: Settings) -> None:
    accelerator, max_hours = settings.session.accelerator, settings.session.max_hours
    # Before the kernel's own look at it, which knows it in seconds.
    if math.isfinite(max_hours) and not 0 < max_hours <= MAX_HOURS:
        raise ConfigurationError(
            f"max_hours must be more than 0 and at most {MAX_HOURS}; got {max_hours:g}.", "max_hours"
        )
    try:
        canonical_json(
            [settings.session_config(1, "").__dict__, dataclasses.asdict(settings.run_config("check-values"))]
        )
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The configuration holds a value that JSON has no form for: {error}.\n"
            "Write numbers, strings, true, false, lists and tables; no dates, no nan, no inf."
        ) from error
    if accelerator not in ACCELERATORS:
        retired = ", which is retired" if accelerator in RETIRED_ACCELERATORS else ""
        raise ConfigurationError(
            f"accelerator must be one of {', '.join(ACCELERATORS)}; got {accelerator!r}{retired}.",
            "accelerator",
            asked=accelerator,
            among=ACCELERATORS,
        )
    if unknown := [key for key in settings.session.allow_changed if key not in CHANGEABLE]:
        raise ConfigurationError(
            f"allow_changed names {unknown[0]!r}; what may have changed is one of {', '.join(CHANGEABLE)}.",
            "allow_changed",
            asked=unknown[0],
            among=CHANGEABLE,
        )
    hyperparameters.require(settings.run.algorithm, settings.run.hyperparameters)


def _from_file(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))  # editors of Windows put a mark before the text
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} cannot be read, as it is not TOML: {reason(error)}.") from error
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {reason(error, named=False)}.") from error
    for name, section in values.items():
        if not isinstance(section, dict):
            raise ConfigError(f"In {path}: {_outside(name, section)}")
        if name not in _SECTIONS:
            meant = suggestions.did_you_mean(name, _SECTIONS)
            raise ConfigError(f"{path}: unknown section [{name}].{meant} The valid ones: {', '.join(_SECTIONS)}.")
        known = [field.name for field in dataclasses.fields(_SECTIONS[name])]
        if unknown := sorted(set(section) - set(known)):
            raise ConfigError(f"In {path}, section [{name}]: {_unknown_key(unknown[0], known)}")
    return values


def _outside(name: str, value: Any) -> str:
    """What to write for a key that stands in no section."""
    if name in _SECTIONS:
        return (
            f"{name} = {json.dumps(value, default=str)} gives the section [{name}] a value of its own.\n"
            f"Write [{name}] on a line of its own, and its keys below it."
        )
    found = [section for section, cls in _SECTIONS.items() if name in {field.name for field in dataclasses.fields(cls)}]
    if found:
        return f"{name} stands in no section.\nIt belongs below a line [{found[0]}]."
    everything = [field.name for cls in _SECTIONS.values() for field in dataclasses.fields(cls)]
    meant = suggestions.did_you_mean(name, everything)
    return f"{name} stands in no section, and none has such a key.{meant} Sections: {', '.join(_SECTIONS)}."


def _unknown_key(key: str, known: Sequence[str]) -> str:
    meant = suggestions.did_you_mean(key, known)
    return f"Unknown key {key!r}.{meant} The valid ones: {', '.join(sorted(known))}."


def _from_environment(environ: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """KAGLAUNCH_RUN_TIMESTEPS=500 sets [run] timesteps, and so on."""
    found: dict[str, dict[str, Any]] = {}
    for name, cls in _SECTIONS.items():
        hints = get_type_hints(cls)
        prefix = f"{PREFIX}{name}_".upper()
        for variable in sorted(environ):
            if not variable.startswith(prefix):
                continue
            key = variable.removeprefix(prefix).lower()
            if key not in hints:
                valid = [f"{prefix}{known.upper()}" for known in sorted(hints)]
                meant = suggestions.did_you_mean(variable, valid)
                raise ConfigError(
                    f"Unknown environment variable {variable}.{meant} The valid ones: {', '.join(valid)}."
                )
            found.setdefault(name, {})[key] = _parsed(variable, environ[variable], hints[key])
    return found


def _parsed(variable: str, text: str, hint: Any) -> Any:
    """The value as TOML has it; a string as it is, and what is no TOML too: its type is refused where it is judged."""
    if hint is str:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


__all__ = ["ACCELERATORS", "DEVICES", "QUICK", "Effective", "Settings", "load", "new_run_id", "resolve"]
