"""Points an unmodified `kagglesdk` at the embedded Kaggle; inside a session also hides the host's packages.

The text of this file becomes a `sitecustomize.py` in a folder on PYTHONPATH, so it must stand alone: standard
library only, nothing slow at start. It acts on two variables:

    KAGLAUNCH_LOCAL_KAGGLE   URL; every endpoint that `kagglesdk` knows is replaced by it, so nothing can escape
    KAGLAUNCH_SESSION_ROOT   folder; `launcher`, `kernel` and `arz_model` are importable only from inside it, as on
                             Kaggle's image, which does not have them
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENDPOINT_TABLE = "kagglesdk.kaggle_env"
HIDDEN = ("launcher", "kernel", "arz_model")


class EndpointLoader:
    """Runs the module as it is, then replaces the addresses in its table."""

    def __init__(self, loader: Any, url: str) -> None:
        self._loader = loader
        self._url = url

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        for environment in module._env_to_endpoint:
            module._env_to_endpoint[environment] = self._url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class Finder:
    def __init__(self, url: str, root: str) -> None:
        self._url = url
        self._root = os.path.realpath(root) if root else ""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == ENDPOINT_TABLE and self._url:
            spec: Any = PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                spec.loader = EndpointLoader(spec.loader, self._url)
            return spec
        if name in HIDDEN and self._root:
            spec = PathFinder.find_spec(name, [entry for entry in sys.path if self._is_inside(entry)])
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return spec
        return None

    def _is_inside(self, entry: str) -> bool:
        real = os.path.realpath(entry or os.curdir)
        return real == self._root or real.startswith(self._root + os.sep)


def install() -> None:
    url, root = os.environ.get("KAGLAUNCH_LOCAL_KAGGLE", ""), os.environ.get("KAGLAUNCH_SESSION_ROOT", "")
    if url or root:
        sys.meta_path.insert(0, Finder(url, root))


if __name__ == "sitecustomize":
    install()
