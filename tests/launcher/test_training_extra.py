"""The training extra is added to the very copy that says it is missing, never to a project of its name on an index."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import training_extra

WHEEL = "kaglaunch-0.1.0-py3-none-any.whl"


def _installed(monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None) -> None:
    class Copy:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    def distribution(name: str) -> Copy:
        if name != "kaglaunch":
            raise importlib.metadata.PackageNotFoundError(name)
        return Copy()

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def _told() -> list[str]:
    command = training_extra.how().split("`")[1]
    words = shlex.split(command)
    return words[words.index("install") + 1 :]


def test_a_checkout_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    _installed(monkeypatch, {"url": folder.as_uri(), "dir_info": {}})
    assert _told() == [f"{folder}[train]"]
    _installed(monkeypatch, {"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert _told() == ["-e", f"{folder}[train]"]


def test_a_wheel_is_named_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / WHEEL
    wheel.touch()
    _installed(monkeypatch, {"url": wheel.as_uri(), "archive_info": {}})
    assert _told() == [f"kaglaunch[train] @ {wheel.as_uri()}"]


def test_a_repository_is_named_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(
        monkeypatch,
        {"url": "https://example.org/k.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}},
    )
    assert _told() == ["kaglaunch[train] @ git+https://example.org/k.git@0123abc"]


@pytest.mark.parametrize("origin", [None, {"url": f"file:///gone/{WHEEL}", "archive_info": {}}])
def test_what_came_from_elsewhere_is_sent_to_its_sources(
    origin: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_extra, "__file__", str(tmp_path / "launcher" / "training_extra.py"))
    _installed(monkeypatch, origin)
    assert _told() == [".[train]"]
    assert "folder of its sources" in training_extra.how()


def test_the_pip_that_is_told_is_that_of_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert training_extra.how().startswith("with `pip install ")
    other = tmp_path / "pip"
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert training_extra.how().startswith(f'with `"{sys.executable}" -m pip install ')


@pytest.mark.slow
def test_what_this_copy_says_is_accepted_by_pip() -> None:
    command = shlex.split(training_extra.how().split("`")[1])
    if command[0] == "pip":
        command[:1] = [sys.executable, "-m", "pip"]
    command += ["--dry-run", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Would install kaglaunch-" in done.stdout
