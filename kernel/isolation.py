"""Inside a session only the bundle's own copies of our packages can be imported, and this holds it.

Standard library only: it runs before anything else does.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from kernel.contract.names import PACKAGES_FILE

PACKAGES = ("launcher", "kernel", "arz_model")


class NotIsolated(RuntimeError):
    """Raised when a module of ours was already imported from another place than the bundle."""


class BundleFinder(MetaPathFinder):
    """Finds the packages it is given in one folder and nowhere else."""

    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        self.folder = folder
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, [str(self.folder)])
        if spec is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r} in the bundle at {self.folder}; other copies are not used.",
                name=fullname,
            )
        return spec


def project_modules(folder: str | Path) -> list[str]:
    """Modules of the researcher's own that the bundle in `folder` brings along."""
    listed = Path(folder) / PACKAGES_FILE
    return json.loads(listed.read_text("utf-8")) if listed.is_file() else []


def isolate(folder: str | Path) -> None:
    """From now on import PACKAGES, and those that `packages.json` in `folder` lists, only from `folder`.

    Raises
    ------
    NotIsolated
        One of them was imported before, from elsewhere.
    """
    root = Path(folder).resolve()
    names = frozenset(PACKAGES) | frozenset(project_modules(root))
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, BundleFinder)]
    sys.meta_path.insert(0, BundleFinder(root, names))
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name.partition(".")[0] in names and origin and not Path(origin).resolve().is_relative_to(root):
            raise NotIsolated(f"{name} was imported from {origin}, not from the bundle at {root}.")
