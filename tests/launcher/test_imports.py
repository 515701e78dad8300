"""The arrow launcher -> kernel -> arz_model holds at run time, and the command line starts light."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "numpy", "kaggle", "kagglesdk", "kagglehub", "stable_baselines3", "gymnasium", "matplotlib"}


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("package", "callers"), [("kernel", ["launcher"]), ("arz_model", ["launcher", "kernel"])])
def test_imports_without_its_callers(package: str, callers: list[str]) -> None:
    imported = _python(
        f"import sys, pkgutil, importlib\n"
        f"for name in {callers!r}: sys.modules[name] = None\n"
        f"package = importlib.import_module({package!r})\n"
        f"for module in pkgutil.walk_packages(package.__path__, {package!r} + '.'):\n"
        f"    if module.name.rsplit('.')[-1] not in ('__main__', 'step_cuda'):\n"
        f"        print(importlib.import_module(module.name).__name__)\n"
    )
    assert len(imported.split()) > 20
    assert all(name.startswith(f"{package}.") for name in imported.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom launcher.cli import main\nassert main(['--help']) == 0\n"
        "print('LOADED', *sorted(name.split('.')[0] for name in sys.modules))"
    )
    loaded = set(_python(code).rsplit("LOADED", 1)[1].split())
    assert not loaded & HEAVY
    assert "typer" in loaded


@pytest.mark.parametrize(
    "module",
    [
        "kernel.contract.config",
        "kernel.contract.events",
        "kernel.contract.files",
        "kernel.contract.result",
        "kernel.contract.manifest",
        "kernel.contract.chunks",
        "launcher.local_kaggle.service",
    ],
)
def test_what_both_sides_read_needs_the_standard_library_alone(module: str) -> None:
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    loaded = {name.split(".")[0] for name in _python(code).split()}
    assert loaded <= set(sys.stdlib_module_names) | {"kernel", "launcher"}


def test_launching_alone_installs_nothing_that_trains() -> None:
    needed, waiting = set(), ["kaglaunch"]
    while waiting:
        name = waiting.pop()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        for requirement in requirements:
            found = re.match(r"[A-Za-z0-9_.-]+", requirement)
            assert found is not None
            project = re.sub(r"[-_.]+", "-", found[0]).lower()
            if "extra ==" not in requirement and project not in needed:
                needed.add(project)
                waiting.append(project)
    assert {"kaggle", "typer", "six"} <= needed
    assert not needed & {"torch", "numba", "numpy", "gymnasium", "stable-baselines3", "kagglehub"}
