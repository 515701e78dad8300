"""The tree of errors in `launcher.errors` is whole, and each error ends in the exit code that it says."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import launcher
from launcher import errors
from launcher.errors import LauncherError

_ROW = re.compile(r"^ {4}((?:│   |    )*)(?:[├└]── )?(\w+) +(\d+)(?:   .+)?$", re.MULTILINE)


def _errors() -> Iterator[type[LauncherError]]:
    for module in pkgutil.walk_packages(launcher.__path__, "launcher."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    todo: list[type[LauncherError]] = [LauncherError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        if error.__module__.startswith("launcher.") and not error.__name__.startswith("_"):
            yield error


def test_every_error_stands_in_the_tree_below_its_base_with_its_exit_code() -> None:
    parents: list[str] = []
    drawn: dict[str, tuple[str, int]] = {}
    for bars, name, code in _ROW.findall(errors.__doc__ or ""):
        depth = 0 if name == "LauncherError" else len(bars) // 4 + 1
        parents[depth:] = [name]
        drawn[name] = (parents[depth - 1] if depth else "Exception", int(code))
    real = {error.__name__: (error.__bases__[0].__name__, error.exit_code) for error in _errors()}
    assert drawn == real
