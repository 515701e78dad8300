"""A run with a replay buffer publishes each row once, and a new session goes on from it, whatever was lost."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.checkpoints.digests import read_digests
from kernel.contract import chunks, events
from kernel.contract.config import RunConfig
from kernel.contract.manifest import verify
from kernel.contract.names import replay_dataset
from launcher.local_kaggle.service import USERNAME
from launcher.runs import checkpoints
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend
from tests.launcher.local_kaggle.callers import DATASETS, Caller
from tests.limits import limit_s

from .conftest import User

pytestmark = [pytest.mark.slow, pytest.mark.trains, pytest.mark.timeout(limit_s(400))]

ROOT = Path(__file__).resolve().parents[2]
DATASET = f"{USERNAME}/chunky-run-ckpt"
REPLAY = replay_dataset(DATASET)
TOTAL = 1_600
RUN: dict[str, Any] = {
    "run_id": "chunky-run",
    "algorithm": "DQN",
    "total_timesteps": TOTAL,
    "checkpoint_freq": 100,
    "env": "toy_environments:Wide",
    "env_kwargs": {"numbers": 1_000},
    "hyperparameters": {
        "buffer_size": 800,
        "learning_starts": 100,
        "batch_size": 8,
        "policy_kwargs": {"net_arch": [4]},
    },
}
DOWNLOAD = """
import sys, kagglehub
print(kagglehub.dataset_download(sys.argv[1], force_download=True))
"""


class Sessions:
    """Sessions of one run in folders of their own, on the user's embedded Kaggle."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user, self.folder, self.mount = user, folder, folder / "mount"
        self.environ = user.kaggle.client_env(folder / "home")
        path = [self.environ["PYTHONPATH"], str(ROOT), str(ROOT / "tests" / "kernel")]
        self.environ |= {"PYTHONPATH": os.pathsep.join(path), "KAGGLE_CACHE_MOUNT_FOLDER": str(self.mount)}
        self.call = Caller(user.kaggle)

    def start(self, name: str, number: int = 1, dataset: str = DATASET, **session: Any) -> subprocess.Popen[bytes]:
        """Begin session `number` in the folder `name`."""
        folder = self.folder / name
        folder.mkdir()
        settings = {
            **{"session": number, "device": "cpu", "dataset": dataset, "publish_interval_seconds": 0.2},
            **{"replay_dataset_bytes": 100_000, "max_timesteps_at_risk": 200, "proof": False, **session},
        }
        (folder / "run.json").write_text(json.dumps({"run": RUN, "session": settings}))
        with (folder / "out.txt").open("wb") as out, (folder / "err.txt").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "kernel", "--config", "run.json"],
                cwd=folder,
                env=self.environ,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def ends(self, name: str, number: int = 1, dataset: str = DATASET, **session: Any) -> dict[str, Any]:
        """Run a session to its end; its result."""
        assert self.start(name, number, dataset, **session).wait(limit_s(150)) == 0
        return self.told(name, "result")[0]

    def told(self, name: str, event: str) -> list[dict[str, Any]]:
        """Events of one kind that a session printed."""
        lines = (self.folder / name / "out.txt").read_text("utf-8", "replace").splitlines()
        found = (events.parse(line) for line in lines)
        return [one.plain() for one in found if one is not None and one.name == event]

    def mount_newest(self) -> None:
        """Show the newest version to the next session, as Kaggle mounts it."""
        command = [sys.executable, "-W", "ignore", "-c", DOWNLOAD, DATASET]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=True)
        shutil.rmtree(self.mount, ignore_errors=True)
        shutil.copytree(done.stdout.strip().splitlines()[-1], self.mount / "datasets" / DATASET)

    def versions(self, dataset: str) -> dict[int, dict[str, int]]:
        """Files of all versions that are ready, and their sizes."""
        backend = self.backend()
        return {
            version.number: {file.name: file.size for file in backend.dataset_files(dataset, version.number)}
            for version in backend.dataset_versions(dataset)
        }

    def copies(self) -> Counter[str]:
        """In how many versions of the dataset of chunks each chunk is."""
        return Counter(name for files in self.versions(REPLAY).values() for name in files if name.startswith("chunk_"))

    def backend(self) -> KaggleBackend:
        running = self.user.kaggle.ensure_running(timeout_s=limit_s(20))
        return KaggleBackend(running.url, Credentials("a test", running.token, running.username))

    def fetched(self) -> int | None:
        """Timestep of the newest checkpoint that comes back, with every replay chunk."""
        config = RunConfig(**RUN)
        run = dataclasses.replace(new_run("chunky-run", "local", USERNAME, config, self.folder / "fetched"))
        results = checkpoints.fetch(run, self.backend(), Ledger(self.folder / "ledger.sqlite"))
        for result in results:
            if result.path is not None:
                chunks.verify(result.path, verify(result.path))
                return result.num_timesteps
        return None

    def delete(self, dataset: str) -> None:
        owner, slug = dataset.split("/")
        self.call(DATASETS, "DeleteDataset", ownerSlug=owner, datasetSlug=slug)

    def until(self, condition: Callable[[], Any], session: subprocess.Popen[bytes]) -> None:
        over = time.monotonic() + limit_s(60)
        while not condition():
            assert session.poll() is None, "it ended before"
            assert time.monotonic() < over
            time.sleep(0.02)


