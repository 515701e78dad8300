"""Replay buffers that are large beside the disk, the memory or the time between checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from harness import Ear, configuration, digests, learn, learn_until

from kernel.checkpoints import checkpoint, retention, room
from kernel.contract import chunks
from kernel.contract.manifest import checkpoints_in, verify
from kernel.training import row_packing
from kernel.training.replay_store import ReplayStore
from tests.limits import limit_s

from .support import HERE, environment

WIDE = 500
"""Numbers of an observation: 1000 rows with two of them are 4 MB."""


def wide(**session: Any) -> Any:
    """DQN with 1000 rows of 4 kB in its buffer, and a checkpoint each 500 of 16,400 timesteps."""
    run = {
        "algorithm": "DQN",
        "env": "toy_environments:Wide",
        "env_kwargs": {"numbers": WIDE},
        "total_timesteps": 16_400,
        "checkpoint_freq": 500,
        "hyperparameters": {
            "buffer_size": 1000,
            "learning_starts": 16_000,
            "batch_size": 8,
            "policy_kwargs": {"net_arch": [8]},
        },
    }
    return configuration(run, checkpoint_seconds=0, **session)


def buffer_on_disk(folder: Path) -> int:
    """Bytes of the chunks of the newest checkpoint."""
    newest = checkpoints_in(folder / "checkpoints")[0]
    return sum(chunk.size for chunk in chunks.listed(verify(newest)))


def milestones(folder: Path) -> list[Path]:
    """Checkpoints without their replay buffer."""
    return list((folder / "checkpoints").glob("*.weights.zip"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Any]:
    """Makes a file system of so many bytes; None of the sizes that a test did not ask for."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this container may not mount")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run on a disk with room, with the most that its replay folder took in `most.json`."""
    folder = tmp_path_factory.mktemp("roomy")
    most = [0]
    original = checkpoint.write_new

    def measured(path: Path, data: bytes) -> None:
        original(path, data)
        taken = sum(file.stat().st_size for file in (folder / "checkpoints" / chunks.FOLDER).glob("*"))
        most[0] = max(most[0], taken)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write_new", measured)
        assert learn(wide(), folder)[0] == "finished"
    (folder / "most.json").write_text(json.dumps(most[0]))
    return folder


@pytest.mark.slow
def test_the_disk_takes_no_more_than_2_2_buffers_however_long_the_run(roomy: Path) -> None:
    most, one = json.loads((roomy / "most.json").read_text()), buffer_on_disk(roomy)
    assert one < 1000 * 4 * WIDE * 1.2, "next observations are held once"
    assert one < most <= room.REPLAY_BUFFERS * one
    assert len(milestones(roomy)) >= 5, "one for each power of two from the first checkpoint on, without their buffer"


@pytest.mark.slow
def test_on_a_disk_of_three_buffers_every_checkpoint_is_written(roomy: Path, small_disk: Any) -> None:
    disk, ear = small_disk(3 * buffer_on_disk(roomy) + 1_500_000), Ear()
    assert learn(wide(), disk, ear)[0] == "finished"
    assert ear.of("checkpoint_failed") == []
    assert digests(disk) == digests(roomy)


@pytest.mark.slow
def test_on_a_disk_that_is_too_small_milestones_go_and_the_run_is_the_same(
    roomy: Path, small_disk: Any, monkeypatch: Any
) -> None:
    disk, ear = small_disk(int(1.75 * buffer_on_disk(roomy)) + 700_000), Ear()
    monkeypatch.setattr(retention, "budget_bytes", lambda folder, asked=0: 1 << 60)
    learn_until(wide(), disk, 9_100, monkeypatch)
    assert learn(wide(), disk, ear)[0] == "finished"
    assert ear.of("training")[0]["num_timesteps"] == 9_000
    assert ear.of("inexact") == ear.of("checkpoint_failed") == []
    assert len(milestones(disk)) < len(milestones(roomy))
    assert digests(disk)[16_400] == digests(roomy)[16_400]


@pytest.mark.slow
def test_a_disk_for_no_buffer_at_all_is_told_each_time_with_how_often_and_the_training_ends(small_disk: Any) -> None:
    disk, ear = small_disk(1_000_000), Ear()
    assert learn(wide(), disk, ear)[0] == "finished"
    failed = ear.of("checkpoint_failed")
    assert [event["in_a_row"] for event in failed] == list(range(1, len(failed) + 1))
    assert len(failed) > 20
    assert "No space left" in failed[0]["reason"]


def rows_of(count: int) -> row_packing.Arrays:
    draw = np.random.default_rng(0)
    observations = draw.normal(size=(count + 1, 1, 2000)).astype(np.float32)
    return {"observations": observations[:-1], "next_observations": observations[1:]}


def test_memory_beside_the_buffer_is_some_chunks_whatever_its_size(tmp_path: Path) -> None:
    rows = rows_of(2_000)  # 32 MB
    like = {name: values[:0] for name, values in rows.items()}
    chunk_bytes = 1_000_000
    options: dict[str, Any] = {"buffer_size": 2_000, "chunk_rows": chunk_bytes // row_packing.row_bytes(like)}
    ring = {name: np.empty_like(values) for name, values in rows.items()}

    def put(first: int, part: row_packing.Arrays) -> None:
        for name, values in part.items():
            ring[name][first : first + len(values)] = values

    tracemalloc.start()
    try:
        store = ReplayStore(tmp_path, like, **options)
        for first in range(0, 2_000, 50):
            store.add({name: values[first : first + 50] for name, values in rows.items()})
        entries = store.commit()
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ReplayStore(tmp_path, like, **options).load(
            store.state(), [chunks.Chunk.named(**entry) for entry in entries], put
        )
        read = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert max(written, read) < 8 * chunk_bytes
    assert all(ring[name].tobytes() == rows[name].tobytes() for name in rows)


@pytest.mark.slow
def test_a_buffer_of_1_5_gb_costs_its_own_size_and_some_and_no_pause(tmp_path: Path) -> None:
    if psutil.virtual_memory().available < 4e9:
        pytest.skip(f"4 GB of memory are needed, {psutil.virtual_memory().available / 1e9:.1f} GB are there")

    def done(what: str, *numbers: float) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "large_buffer.py"), what, str(tmp_path / "session"), "1.5"]
        process = subprocess.run(
            [*command, *map(str, numbers)], env=environment(), capture_output=True, text=True, timeout=limit_s(240)
        )
        assert process.returncode == 0, process.stderr[-2000:]
        found: dict[str, Any] = json.loads(process.stdout)
        return found

    wrote = done("write", 1.5, 500)
    assert wrote["failed"] == []
    assert wrote["memory_bytes"] < wrote["buffer_bytes"] + 400_000_000
    assert wrote["disk_bytes"] < room.REPLAY_BUFFERS * wrote["stored_bytes"]
    assert wrote["stall_p95_s"] < limit_s(0.01)
    assert wrote["offer_p95_s"] < limit_s(0.01)
    read = done("read")
    assert read["memory_bytes"] < read["buffer_bytes"] + 400_000_000
    assert read["same_state"]
