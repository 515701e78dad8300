"""A run goes on where its researcher sits, and back: the same supervisor, the same checkpoints, no step lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kernel.contract.config import Configuration, SessionConfig
from kernel.contract.manifest import verify
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, Session
from tests.limits import limit_s, until

from .conftest import User

pytestmark = pytest.mark.slow

DQN = """
[run]
env = "CartPole-v1"
env_kwargs = {}
timesteps = 400
checkpoint_freq = 50
algorithm = "DQN"
hyperparameters = {learning_starts = 20, buffer_size = 200, train_freq = 4, batch_size = 8}
[session]
device = "cpu"
max_hours = 0.25
publish_interval_s = 0.0
max_timesteps_at_risk = 100
"""
LONG_PPO = """
[run]
env = "CartPole-v1"
env_kwargs = {}
timesteps = 10_000_000
checkpoint_freq = 200
hyperparameters = {n_steps = 50, batch_size = 50}
[session]
device = "cpu"
max_hours = 0.25
publish_interval_s = 0.0
max_timesteps_at_risk = 400
"""


def _book(user: User) -> Ledger:
    return Ledger(Path(user.environ["XDG_STATE_HOME"]) / "kaglaunch" / "ledger.sqlite")


def _kill_at(user: User, num_timesteps: int) -> None:
    user.kaggle.set_fault("session_limit_at_log", rf'"event": "checkpoint".*"num_timesteps": {num_timesteps}\b')


def _last(user: User) -> tuple[Run, Session]:
    book = _book(user)
    run = book.run(folder=user.folder)
    return run, book.sessions(run.run_id)[-1]


def _checkpoints(run: Run) -> list[int]:
    return sorted(int(re.findall(r"_t(\d+)", path.name)[0]) for path in run.checkpoints.glob("checkpoint_t*.zip"))


def test_a_killed_dqn_run_is_finished_here_bit_for_bit_as_if_nothing_had_happened(user: User, tmp_path: Path) -> None:
    (user.folder / "kaglaunch.toml").write_text(DQN)
    _kill_at(user, 200)
    user.types("push", "--watch", code=6)
    user.kaggle.clear_faults()
    said = user.types("resume", "--here", "--require-exact")
    assert "is finished: 400 of 400 timesteps" in said
    run, session = _last(user)
    assert (session.target, session.number, session.result) == ("here", 2, "finished")
    ended = verify(run.checkpoints / "checkpoint_t400.zip", run_id=run.run_id)
    assert ended.session == 2
    assert ended.exact
    assert (session.resumed_timesteps or 0) >= 100

    alone = tmp_path / "alone"
    alone.mkdir()
    config = Configuration(run.config, SessionConfig(device="cpu"))
    (alone / "run.json").write_text(config.to_json())
    command = [sys.executable, "-m", "kernel", "--config", "run.json"]
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run(command, cwd=alone, env={**os.environ, "PYTHONPATH": root}, check=True, capture_output=True)
    uninterrupted = verify(alone / "checkpoints" / "checkpoint_t400.zip")
    assert ended.state_digest == uninterrupted.state_digest
    assert "is finished" in user.types("resume", "--here")


def _here_until_published(user: User, beyond: int) -> subprocess.Popen[str]:
    """`resume --here` of a long run, once it has written checkpoints beyond a timestep."""
    here = user.start("resume", "--here")
    run, _ = _last(user)

    def beyond_it() -> bool:
        assert here.poll() is None, here.communicate()
        return max(_checkpoints(run), default=0) > beyond

    until(beyond_it, 60)
    return here


def test_ctrl_c_here_writes_a_last_checkpoint_and_the_next_session_on_the_target_starts_from_it(user: User) -> None:
    (user.folder / "kaglaunch.toml").write_text(LONG_PPO)
    _kill_at(user, 400)
    user.types("push", "--waive", "plan", "--watch", code=6)
    user.kaggle.clear_faults()
    here = _here_until_published(user, 1000)
    here.send_signal(signal.SIGINT)
    out, err = here.communicate(timeout=limit_s(60))
    assert here.returncode == 130, out + err
    assert "was ended by Ctrl-C" in err
    assert "writing a last checkpoint" in out
    run, session = _last(user)
    assert (session.target, session.result) == ("here", "stopped")
    newest = _checkpoints(run)[-1]
    assert verify(run.checkpoints / f"checkpoint_t{newest}.zip").session == 2
    assert session.published_timesteps == newest
    assert f"t{newest:,} is safe" in err

    said = user.types("resume", "--no-watch")
    assert f"Uploaded t{newest:,}" in said
    watching = user.start("watch")
    assert watching.stdout is not None
    while "Training begins" not in (line := watching.stdout.readline()):
        assert watching.poll() is None
    assert f"Training begins from t{newest:,} of" in line
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=limit_s(30))
    run, session = _last(user)
    assert (session.number, session.target) == (3, "local")


def test_a_session_here_outlives_the_command_that_started_it_and_is_unique(user: User) -> None:
    (user.folder / "kaglaunch.toml").write_text(LONG_PPO)
    _kill_at(user, 200)
    user.types("push", "--waive", "plan", "--watch", code=6)
    here = _here_until_published(user, 600)
    here.kill()
    here.communicate()
    status = json.loads(user.types("status", "--json"))
    assert (status["status"], status["target"]) == ("RUNNING", "here")
    assert "two sessions of one run" in user.types("resume", "--here", code=3)
    watching = user.start("watch")
    assert watching.stdout is not None
    while "Training begins" not in watching.stdout.readline():
        assert watching.poll() is None
    said = user.types("cancel", "--yes")
    assert "ended" in said
    out, _ = watching.communicate(timeout=limit_s(60))
    assert "stopped" in out
    run, session = _last(user)
    assert (session.target, session.result) == ("here", "stopped")
    assert verify(run.checkpoints / f"checkpoint_t{_checkpoints(run)[-1]}.zip").session == 2
    ours = str(run.folder)
    assert not [p.pid for p in psutil.process_iter(["cmdline"]) if ours in " ".join(p.info["cmdline"] or [])]
