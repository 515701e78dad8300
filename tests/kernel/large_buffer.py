"""A real ReplayBuffer of stacked frames through feed, writer and disk, and back: what that takes, as JSON.

    python large_buffer.py write FOLDER GIGABYTES TURNS STEPS_PER_S
    python large_buffer.py read FOLDER GIGABYTES

`write` fills the buffer TURNS times over, at such a pace, with a checkpoint each 12th of it; `read` loads it.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from kernel.checkpoints import checkpoint, retention
from kernel.contract import chunks
from kernel.contract.config import RunConfig, SessionConfig
from kernel.contract.manifest import checkpoints_in, verify
from kernel.training import codec
from kernel.training.metrics import MetricsFile
from kernel.training.replay_store import ReplayStore
from kernel.training.row_feed import RowFeed
from kernel.training.sb3 import replay
from kernel.training.writer import CheckpointWriter, Lineage, Snapshot

FRAME = (1, 84, 84)
ROW_BYTES = 2 * 4 * 84 * 84
POOL = 512
"""Random frames that are drawn from: drawing each anew would take longer than everything else."""


class Buffer:
    """The part of a Learner that a replay buffer is asked for."""

    def __init__(self, gigabytes: float) -> None:
        self.buffer_size = int(gigabytes * 1e9 / ROW_BYTES)
        space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
        buffer = ReplayBuffer(
            self.buffer_size, space, spaces.Discrete(4), device="cpu", handle_timeout_termination=True
        )
        self.model = SimpleNamespace(replay_buffer=buffer, num_timesteps=0, n_envs=1)
        self._frames = self._drawn()
        self._stack = np.zeros((1, 4, 84, 84), np.uint8)

    def step(self) -> None:
        """One row of random frames; an episode ends every thousand."""
        before = self._stack
        self._stack = np.concatenate([before[:, 1:], next(self._frames)], axis=1)
        t = self.model.num_timesteps
        done = np.array([t % 1000 == 999])
        self.model.replay_buffer.add(before, self._stack, np.array([t % 4]), np.array([0.5]), done, [{}])
        self.model.num_timesteps = t + 1

    @property
    def rows_done(self) -> int:
        return replay.rows_done(self.model)

    def copy_rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        return replay.copy_rows(self.model, first, last)

    def _drawn(self) -> Iterator[np.ndarray]:
        draw = np.random.default_rng(0)
        pool = draw.integers(0, 256, (POOL, *FRAME), dtype=np.uint8)
        t = 0
        while True:
            frame = pool[t % POOL].copy()
            frame[0, 0, :8] = np.frombuffer(np.int64(t).tobytes(), np.uint8)
            t += 1
            yield frame[None]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def members(state: Mapping[str, Any]) -> dict[str, bytes]:
    return {"data": b""}


def write(folder: Path, gigabytes: float, turns: float, steps_per_s: float) -> dict[str, Any]:
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    before = peak_bytes()
    buffer = Buffer(gigabytes)
    store = ReplayStore(checkpoints / chunks.FOLDER, buffer.copy_rows(0, 0), buffer.buffer_size)
    run = RunConfig("large-run", 10**9, 1000)
    events: list[Any] = []
    lineage = Lineage(run, SessionConfig(keep_checkpoints=3), 10**9, {}, {})
    metrics = MetricsFile(folder / "metrics.jsonl")
    writer = CheckpointWriter(checkpoints, lineage, members, metrics, events.append, store)
    feed = RowFeed(buffer, store, writer)
    total, stalls, offers = int(turns * buffer.buffer_size), [], []
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], retention.used_bytes(checkpoints))

    looking = threading.Thread(target=look)
    looking.start()
    began = time.monotonic()
    for t in range(1, total + 1):
        buffer.step()
        at = time.perf_counter()
        feed.offer()
        offers.append(time.perf_counter() - at)
        if t % (buffer.buffer_size // 12) == 0:
            at = time.perf_counter()
            writer.put(Snapshot(t, {"t": t}, {}, [], replay_rows=feed.rest()))
            stalls.append(time.perf_counter() - at)
        if (early := began + t / steps_per_s - time.monotonic()) > 0.001:
            time.sleep(early)
    writer.close()
    over.set()
    looking.join()
    newest = checkpoints_in(checkpoints)[0]
    return {
        "buffer_bytes": store.buffer_bytes,
        "stored_bytes": sum(chunk.size for chunk in chunks.listed(verify(newest))),
        "memory_bytes": peak_bytes() - before,
        "disk_bytes": most[0],
        "stalls": len(stalls),
        "stall_p95_s": float(np.quantile(stalls, 0.95)),
        "stall_max_s": max(stalls),
        "offer_max_s": max(offers),
        "offer_p95_s": float(np.quantile([offer for offer in offers if offer > 2e-4] or [0.0], 0.95)),
        "failed": [event.plain() for event in events if event.name == "checkpoint_failed"],
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time(),
    }


def read(folder: Path, gigabytes: float) -> dict[str, Any]:
    before = peak_bytes()
    buffer = Buffer(gigabytes)
    checkpoints = folder / "checkpoints"
    path = checkpoints_in(checkpoints)[0]
    manifest = verify(path)
    chunks.verify(path, manifest)
    store = ReplayStore(checkpoints / chunks.FOLDER, buffer.copy_rows(0, 0), buffer.buffer_size)
    saved = codec.decode(checkpoint.read_state(path, manifest))["replay"]
    began = time.monotonic()
    store.load(
        saved, chunks.listed(manifest), lambda first, rows: replay.put_rows(buffer.model, first, rows, saved["rows"])
    )
    return {
        "memory_bytes": peak_bytes() - before,
        "buffer_bytes": store.buffer_bytes,
        "seconds": time.monotonic() - began,
        "same_state": store.state() == saved,
        "rows": saved["rows"],
    }


if __name__ == "__main__":
    what, folder, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps({"write": write, "read": read}[what](Path(folder), *map(float, numbers))))
