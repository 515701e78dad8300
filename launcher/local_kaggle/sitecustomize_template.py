"""Put on the import path of every process of a session, as its `sitecustomize`.

The unmodified clients reach this server and nothing else, and our packages are absent as in Kaggle's image, unless
the session's own script puts a copy in front.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from typing import Any

_URL = os.environ["KAGLAUNCH_LOCAL_KAGGLE_URL"]
_ROOT = os.path.realpath(os.environ["KAGLAUNCH_LOCAL_KAGGLE_ROOT"]) + os.sep
_OURS = ("launcher", "kernel", "arz_model")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name in _OURS:
            inside = [entry for entry in sys.path if os.path.realpath(entry or ".").startswith(_ROOT)]
            spec = importlib.machinery.PathFinder.find_spec(name, inside)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return spec
        if name == "kagglesdk.kaggle_env":
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _Redirected(spec.loader)
            return spec
        return None


class _Redirected(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        module._env_to_endpoint.update(dict.fromkeys(module._env_to_endpoint, _URL))


sys.meta_path.insert(0, _Finder())
