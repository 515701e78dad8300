"""Names that other packages know, read from their files: importing them would load what trains.

Where a package is not installed nothing of it is known, and nothing is refused for it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher import suggestions
from launcher.errors import NotCompared

Known = tuple[str, ...]


@functools.cache
def environments() -> Known:
    """Ids that gymnasium itself registers."""
    return tuple(_registered(_file("gymnasium", "envs", "__init__.py")))


@functools.cache
def controllers() -> Known:
    """Names of signal controllers."""
    return tuple(_keys_of("CONTROLLERS", _file("arz_model", "control", "controllers.py")))


@functools.cache
def scenarios() -> Known:
    """Names of scenarios that come with the traffic model."""
    folder = _file("arz_model", "scenarios")
    return tuple(sorted(path.stem for path in folder.glob("*.toml"))) if folder is not None else ()


def demands(scenario: str) -> Known:
    """Demand profiles of a scenario, by name or TOML file; none where it cannot be read."""
    path: Path | None = Path(scenario) if scenario.endswith(".toml") else _file("arz_model", "scenarios")
    if path is not None and not scenario.endswith(".toml"):
        path = path / f"{scenario}.toml"
    try:
        return tuple(tomllib.loads(path.read_text(encoding="utf-8"))["demand"]) if path is not None else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()


@functools.cache
def traffic_arguments() -> Known:
    """Keyword arguments of the traffic environment, those that `gymnasium.make` keeps for itself included."""
    for node in ast.walk(_parsed(_file("arz_model", "control", "env.py"))):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return (*(one.arg for one in node.args.args[1:]), "max_episode_steps", "disable_env_checker")
    return ()


def require_compared(names: Iterable[str], scenario: str | None, demand: str | None) -> None:
    """Raise NotCompared where a controller, a scenario or its demand is not there."""
    for text in names:
        name = text.partition(":")[0]
        if controllers() and name not in controllers():
            raise NotCompared(_unknown("controller", name, controllers()))
    if scenario is not None and scenario.endswith(".toml") and not Path(scenario).is_file():
        raise NotCompared(f"There is no scenario file {scenario}.")
    if scenario is not None and (problem := traffic_problem(scenario, demand)):
        raise NotCompared(problem)


def traffic_problem(scenario: str, demand: object) -> str:
    """Why there is no such scenario, or no such demand in it, with what there is; empty where nothing says so."""
    if not scenario.endswith(".toml") and scenarios() and scenario not in scenarios():
        return _unknown("scenario", scenario, scenarios(), ", or a path that ends in .toml")
    known = demands(scenario)
    if isinstance(demand, str) and known and demand not in known:
        meant = suggestions.did_you_mean(demand, known)
        return f"The scenario {scenario} has no demand {demand!r}.{meant} It has {', '.join(known)}."
    return ""


def _unknown(kind: str, name: str, known: Known, more: str = "") -> str:
    meant = suggestions.did_you_mean(name, known)
    return f"There is no {kind} {name!r}.{meant} There are {', '.join(known)}{more}."


def _file(package: str, *parts: str) -> Path | None:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    places = [Path(place, *parts) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return next((path for path in places if path.exists()), None)


def _registered(path: Path | None) -> Iterator[str]:
    """The literal ids of the calls `register(id="...", ...)`."""
    for call in ast.walk(_parsed(path)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
            for keyword in call.keywords:
                if keyword.arg == "id" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


def _keys_of(name: str, path: Path | None) -> Iterator[str]:
    """The literal keys of the dictionary that is assigned to `name`."""
    for node in _parsed(path).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert isinstance(node.value, ast.Dict)
            yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))


def _parsed(path: Path | None) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8") if path is not None else "")
