"""A run that kaglaunch 0.1 pushed (tests/data/version_0_1): this version follows it, tells of it and brings it here."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kernel.contract import names
from kernel.contract.manifest import verify
from tests.launcher.local_kaggle.callers import DATASETS, Caller, reaches
from tests.limits import limit_s, until

from .conftest import User

pytestmark = pytest.mark.slow
RECORDED = Path(__file__).resolve().parents[1] / "data" / "version_0_1"
AT_ITS_LIMIT = '"event": "published".*"num_timesteps": 1[0-9]{2}'
"""The line of the log at which the session was cut off when it was recorded."""
ITS_FIGURES = "after 120 of 200 timesteps, t100 of them published, 20 lost"
PLAYS = """
import pathlib, time
while not pathlib.Path({gate!r}).exists():
    time.sleep(0.01)
for line in {lines!r}:
    print(line, flush=True)
time.sleep(600)
"""


@dataclass
class Left:
    """What 0.1 left behind when this version took its place: `known` is its ledger, `pushed` or `watched`."""

    user: User
    recorded: Path
    known: str
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.run_id = json.loads((self.recorded / "dataset" / "run.json").read_text("utf-8"))["run"]["run_id"]
        self._gate = self.user.folder / "goes-on"
        self._keep_ledger()
        self._publish()
        lines = [line.split(" ", 2)[2] for line in self.log.splitlines()]
        self.user.kaggle.set_fault("session_limit_at_log", AT_ITS_LIMIT)
        self.call.push(self._slug, PLAYS.format(gate=str(self._gate), lines=lines))
        reaches(self.call, self._slug, "RUNNING")

    @property
    def call(self) -> Caller:
        return Caller(self.user.kaggle)

    @property
    def folder(self) -> Path:
        """Where logs and checkpoints of the run lie."""
        return self.user.folder / "runs" / self.run_id

    @property
    def log(self) -> str:
        """What its session said, as it was kept: seconds, stream and line."""
        return (self.recorded / "session.log").read_text("utf-8")

    @property
    def _slug(self) -> str:
        return names.kernel_slug(self.run_id, 1)

    def goes_on(self) -> None:
        """Let the session say what it said, up to where it was cut off."""
        self._gate.touch()

    def is_cut_off(self) -> None:
        """Let it go on, and wait for its end."""
        self.goes_on()
        reaches(self.call, self._slug, "CANCEL_ACKNOWLEDGED")

    def types(self, verb: str, *arguments: str, code: int = 0) -> str:
        """A command about this run; everything that it says, in single spaces."""
        return " ".join(self.user.types(verb, self.run_id, *arguments, code=code).split())

    def report(self) -> dict[str, Any]:
        """The figures of its only session, and how much of the run is safe."""
        told = json.loads(self.user.types("report", self.run_id, "--json"))
        (session,) = told["sessions"]
        assert (told["safe_timesteps"], told["total_timesteps"]) == (100, 200)
        return {name: session[f"{name}_timesteps"] for name in ("done", "safe", "lost")} | {"ended": session["ended"]}

    def is_brought_here(self) -> None:
        """`fetch-checkpoints` brings what was published, byte for byte."""
        said = self.types("fetch-checkpoints")
        assert "t100 version 2" in said
        assert "verified" in said
        (checkpoint,) = self.user.checkpoints()
        assert checkpoint == self.folder / "checkpoints" / "checkpoint_t100.zip"
        assert verify(checkpoint, run_id=self.run_id).num_timesteps == 100
        metrics = "metrics.jsonl"
        assert (self.folder / metrics).read_bytes() == (self.recorded / "dataset" / metrics).read_bytes()

    def _keep_ledger(self) -> None:
        """The ledger, with its runs of a minute ago in this user's folder."""
        path = Path(self.user.environ["XDG_STATE_HOME"]) / "kaglaunch" / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.executescript((RECORDED / f"ledger-{self.known}.sql").read_text("utf-8"))
            db.execute(
                "UPDATE runs SET folder = ? || run_id, created = ?", (f"{self.folder.parent}/", time.time() - 60)
            )
            db.execute("UPDATE sessions SET pushed = ?", (time.time() - 60,))

    def _publish(self) -> None:
        """The version that proved that checkpoints have a way out, and the last one."""
        files = {path.name: path.read_bytes() for path in (self.recorded / "dataset").iterdir()}
        slug = names.dataset_slug(self.run_id)
        self.call.dataset(slug, run__json=files["run.json"])
        until(self._has_versions(1))
        tokens = [{"token": self.call.upload(name, content)} for name, content in files.items()]
        body = {"versionNotes": names.version_note(100, 1), "files": tokens}
        self.call(DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug=slug, body=body)
        until(self._has_versions(2))

    def _has_versions(self, count: int) -> Callable[[], bool]:
        def ready() -> bool:
            versions = [version for one in self.user.kaggle.status()["datasets"] for version in one["versions"]]
            return [version["state"] for version in versions] == ["READY"] * count

        return ready


