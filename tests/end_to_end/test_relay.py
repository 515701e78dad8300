"""Sessions that are cut off follow each other to the end of the run, and another machine can take a run over."""

from __future__ import annotations

import json

import pytest

from .conftest import User
from .test_here import DQN

pytestmark = pytest.mark.slow


def _cut(num_timesteps: int) -> dict[str, str]:
    return {"pattern": rf'"event": "checkpoint".*"num_timesteps": {num_timesteps}\b'}


def test_push_relay_finishes_a_run_over_three_sessions_of_which_two_are_cut_off(user: User) -> None:
    (user.folder / "kaglaunch.toml").write_text(DQN)
    user.kaggle.set_fault("session_limit_at_log", [_cut(150), _cut(300)])
    said = user.types("push", "--relay")
    assert "is finished: 400 timesteps" in said
    sessions = json.loads(user.types("report", "--json"))["sessions"]
    assert [session["status"] for session in sessions] == ["CANCEL_ACKNOWLEDGED"] * 2 + ["COMPLETE"]
    assert all(session["lost_timesteps"] <= 100 for session in sessions)
    assert sessions[1]["from_timesteps"] == sessions[0]["published_timesteps"] >= 50
    assert sessions[2]["from_timesteps"] == sessions[1]["published_timesteps"] >= 200
    assert "finished: all 400 timesteps are done" in user.types("status")


def test_a_run_of_another_machine_is_adopted_watched_and_resumed(user: User) -> None:
    user.kaggle.set_fault("session_limit_at_log", [_cut(50)])
    user.types("push", "--quick", "--watch", code=6)
    (run,) = [row["run_id"] for row in json.loads(user.types("runs", "--json"))]
    state = user.folder.parent / "another-state" / "kaglaunch"
    state.mkdir(parents=True)
    # The same service, as kaggle.com would be; everything else of the other machine is its own.
    (state / "local-kaggle").symlink_to(user.kaggle.state_dir)
    another = User(user.folder.parent / "another", {**user.environ, "XDG_STATE_HOME": str(state.parent)})
    another.folder.mkdir()
    assert run in another.types("runs", "--remote")
    said = another.types("adopt", run)
    assert "killed" in said
    assert "exceeded the max allowed execution duration" in another.types("watch", code=6)
    assert "is finished: 100 of 100" in another.types("resume", "--device", "cpu")
