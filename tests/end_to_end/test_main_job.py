"""The main job as a newcomer meets it: real commands, real processes, real SIGKILL, real training."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.manifest import verify
from tests.limits import limit_s

from .conftest import User

pytestmark = pytest.mark.slow
README = Path(__file__).resolve().parents[2] / "README.md"


def _readme_commands() -> list[list[str]]:
    """Arguments of the commands of a first run that README shows, in its order."""
    first = README.read_text(encoding="utf-8").partition("## A first run")[2].partition("\n## ")[0]
    found = re.findall(r"^kaglaunch ([a-z][^#\n]*?) *#", first, re.MULTILINE)
    return [line.split() for line in found]


def _report(user: User) -> list[dict[str, Any]]:
    return json.loads(user.types("report", "--json"))["sessions"]


def _kill_at(user: User, num_timesteps: int) -> None:
    """The next session is at its hard limit once it says that this checkpoint is written."""
    user.kaggle.set_fault("session_limit_at_log", rf'"event": "checkpoint".*"num_timesteps": {num_timesteps}\b')


def test_the_commands_of_the_readme_work_in_an_empty_folder(anyone: User) -> None:
    commands = _readme_commands()
    assert [command[0] for command in commands] == ["doctor", "push", "watch", "fetch-checkpoints", "resume"]
    for command in commands[:4]:
        said = anyone.types(*command)
    assert "verified" in said
    (checkpoint,) = anyone.checkpoints()
    assert verify(checkpoint).num_timesteps == 100
    said = anyone.types(*commands[4])
    assert "is finished: 100 of 100 timesteps" in said
    assert len(_report(anyone)) == 1


def test_a_killed_session_costs_at_most_one_publish_interval_and_the_run_is_finished(user: User) -> None:
    _kill_at(user, 50)
    user.types("push", "--quick")
    said = user.types("watch", code=6)
    assert "exceeded the max allowed execution duration" in said
    user.types("fetch-checkpoints")
    (checkpoint,) = user.checkpoints()
    fetched = verify(checkpoint).num_timesteps
    (killed,) = _report(user)
    assert killed["done_timesteps"] >= 50
    assert killed["published_timesteps"] == fetched
    assert killed["lost_timesteps"] == killed["done_timesteps"] - fetched
    assert 0 <= killed["lost_timesteps"] <= 20
    assert killed["bound"].startswith("20 timesteps, ")
    assert killed["bound"].endswith(" as measured so far")

    user.kaggle.clear_faults()
    user.types("resume", "--device", "cpu")
    _, second = _report(user)
    assert second["from_timesteps"] == fetched
    assert (second["done_timesteps"], second["lost_timesteps"], second["result"]) == (100, 0, "finished")
    user.types("fetch-checkpoints", "--all")
    for path in user.checkpoints():
        verify(path)
    assert any(path.name == "checkpoint_t100.zip" for path in user.checkpoints())


def test_a_fetched_checkpoint_opens_in_plain_stable_baselines3(user: User) -> None:
    user.types("push", "--quick", "--watch")
    user.types("fetch-checkpoints", "--all")
    files = user.checkpoints()
    assert len(files) >= 3
    code = (
        "import sys; from stable_baselines3 import PPO\n"
        "for name in sys.argv[1:]: print(PPO.load(name, device='cpu').num_timesteps)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True, cwd="/"
    )
    named = [int(re.findall(r"_t(\d+)", path.name)[0]) for path in files]
    assert [int(line) for line in done.stdout.split()] == named


def test_ctrl_c_in_watch_leaves_the_session_running_and_says_how_to_come_back(user: User) -> None:
    user.types("push", "--quick")
    watching = user.start("watch")
    assert watching.stdout is not None
    while "session" not in watching.stdout.readline().split(":")[0]:
        assert watching.poll() is None
    watching.send_signal(2)
    _, err = watching.communicate(timeout=limit_s(30))
    assert watching.returncode == 130
    assert "kaglaunch watch" in err
    (session,) = user.kaggle.status()["sessions"]
    assert session["state"] in ("RUNNING", "COMPLETE")  # it may have done its hundred timesteps by now
    assert "is finished" in user.types("watch")


def test_a_server_that_is_killed_under_a_watch_comes_back_and_the_session_ends_well(user: User) -> None:
    user.types("push", "--quick")
    watching = user.start("watch")
    assert watching.stdout is not None
    while "training" not in watching.stdout.readline():
        assert watching.poll() is None
    endpoint = user.kaggle.find()
    assert endpoint is not None
    subprocess.run(["kill", "-9", str(endpoint.pid)], check=True)
    out, err = watching.communicate(timeout=limit_s(120))
    assert watching.returncode == 0, out + err
    assert "is finished: 100 of 100 timesteps" in out


def test_two_pushes_at_once_are_two_runs_that_both_finish(user: User) -> None:
    pushes = [user.start("push", "--quick") for _ in range(2)]
    outputs = [push.communicate(timeout=limit_s(120)) for push in pushes]
    assert [push.returncode for push in pushes] == [0, 0], outputs
    runs = [re.findall(r"of run (quick-\w+)", out)[0] for out, _ in outputs]
    assert len(set(runs)) == 2
    for run in runs:
        assert f"Run {run} is finished" in user.types("watch", run)


def test_a_second_session_is_refused_while_the_first_runs(user: User) -> None:
    user.types("push", "--quick")
    said = user.types("resume", "--device", "cpu", code=3)
    assert "kaglaunch watch" in said
    user.types("watch")


@pytest.mark.alone
def test_demo_ends_within_its_time(user: User) -> None:
    began = time.monotonic()
    said = user.types("demo")
    assert "timesteps safe, finished" in said
    # Not a benchmark: the promise to a newcomer, with room for a busy machine.
    assert time.monotonic() - began < limit_s(30)
