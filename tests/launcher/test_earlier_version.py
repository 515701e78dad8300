"""Logs and datasets of kaglaunch 0.1 (tests/data/version_0_1), as this version's launcher reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.contract import chunks, events
from kernel.contract.config import RunConfig, from_mapping
from kernel.contract.manifest import verify
from launcher.runs import checkpoints
from launcher.runs.progress import Progress
from launcher.runs.records import new_run
from launcher.targets.base import LogLine
from launcher.transfers import PlainTransfers

from .local_kaggle.callers import DATASETS, until
from .stage import Stage

RECORDED = Path(__file__).resolve().parents[1] / "data" / "version_0_1"


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_every_event_of_its_log_is_understood(name: str) -> None:
    lines = (RECORDED / name / "session.log").read_text().splitlines()
    told = [events.parse(line) for line in lines if events.PREFIX in line]
    assert len(told) > 15
    assert all(event is not None for event in told)
    assert [event for event in told if isinstance(event, (events.Unknown, events.Malformed))] == []
    assert [event for event in told if event is not None and event.extra] == []
    progress = Progress()
    for line in lines:
        seconds, stream, text = line.split(" ", 2)
        progress.observe(LogLine(float(seconds), stream, text))
    assert (progress.num_timesteps, progress.published_timesteps, progress.total_timesteps) == (120, 100, 200)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_its_dataset_is_fetched_and_verifies(name: str, stage: Stage) -> None:
    files = {path.name: path.read_bytes() for path in (RECORDED / name / "dataset").iterdir()}
    config = from_mapping(RunConfig, json.loads(files["run.json"])["run"])
    run = new_run(config.run_id, "local", "local", config, stage.folder)
    stage.book.add_run(run)
    slug = run.dataset.split("/")[1]
    stage.call.dataset(slug, **{file.replace(".", "__"): data for file, data in files.items()})

    def status() -> str:
        try:
            return str(stage.call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=slug)["status"])
        except OSError:
            return ""

    until(lambda: status().upper() == "READY")
    (fetched,) = checkpoints.fetch(run, stage.backend(), stage.book, transfers=PlainTransfers(lambda line: None))
    assert (fetched.num_timesteps, fetched.verdict) == (100, "verified")
    assert fetched.path is not None
    chunks.verify(fetched.path, verify(fetched.path))
    assert (run.folder / "metrics.jsonl").read_bytes() == files["metrics.jsonl"]
