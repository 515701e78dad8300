"""Whole sessions are killed while they train and publish; the next one goes on from what the dataset holds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kernel.checkpoints.digests import read_digests
from kernel.contract import events
from launcher.local_kaggle.service import USERNAME
from tests.limits import limit_s

from .conftest import User

ROOT = Path(__file__).resolve().parents[2]
DATASET = f"{USERNAME}/killed-run-ckpt"
TOTAL = 320
KILLS = 3
DOWNLOAD = """
import sys, kagglehub
try:
    print(kagglehub.dataset_download(sys.argv[1], force_download=True))
except kagglehub.exceptions.KaggleApiHTTPError as error:
    assert error.response.status_code in (403, 404), error
    print()
"""


def _start(folder: Path, environ: dict[str, str], session: int, dataset: str) -> subprocess.Popen[bytes]:
    """A session in a process group of its own, its output in a file."""
    folder.mkdir()
    run = {
        "run_id": "killed-run",
        "total_timesteps": TOTAL,
        "checkpoint_freq": 10,
        "env": "toy_environments:SlowQueue",
        "hyperparameters": {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}},
    }
    settings = {"session": session, "device": "cpu", "dataset": dataset, "publish_interval_seconds": 0.2}
    (folder / "run.json").write_text(json.dumps({"run": run, "session": settings}))
    with (folder / "out.txt").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "kernel", "--config", "run.json"],
            cwd=folder,
            env=environ,
            stdout=out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _told(folder: Path, name: str) -> list[dict[str, Any]]:
    """Events of one name that a session printed."""
    lines = (folder / "out.txt").read_text("utf-8", "replace").splitlines()
    found = (events.parse(line) for line in lines)
    return [event.plain() for event in found if event is not None and event.name == name]


@pytest.mark.slow
def test_sessions_killed_at_random_instants_while_they_publish_end_bit_identical(user: User, tmp_path: Path) -> None:
    environ = user.kaggle.client_env(tmp_path / "home")
    mount = tmp_path / "mount"
    path = [environ["PYTHONPATH"], str(ROOT), str(ROOT / "tests" / "kernel")]
    environ |= {"PYTHONPATH": os.pathsep.join(path), "KAGGLE_CACHE_MOUNT_FOLDER": str(mount)}
    assert _start(tmp_path / "undisturbed", environ, 1, "").wait(limit_s(120)) == 0
    chance = random.Random(11)
    safe = 0
    for number in range(1, KILLS + 2):
        folder = tmp_path / f"session-{number}"
        session = _start(folder, environ, number, DATASET)
        if number > KILLS:
            assert session.wait(limit_s(120)) == 0
        else:
            while not _told(folder, "training"):
                assert session.poll() is None
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 1.8))
            os.killpg(session.pid, signal.SIGKILL)
            session.wait()
        (training,) = _told(folder, "training")
        assert training["num_timesteps"] >= safe, "what was published before is the least that it goes on from"
        safe = max([safe, *(event["num_timesteps"] for event in _told(folder, "published"))])
        command = [sys.executable, "-W", "ignore", "-c", DOWNLOAD, DATASET]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        shutil.rmtree(mount, ignore_errors=True)
        if downloaded := done.stdout.strip().splitlines()[-1:]:
            shutil.copytree(downloaded[0], mount / "datasets" / DATASET)
    (result,) = _told(folder, "result")
    assert (result["status"], result["num_timesteps"], result["exact"]) == ("finished", TOTAL, True)
    assert safe == TOTAL
    whole, last = (read_digests(tmp_path / name / "checkpoints") for name in ("undisturbed", folder.name))
    assert last[TOTAL] == whole[TOTAL]
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "undisturbed" / "metrics.jsonl").read_bytes()
