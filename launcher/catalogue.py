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
from launcher.errors import ConfigError, NotCompared

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


def require_environment(env: str, called: str, folder: Path, include: Iterable[str] = ()) -> None:
    """Raise ConfigError where no environment `env` can be: its id is unknown, or its module is nowhere.

    A module is looked for in `folder`, in what `include` names and among what is installed, and is not imported.
    `called` is how the caller names the value.
    """
    ids = environments()
    module, colon, factory = env.partition(":")
    if not colon and ids and env not in ids and "/" not in env:
        raise ConfigError(
            f"{called} must be an id that gymnasium registers, or MODULE:FACTORY; got {env!r}.{_meant_id(env, ids)}\n"
            "An environment of your own is named by the function that returns it, as in `--env balance:make`."
        )
    if not colon:
        return
    top = module.partition(".")[0]
    if not factory or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{called} must be an id that gymnasium registers, or MODULE:FACTORY; got {env!r}.")
    here = (folder / top).exists() or (folder / f"{top}.py").exists() or top in {Path(path).stem for path in include}
    if ids and not here and importlib.util.find_spec(top) is None:
        meant = suggestions.did_you_mean(top, sorted(path.stem for path in folder.glob("*.py")))
        raise ConfigError(
            f"{called} names the module {top!r}, which is neither in {folder} nor installed; got {env!r}.{meant}"
        )


def _meant_id(env: str, ids: Known) -> str:
    """The newest version of the environment that is called so, or alike."""
    newest = {one.rpartition("-v")[0]: one for one in ids}
    found = suggestions.closest(env.partition("-v")[0], newest)
    return f" Did you mean {newest[found[0]]}?" if found else ""


def require_compared(names: Iterable[str], scenario: str | None, demand: str | None) -> None:
    """Raise NotCompared where a controller, a scenario or its demand is not there."""
    for text in names:
        name = text.partition(":")[0]
        if controllers() and name not in controllers():
            _refuse("controller", name, controllers())
    if scenario is not None and scenario.endswith(".toml"):
        if not Path(scenario).is_file():
            raise NotCompared(f"There is no scenario file {scenario}.")
    elif scenario is not None and scenarios() and scenario not in scenarios():
        _refuse("scenario", scenario, scenarios(), ", or a path that ends in .toml")
    if scenario is not None and demand is not None and demands(scenario) and demand not in demands(scenario):
        meant = suggestions.did_you_mean(demand, demands(scenario))
        known = ", ".join(demands(scenario))
        raise NotCompared(f"The scenario {scenario} has no demand {demand!r}.{meant} It has {known}.")


def _refuse(kind: str, name: str, known: Known, more: str = "") -> None:
    meant = suggestions.did_you_mean(name, known)
    raise NotCompared(f"There is no {kind} {name!r}.{meant} There are {', '.join(known)}{more}.")


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