def test_its_session_is_followed_to_the_end_from_where_it_is(user: User) -> None:
    left = Left(user, RECORDED / "ppo", "pushed")
    user.kaggle.set_fault("keep_log_on_limit", True)  # or the last lines may be gone before they are read
    watching = user.start("watch", left.run_id)
    assert watching.stdout is not None
    while "[RUNNING]" not in (line := watching.stdout.readline()):
        assert line, "the watch ended before it saw the session"
    left.goes_on()
    _, said = watching.communicate(timeout=limit_s(60))
    assert watching.returncode == 6
    assert f"The session was cut off {ITS_FIGURES}" in said
    assert f"Nothing published is lost: go on with `kaglaunch resume {left.run_id}`." in said
    kept = (left.folder / "session-1.log").read_text("utf-8")
    assert [line.split(" ", 2)[2] for line in kept.splitlines()] == [
        line.split(" ", 2)[2] for line in left.log.splitlines()
    ]
    assert left.report() == {"done": 120, "safe": 100, "lost": 20, "ended": "killed"}


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_its_session_that_is_over_is_read_from_the_log_that_the_target_kept(user: User, algorithm: str) -> None:
    left = Left(user, RECORDED / algorithm, "pushed")
    user.kaggle.set_fault("keep_log_on_limit", True)
    left.is_cut_off()
    assert "1 cpu 0 120 100 20 killed" in left.types("report")
    assert f"The session was cut off {ITS_FIGURES}" in left.types("watch", code=6)
    left.is_brought_here()
    assert left.report() == {"done": 120, "safe": 100, "lost": 20, "ended": "killed"}


def test_what_it_had_watched_itself_is_kept_when_the_target_has_no_log(user: User) -> None:
    left = Left(user, RECORDED / "ppo", "watched")
    left.folder.mkdir(parents=True)
    (left.folder / "session-1.log").write_text(left.log, "utf-8")
    left.is_cut_off()
    assert left.report() == {"done": 120, "safe": 100, "lost": 20, "ended": "killed"}
    assert f"The session was cut off {ITS_FIGURES}" in left.types("watch", code=6)
    assert (left.folder / "session-1.log").read_text("utf-8") == left.log
    left.is_brought_here()
    assert "1 cpu 0 120 100 20 killed" in left.types("report")


def test_of_a_session_that_nobody_followed_what_it_published_is_told(user: User) -> None:
    left = Left(user, RECORDED / "ppo", "pushed")
    left.is_cut_off()
    said = left.types("watch", code=6)
    assert "cut off after an unknown number of timesteps, t100 of them published; its outputs and its log are" in said
    assert left.report() == {"done": 100, "safe": 100, "lost": None, "ended": "killed"}
    assert "1 cpu 0 100 100 unknown killed" in left.types("report")
    left.is_brought_here()
