"""Whether the environment that a run names can be made, as far as files tell: none of it is imported.

What is refused would fail in a session for certain; where a file leaves it open, the trial finds out.
"""

from __future__ import annotations

import ast
import collections
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.contract.names import TRAFFIC
from launcher import catalogue, suggestions
from launcher.config import RunSettings
from launcher.errors import ConfigError
from launcher.packing.project import TAKEN

_OPEN_ENDED = frozenset(("globals", "locals", "vars", "exec", "eval", "setattr", "__dict__"))
"""What gives a module names that its source does not show."""
_FORM = "must be an id that gymnasium registers, or MODULE:FACTORY"


def require(run: RunSettings, called: Callable[[str], str], files: Mapping[str, bytes], folder: Path) -> None:
    """Raise ConfigError where no environment `run.env` can be, or where it does not take `run.env_kwargs`.

    Parameters
    ----------
    called
        Key of `run` -> what whoever gave its value calls it.
    files
        What a session will have of the researcher's own: name in the bundle -> content.
    folder
        Where these come from.
    """
    module, colon, factory = run.env.partition(":")
    if not colon:
        _require_id(run.env, called("env"))
        return
    is_id = "-v" in factory
    if not (is_id or factory.isidentifier()) or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{called('env')} {_FORM}; got {run.env!r}.")
    if run.env == TRAFFIC:
        _require_traffic(run, called("env_kwargs"))
    top = module.partition(".")[0]
    if not any(name == f"{top}.py" or name.startswith(f"{top}/") for name in files):
        _require_installed(top, run, called("env"), folder)
    elif not is_id:
        _require_factory(run, called, files)


def _require_id(env: str, called: str) -> None:
    ids = catalogue.environments()
    if ids and env not in ids and "/" not in env:
        newest = {one.rpartition("-v")[0]: one for one in ids}
        found = suggestions.closest(env.partition("-v")[0], newest)
        meant = f" Did you mean {newest[found[0]]}?" if found else ""
        raise ConfigError(
            f"{called} {_FORM}; got {env!r}.{meant}\n"
            "An environment of your own is named by the function that returns it, as in `--env balance:make`."
        )


def _require_traffic(run: RunSettings, called: str) -> None:
    _refuse_unknown(run, called, "the traffic environment", catalogue.traffic_arguments())
    scenario, demand = (run.env_kwargs.get(name) for name in ("scenario", "demand"))
    if isinstance(scenario, str) and (problem := catalogue.traffic_problem(scenario, demand)):
        raise ConfigError(f"{problem}\nIt is named by {called}.")


def _require_installed(top: str, run: RunSettings, called: str, folder: Path) -> None:
    """The module is none of the files that a session will have: it must be on this machine, as on Kaggle's image."""
    # Only with gymnasium is this machine one that could try; python -m finds what lies in its folder, a session not.
    if top in TAKEN or not catalogue.environments() or _is_installed(top, folder):
        return
    if here := next((path for path in (folder / f"{top}.py", folder / top) if path.exists()), None):
        raise ConfigError(
            f"{called} names the module {top!r}, which lies in {folder} and is not among what `include` names: "
            f"the session would not have it; got {run.env!r}.\nAdd {here.name} to it (`--include {here.name}`)."
        )
    meant = suggestions.did_you_mean(top, sorted(path.stem for path in folder.glob("*.py")))
    raise ConfigError(
        f"{called} names the module {top!r}, which is neither in {folder} nor installed; got {run.env!r}.{meant}"
    )


def _is_installed(top: str, folder: Path) -> bool:
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without one, as __main__
        return False
    if spec is None:
        return False
    places = [Path(place) for place in [*(spec.submodule_search_locations or ()), spec.origin] if place]
    return not places or any(folder.resolve() not in (place.parent, place.parent.parent) for place in places)


@dataclass(frozen=True)
class Definitions:
    """What a module defines at its top level."""

    names: frozenset[str]
    """Everything that can be taken from it."""
    factories: tuple[str, ...]
    """Its own functions and classes that are not private, in their order."""
    functions: Mapping[str, ast.arguments]
    """Parameters of the functions that are called as they are written: defined once, undecorated."""


def definitions(source: bytes) -> Definitions | None:
    """What the source of a module defines; None where that shows only when it runs."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    if any(_is_open_ended(node) for node in ast.walk(tree)):
        return None
    bound: collections.Counter[str] = collections.Counter()
    functions: dict[str, ast.arguments] = {}
    factories: list[str] = []
    for node in _top_level(tree):
        names = list(_bound_by(node))
        bound.update(names)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            factories.append(node.name)
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            functions[node.name] = node.args
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            bound.update(node.names)
    once = {name: parameters for name, parameters in functions.items() if bound[name] == 1}
    return Definitions(frozenset(bound), tuple(dict.fromkeys(factories)), once)


def _is_open_ended(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _OPEN_ENDED
        case ast.ImportFrom(names=[ast.alias(name="*")]) | ast.FunctionDef(name="__getattr__"):
            return True
    return False


def _top_level(node: ast.AST) -> Iterator[ast.AST]:
    """What is executed when the module is: branches and loops, and no body of a function or a class."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _top_level(child)


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _require_factory(run: RunSettings, called: Callable[[str], str], files: Mapping[str, bytes]) -> None:
    module, _, factory = run.env.partition(":")
    path = module.replace(".", "/")
    file = next((name for name in (f"{path}/__init__.py", f"{path}.py") if name in files), None)
    defined = definitions(files[file]) if file is not None else None
    if defined is None:
        return
    if factory not in defined.names:
        meant = suggestions.did_you_mean(factory, defined.factories)
        there = (
            f"It defines {', '.join(defined.factories)}."
            if defined.factories
            else "It defines no function and no class."
        )
        raise ConfigError(
            f"{called('env')} names the factory {factory!r}, which {file} does not define; got {run.env!r}.{meant} "
            f"{there}"
        )
    if (parameters := defined.functions.get(factory)) is not None:
        _require_arguments(run, called, f"{factory} of {file}", parameters)


def _require_arguments(run: RunSettings, called: Callable[[str], str], which: str, parameters: ast.arguments) -> None:
    taken = [one.arg for one in (*parameters.args, *parameters.kwonlyargs)]
    if parameters.kwarg is None:
        _refuse_unknown(run, called("env_kwargs"), which, taken)
    positional = [one.arg for one in (*parameters.posonlyargs, *parameters.args)]
    needed = positional[: len(positional) - len(parameters.defaults)]
    needed += [
        one.arg for one, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if default is None
    ]
    if missing := [name for name in needed if name not in run.env_kwargs]:
        raise ConfigError(
            f"{called('env')} is {run.env!r}, and {which} needs {', '.join(missing)}, which nothing gives.\n"
            f"Write it into kaglaunch.toml, under [run]: env_kwargs = {{{missing[0]} = …}}."
        )


def _refuse_unknown(run: RunSettings, called: str, which: str, taken: Sequence[str]) -> None:
    if unknown := [name for name in run.env_kwargs if name not in taken]:
        meant = suggestions.did_you_mean(unknown[0], taken)
        there = f"it takes {', '.join(taken)}" if taken else "it takes nothing"
        raise ConfigError(f"{called} names {unknown[0]!r}, which {which} does not take; {there}.{meant}")
