"""The wheel holds all that the packages are made of, and starts in an environment that has never seen the checkout."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = [name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc", "*.egg-info")


@dataclass(frozen=True)
class Copy:
    """An environment with the wheel; everything that it depends on is borrowed from the one that tests."""

    wheel: Path
    environment: Path
    home: Path

    def runs(self, *command: str) -> str:
        """Standard output of a program of the environment, which must succeed."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}
        program = str(self.environment / "bin" / command[0])
        done = subprocess.run(
            [program, *command[1:]], cwd=self.home, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("installed")
    source, environment, home = folder / "source", folder / "environment", folder / "home"
    for path in (source, home):
        path.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=NOT_SOURCE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    _pip("--python", python, "install", "--no-deps", "--no-index", wheel.as_uri())
    (purelib,) = environment.glob("lib/python*/site-packages")
    (purelib / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return Copy(wheel, environment, home)


def test_the_wheel_holds_every_file_of_the_packages(copy: Copy) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc")
    }
    with zipfile.ZipFile(copy.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_the_installed_copy_starts_and_is_not_the_checkout(copy: Copy) -> None:
    assert copy.runs("kaglaunch", "version").strip().endswith(PROJECT["project"].get("version", "").strip())
    assert "Before a run:" in copy.runs("kaglaunch", "--help")
    code = f"import sys, {', '.join(PACKAGES)}\nfor name in {PACKAGES!r}: print(sys.modules[name].__file__)"
    for place in copy.runs("python", "-c", code).splitlines():
        assert Path(place).is_relative_to(copy.environment)
    checks = json.loads(copy.runs("kaglaunch", "doctor", "--json"))
    assert checks["healthy"]


def test_the_installed_copy_runs_an_embedded_kaggle(copy: Copy) -> None:
    try:
        assert "runs at http" in copy.runs("kaglaunch", "local", "start")
    finally:
        copy.runs("kaglaunch", "local", "stop")


def test_the_installed_copy_adds_its_extra_from_its_own_wheel(copy: Copy) -> None:
    said = copy.runs("python", "-c", "from launcher import training_extra; print(training_extra.how())")
    words = shlex.split(said.split("`")[1])
    requirement = words[words.index("install") + 1]
    assert requirement == f"kaglaunch[train] @ {copy.wheel.as_uri()}"
    _pip("--python", str(copy.environment / "bin" / "python"), "install", "--dry-run", "--no-deps", requirement)
