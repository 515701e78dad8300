"""Verbs that look at a run or end it, against a session that really runs."""

from __future__ import annotations

import json
import time

import pytest

from .conftest import User

pytestmark = pytest.mark.slow


def test_a_running_session_is_seen_measured_and_cancelled_by_its_id(anyone: User) -> None:
    before = json.loads(anyone.types("quota", "--json"))
    anyone.types("push", "--timesteps", "100000000", "--max-hours", "2", "--waive", "plan")
    while json.loads(anyone.types("status", "--json"))["status"] != "RUNNING":
        time.sleep(5.0 if anyone.live else 0.2)
    (run,) = json.loads(anyone.types("runs", "--json"))
    assert run["total_timesteps"] == 100_000_000
    quota = json.loads(anyone.types("quota", "--json"))
    assert quota["reserved_h"] - before["reserved_h"] == pytest.approx(2, abs=0.05)
    assert before["left_h"] - quota["left_h"] == pytest.approx(2, abs=0.1)

    said = anyone.types("cancel", "--yes")
    assert "was cancelled (CANCEL_ACKNOWLEDGED)" in said
    assert "kaglaunch resume" in said
    assert "over already" in anyone.types("cancel", "--yes")
    assert json.loads(anyone.types("quota", "--json"))["reserved_h"] == before["reserved_h"]
    said = anyone.types("watch", code=6)
    assert "was cancelled after" in said
    if not anyone.live:
        assert [session["state"] for session in anyone.kaggle.status()["sessions"]] == ["CANCEL_ACKNOWLEDGED"]
        assert "requested cancel" in said


def test_a_session_that_asks_for_more_than_is_left_is_refused_before_it_is_pushed(user: User) -> None:
    user.kaggle.set_fault("quota_used_h", 29.5)
    said = user.types("push", "--timesteps", "1000", "--max-hours", "2", code=3)
    assert "0.5 h are left" in said
    assert "--max-hours 0.4" in said
    assert user.kaggle.status()["sessions"] == []
    assert json.loads(user.types("runs", "--json")) == []