@pytest.fixture
def sessions(user: User, tmp_path: Path) -> Sessions:
    return Sessions(user, tmp_path)


def is_as(sessions: Sessions, name: str, undisturbed: str) -> bool:
    one, other = (read_digests(sessions.folder / folder / "checkpoints") for folder in (name, undisturbed))
    return one[TOTAL] == other[TOTAL]


def test_a_run_sends_what_is_new_and_a_session_goes_on_from_it(sessions: Sessions) -> None:
    result = sessions.ends("whole")
    assert (result["status"], result["published_timesteps"]) == ("finished", TOTAL)
    assert sessions.told("whole", "publish_failed") == []
    main, replay = sessions.versions(DATASET), sessions.versions(REPLAY)
    assert len(main) > 3
    assert set(sessions.copies().values()) == {1}
    received = sum(sum(files.values()) for files in (*main.values(), *replay.values()))
    rows = sum(size for files in replay.values() for name, size in files.items() if name.startswith("chunk_"))
    weights = sum(size for files in main.values() for name, size in files.items() if not name.startswith("chunk_"))
    growing = max(size for files in replay.values() for name, size in files.items() if name.startswith("chunk_"))
    assert received <= 1.3 * (rows + weights) + growing * len(main), "of each publish the chunk that grows besides"
    assert sum(event["bytes"] for event in sessions.told("whole", "published")) >= 0.9 * received
    assert sessions.fetched() == TOTAL

    sessions.mount_newest()
    mounted = {path.name for path in (sessions.mount / "datasets" / DATASET).iterdir()}
    assert sum(name.startswith("chunk_") for name in mounted) <= 1, "the others are to be downloaded"
    again = sessions.ends("again", number=2)
    assert (again["status"], again["num_timesteps"]) == ("finished", TOTAL)
    assert sessions.told("again", "checkpoint_refused") == []


def test_a_kill_between_chunks_and_their_main_version_costs_no_second_sending(sessions: Sessions) -> None:
    sessions.ends("undisturbed", dataset="")
    first = sessions.start("killed")
    sessions.until(lambda: sessions.told("killed", "published"), first)
    sessions.user.kaggle.change_settings(dataset_finish_s=1.5)
    known = len(sessions.versions(REPLAY))
    sessions.until(lambda: len(sessions.versions(REPLAY)) > known, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    sessions.user.kaggle.change_settings(dataset_finish_s=0.05)
    safe = sessions.told("killed", "published")[-1]["num_timesteps"]
    sessions.mount_newest()
    result = sessions.ends("next", number=2)
    (training,) = sessions.told("next", "training")
    assert training["num_timesteps"] >= safe > 0
    assert (result["status"], result["exact"]) == ("finished", True)
    assert set(sessions.copies().values()) == {1}
    assert is_as(sessions, "next", "undisturbed")
    assert sessions.fetched() == TOTAL


def test_chunks_that_are_deleted_meanwhile_are_missed_and_sent_again(sessions: Sessions) -> None:
    running = sessions.start("robbed")
    sessions.until(lambda: len(sessions.told("robbed", "published")) > 1, running)
    sessions.delete(REPLAY)
    assert running.wait(limit_s(150)) == 0
    (result,) = sessions.told("robbed", "result")
    assert REPLAY in sessions.told("robbed", "publish_lost")[0]["reason"]
    assert result["published_timesteps"] == sessions.fetched() == TOTAL


def test_a_checkpoint_whose_chunks_cannot_be_had_is_refused_once_and_the_run_begins(sessions: Sessions) -> None:
    sessions.ends("whole", max_timesteps_at_risk=0)
    sessions.mount_newest()
    sessions.delete(REPLAY)
    assert sessions.fetched() is None
    result = sessions.ends("next", number=2, max_timesteps_at_risk=0)
    (refused,) = sessions.told("next", "checkpoint_refused")
    assert REPLAY in refused["reason"]
    assert sessions.told("next", "training")[0]["num_timesteps"] == 0
    assert (result["status"], result["restarts"]) == ("finished", 0)


def test_a_first_version_that_is_slow_to_come_is_waited_for(sessions: Sessions) -> None:
    sessions.user.kaggle.change_settings(dataset_finish_s=3.0)
    result = sessions.ends("slow", max_timesteps_at_risk=0)
    assert result["published_timesteps"] == sessions.fetched() == TOTAL
    assert sessions.told("slow", "publish_failed") == []
    assert set(sessions.copies().values()) == {1}
