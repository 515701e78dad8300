"""Runs whose sessions play a script: real pushes to a real embedded Kaggle, real processes, known to a real ledger."""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.manifest import verify
from launcher.config import Settings
from launcher.local_kaggle.service import LocalKaggle
from launcher.packing.bundle import Bundle
from launcher.runs import submission
from launcher.runs.bound_run import BoundRun
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, new_run
from launcher.runs.submission import Prepared
from launcher.targets import target
from launcher.targets.base import Kernel
from launcher.targets.kaggle import KaggleBackend
from tests.limits import limit_s, until

from .local_kaggle.callers import DATASETS, FAST, Caller
from .test_checkpoints import checkpoint_members, zipped

SAY = """
import json, os, sys, time
began = time.monotonic()
def say(event, **fields):
    line = {"event": event, "schema": 1, "time": round(time.monotonic() - began, 3), **fields}
    print("@kaglaunch " + json.dumps(line), flush=True)
def begin():
    say("session", session_id=int(os.environ["KAGGLE_CONTAINER_NAME"].split("-")[-2]), session=1)
"""
"""What every script begins with."""
FINISHED = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
for t in range(10, 101, 10):
    say("progress", num_timesteps=t, total_timesteps=100, steps_per_s=50.0, reward=t / 100, queue=5.0)
    time.sleep(0.02)
say("published", num_timesteps=100, bytes=1, files=1, seconds=0.1, version=1)
say("result", status="finished", num_timesteps=100, total_timesteps=100, published_timesteps=100)
"""
"""A session that does all of its hundred timesteps."""
ENDLESS = 'begin()\nsay("training", num_timesteps=0, total_timesteps=100)\ntime.sleep(600)\n'


@dataclass
class Stage:
    """Where scripts are played: `kaggle` and the ledger are those of the commands that a test types."""

    kaggle: LocalKaggle
    folder: Path
    _runs: int = field(default=0, init=False)

    @property
    def book(self) -> Ledger:
        return Ledger()

    @property
    def call(self) -> Caller:
        return Caller(self.kaggle)

    def backend(self) -> KaggleBackend:
        backend = target.Target(target.TargetName.local, "for a test").connect()
        assert isinstance(backend, KaggleBackend)
        return backend

    def new_run(self, target: str = "local") -> Run:
        self._runs += 1
        run_id = f"staged-run{self._runs}"
        return new_run(run_id, target, "local", RunConfig(run_id, 100, 10), self.folder)

    def start(self, run: Run, script: str, *, number: int = 1, **kernel: object) -> str:
        """Push `script` as session `number`, by the very steps of `kaglaunch push`; the address of its page."""
        source = (SAY + textwrap.dedent(script)).encode()
        config = Configuration(run.config, SessionConfig(session=number, dataset=run.dataset, device="cpu"))
        values = {"slug": run.slug(number), "script": source, "accelerator": None, "timeout_s": 43_200} | kernel
        prepared = Prepared(config, Bundle(source, {}), Kernel(**values))  # type: ignore[arg-type]
        return submission.start(
            BoundRun(run, self.book, backend=self.backend()), prepared, Settings(), after=number - 1
        )

    def begins(self, script: str, target: str = "local", **kernel: object) -> Run:
        """A new run whose first session plays `script`; of the target kaggle it is this very server that is meant."""
        run = self.new_run(target)
        self.start(run, script, **kernel)
        return run

    def publish(self, run: Run, num_timesteps: int, *, wait: bool = True) -> None:
        """A dataset version with one whole checkpoint of `run`."""
        slug = run.dataset.split("/")[1]
        content = zipped(checkpoint_members(num_timesteps, run.run_id, run.config.digest))
        self.call.dataset(slug, **{f"checkpoint_t{num_timesteps}__zip__bin": content})
        if wait:
            until(lambda: self._dataset_state(slug) == "READY")

    def _dataset_state(self, slug: str) -> str:
        with contextlib.suppress(OSError):
            return str(self.call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=slug)["status"]).upper()
        return ""

    def verified(self, run: Run) -> list[int]:
        """Timesteps of the checkpoints that lie here and verify."""
        return sorted(verify(path).num_timesteps for path in run.checkpoints.glob("checkpoint_t*.zip"))

    def sessions(self, run: Run) -> list[str]:
        """States of all sessions of `run` that the target has."""
        mine = f"local/{run.run_id}-s"
        return [one["state"] for one in self.kaggle.status()["sessions"] if one["kernel"].startswith(mine)]


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A stage whose user has a home of their own below `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("KAGGLE_", "KAGLAUNCH_")):
                patch.delenv(name)
        (folder / "home").mkdir()
        patch.setenv("REAL_HOME", os.environ["HOME"])
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.chdir(folder)
        service = target.local_kaggle()
        service.ensure_running(timeout_s=limit_s(20))
        service.change_settings(**FAST)
        yield Stage(service, folder)
        service.stop()
