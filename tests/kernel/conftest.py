"""Small runs, in this process and in real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel import pinning
from tests.limits import limit_s

from .support import configuration, environment

pinning.pin()  # before any test imports torch
sys.path.insert(0, str(Path(__file__).parent))  # helpers and environments of these tests


@pytest.fixture
def session(tmp_path: Path, trains: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m kernel` in a folder until it ends."""

    def run(folder: Path | None = None, **parts: Any) -> subprocess.CompletedProcess[str]:
        where = folder or tmp_path
        where.mkdir(parents=True, exist_ok=True)
        (where / "run.json").write_text(json.dumps(configuration(**parts)))
        command = [sys.executable, "-m", "kernel", "--config", "run.json"]
        return subprocess.run(
            command, cwd=where, env=environment(), capture_output=True, text=True, timeout=limit_s(120)
        )

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, trains: None) -> Path:
    """The folder of one quick run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    parts = configuration({"eval_freq": 50, "eval_episodes": 2}, {"keep_checkpoints": 20})
    (folder / "run.json").write_text(json.dumps(parts))
    command = [sys.executable, "-m", "kernel", "--config", "run.json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=limit_s(120))
    (folder / "output.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stderr
    return folder
