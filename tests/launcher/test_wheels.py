"""The wheel in a bundle is the pinned one or none."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import BundleError
from launcher.packing import wheels
from launcher.packing.wheels import Wheel

CONTENT = b"a wheel"
WHEEL = Wheel("some-project", "1.0", "some_project-1.0-py3-none-any.whl", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands for pip: notes its command lines and puts the pinned file where it was told."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (Path(command[command.index("-d") + 1]) / WHEEL.filename).write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_it_is_fetched_once_by_hash(tmp_path: Path, pip: list[list[str]]) -> None:
    assert wheels.fetch(WHEEL, tmp_path).read_bytes() == CONTENT
    assert wheels.fetch(WHEEL, tmp_path).read_bytes() == CONTENT
    (command,) = pip
    assert "--require-hashes" in command
    assert "--no-deps" in command


def test_a_damaged_copy_in_the_cache_is_fetched_again(tmp_path: Path, pip: list[list[str]]) -> None:
    path = wheels.fetch(WHEEL, tmp_path)
    path.write_bytes(b"damaged")
    assert wheels.fetch(WHEEL, tmp_path).read_bytes() == CONTENT
    assert len(pip) == 2


def test_a_failing_pip_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BundleError) as caught:
        wheels.fetch(WHEEL, tmp_path)
    assert "DO NOT MATCH THE HASHES" in str(caught.value)
    assert WHEEL.sha256 in str(caught.value)
    assert not list(tmp_path.rglob("*.whl"))
