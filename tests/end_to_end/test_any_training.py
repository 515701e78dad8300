"""Somebody else's environment and recipe, in a folder that has nothing of ours: pushed, killed, and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernel.contract.manifest import verify

from .conftest import User

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cartpole"


@pytest.fixture
def foreign(user: User) -> User:
    """A user whose folder holds the CartPole example and, beside it, what must not leave."""
    shutil.copytree(EXAMPLE, user.folder, dirs_exist_ok=True)
    (user.folder / ".env").write_text("KAGGLE_API_TOKEN=KGAT_0123456789abcdef0123456789abcdef\n")
    (user.folder / "unrelated.py").write_text("raise SystemExit('nobody imports this')\n")
    return user


def test_a_foreign_training_is_pushed_killed_and_resumed_to_its_end(foreign: User) -> None:
    foreign.kaggle.set_fault("session_limit_at_log", r'"event": "published".*"num_timesteps": 600\b')
    pushed = json.loads(foreign.types("push", "--json").split("\nTarget")[0].splitlines()[0])
    verdicts = {check["name"]: check["verdict"] for check in pushed["preflight"]["checks"]}
    assert set(verdicts.values()) == {"PASS"}
    assert "balance.py" in pushed["files"]
    assert not {".env", "unrelated.py", "kaglaunch.toml"} & set(pushed["files"])

    said = foreign.types("watch", code=6)
    assert "exceeded the max allowed execution duration" in said
    foreign.types("fetch-checkpoints")
    (checkpoint,) = foreign.checkpoints()
    assert verify(checkpoint).num_timesteps >= 600
    assert "balance/balance.py" in verify(checkpoint).details["code"]

    # The run goes on with the code that it was pushed with, whatever became of the folder.
    (foreign.folder / "balance.py").write_text("raise RuntimeError('half-edited')\n")
    foreign.kaggle.clear_faults()
    said = foreign.types("resume", "--device", "cpu")
    assert "2,000 of 2,000 timesteps safe, finished" in said
    first, second = json.loads(foreign.types("report", "--json"))["sessions"]
    assert second["from_timesteps"] == first["published_timesteps"] == verify(checkpoint).num_timesteps
    assert 0 <= first["lost_timesteps"] <= 400
    foreign.types("fetch-checkpoints")
    newest = max(foreign.checkpoints(), key=lambda path: verify(path).num_timesteps)
    assert (verify(newest).num_timesteps, verify(newest).exact) == (2000, True)


def test_a_foreign_environment_that_lacks_a_file_is_refused_before_anything_is_spent(foreign: User) -> None:
    source = (foreign.folder / "balance.py").read_text()
    (foreign.folder / "balance.py").write_text(
        source.replace("import gymnasium", "import gymnasium\n\nimport tables", 1)
    )
    (foreign.folder / "tables.py").write_text("X = 1\n")
    said = foreign.types("push", code=3)
    assert "No module named 'tables'" in said
    assert "balance.py, line" in said
    assert foreign.kaggle.status()["sessions"] == []
    said = foreign.types("push", "--include", "balance.py", "--include", "tables.py")
    assert "Pushed session 1" in said
