"""A whole session as the platform starts it: real processes, real training."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

from stable_baselines3 import PPO

from kernel.contract.manifest import checkpoints_in, verify
from kernel.contract.names import num_timesteps_of

from .support import events_of


def test_quick_run_ends_at_exactly_its_total_with_every_checkpoint(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert (result["status"], result["num_timesteps"], result["total_timesteps"]) == ("finished", 100, 100)
    names = {path.name for path in checkpoints_in(finished / "checkpoints")}
    assert names == {f"checkpoint_t{t}.zip" for t in range(10, 101, 10)}
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["num_timesteps"] for row in rows] == list(range(10, 101, 10))


def test_events_come_in_order_and_the_first_names_the_session(finished: Path) -> None:
    seen = events_of((finished / "output.txt").read_text())
    assert seen[0]["event"] == "session"
    assert seen[-1]["event"] == "result"
    assert [e["num_timesteps"] for e in seen if e["event"] == "checkpoint"] == list(range(10, 101, 10))
    assert {e["num_timesteps"] for e in seen if e["event"] == "progress"} >= set(range(10, 100, 10))
    assert {e["event"] for e in seen} >= {"training", "calibration", "evaluation"}


def test_plain_stable_baselines3_loads_every_checkpoint(finished: Path) -> None:
    for path in checkpoints_in(finished / "checkpoints"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns of entries that it cannot read
            model = PPO.load(path, device="cpu")
        assert model.num_timesteps == num_timesteps_of(path.name)
        assert model.n_steps == 10


def test_resumed_session_writes_the_bytes_of_the_uninterrupted_one(finished: Path, session, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    for path in checkpoints_in(tmp_path / "checkpoints"):
        if num_timesteps_of(path.name) > 40:
            path.unlink()
    (tmp_path / "checkpoints" / "digests.jsonl").unlink()
    parts = json.loads((finished / "run.json").read_text())
    done = session(**parts)
    assert done.returncode == 0
    training = next(e for e in events_of(done.stdout) if e["event"] == "training")
    assert (training["num_timesteps"], training["exact"]) == (40, True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    for t in range(50, 101, 10):
        name = f"checkpoints/checkpoint_t{t}.zip"
        assert verify(tmp_path / name).state_digest == verify(finished / name).state_digest


def test_a_run_that_is_finished_says_so_and_learns_nothing(finished: Path, session, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    done = session(**json.loads((finished / "run.json").read_text()))
    result = events_of(done.stdout)[-1]
    assert (result["status"], result["num_timesteps"]) == ("finished", 100)
    assert "already" in result["message"]


def test_corrupt_newest_checkpoint_falls_back_to_the_one_before(finished: Path, session, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints" / "checkpoint_t100.zip"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    done = session(**json.loads((finished / "run.json").read_text()))
    seen = events_of(done.stdout)
    refused = [e for e in seen if e["event"] == "checkpoint_refused"]
    assert [e["file"] for e in refused] == ["checkpoint_t100.zip"]
    assert next(e for e in seen if e["event"] == "training")["num_timesteps"] == 90
    assert seen[-1]["status"] == "finished"
    assert verify(newest).state_digest == verify(finished / "checkpoints" / "checkpoint_t100.zip").state_digest


def test_another_configuration_is_an_error_that_shows_the_difference(finished: Path, session, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    parts = json.loads((finished / "run.json").read_text())
    parts["run"]["seed"] = 7
    result = events_of(session(**parts).stdout)[-1]
    assert result["status"] == "crashed"
    assert "seed: 0 in the checkpoint, 7 now" in result["message"]
    assert "--allow-changed seed" in result["message"]


def test_allowed_change_goes_on_and_is_marked_inexact(finished: Path, session, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    parts = json.loads((finished / "run.json").read_text())
    parts["run"]["total_timesteps"] = 120
    parts["session"]["allow_changed"] = ["total_timesteps"]
    seen = events_of(session(**parts).stdout)
    assert "total_timesteps was changed" in next(e for e in seen if e["event"] == "inexact")["reason"]
    assert (seen[-1]["status"], seen[-1]["num_timesteps"], seen[-1]["exact"]) == ("finished", 120, False)


def test_what_the_environment_prints_is_never_taken_for_an_event(session, tmp_path: Path) -> None:
    done = session(run={"env": "toy_environments:ForgingQueue", "total_timesteps": 20})
    assert '@kaglaunch> {"event": "result", "status": "finished"' in done.stdout
    assert 'step @kaglaunch> {"event": "published"' in done.stdout
    seen = events_of(done.stdout)
    assert not [event for event in seen if event.get("num_timesteps") == 999_999]
    assert [event["num_timesteps"] for event in seen if event["event"] == "result"] == [20]
