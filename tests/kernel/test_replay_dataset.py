"""Sealed replay chunks are published once, in a dataset of their own, whatever the service and the session suffer."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.checkpoints import checkpoint
from kernel.contract import chunks, index
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import Manifest
from kernel.contract.names import replay_dataset
from kernel.session import replay_dataset as replay
from kernel.session.upload import UploadFailed
from tests.kernel.test_publisher import MAIN, RUN, Bench

ROWS = 10
"""Of a chunk."""
BYTES = 5_000
"""Of a sealed chunk."""
REPLAY = replay_dataset(MAIN)
PART = 3 * BYTES + 500


class Store(Bench):
    """A publisher whose checkpoints have a replay buffer of `buffer` rows."""

    def __init__(self, folder: Path, faults: list[Any] | None = None, buffer: int = 60, **more: Any) -> None:
        super().__init__(folder, faults, **{"replay_dataset_bytes": BYTES, **more})
        self.buffer = buffer
        self.publisher._replay.part_bytes = PART

    def write(self, t: int, size: int = 200) -> Path:
        """A checkpoint at `t` with the rows of `t` timesteps, as the trainer leaves it."""
        listed = []
        folder = self.folder / "checkpoints" / chunks.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for first in range(max(0, t - self.buffer) // ROWS * ROWS, t, ROWS):
            last = min(first + ROWS, t)
            data = random.Random(f"{first} {last}").randbytes(BYTES * (last - first) // ROWS)
            chunk = Chunk.named(first, last, hashlib.sha256(data).hexdigest(), len(data))
            (folder / chunk.name).write_bytes(data)
            listed.append(chunk.entry())
        details = {chunks.DETAIL: listed, chunks.ROWS_DETAIL: ROWS}
        manifest = Manifest("quick-run", 1, t, 100, RUN.digest, {}, state_digest=f"{t:064d}", details=details)
        path = self.folder / "checkpoints" / f"checkpoint_t{t}.zip"
        checkpoint.write_new(path, checkpoint.to_bytes(manifest, {"data": random.Random(t).randbytes(size)}))
        return path

    def publish(self, t: int) -> None:
        """Write the checkpoint at `t` and let it be published."""
        self.write(t)
        self.publisher.notify()
        self.until(lambda: self.publisher.published == t)

    def again(self, **session: Any) -> Store:
        """Another process over the same folder and service: nothing is remembered."""
        datasets = (self.publisher._dataset, self.publisher._replay.dataset)
        for dataset in datasets:
            dataset.uploader = Killed()  # type: ignore[assignment]
        self.publisher.abandon()
        self.publisher.close()
        self.publisher._thread.join()
        other = Store(self.folder, buffer=self.buffer, **session)
        other.clock.now = self.clock.now
        self.service.clock = other.clock
        other.service = self.service
        for dataset in (other.publisher._dataset, other.publisher._replay.dataset):
            dataset.uploader = self.service
        return other

    def copies(self) -> Counter[str]:
        """In how many versions of the dataset of chunks each chunk is, whole."""
        versions = self.service.datasets.get(REPLAY, [])
        whole = [name for _, files, _ in versions for name, data in files.items() if is_chunk(name, data)]
        return Counter(whole)

    def restorable(self) -> int | None:
        """Timestep of the newest checkpoint that can be had: every chunk where the index says that it is."""
        for _, files, _ in reversed(self.service.versions):
            if not index.is_of(files["index.json"], {name: len(data) for name, data in files.items()}):
                continue
            for entry in json.loads(files["index.json"])["checkpoints"]:
                places = index.elsewhere(files["index.json"], REPLAY)[entry["num_timesteps"]]
                if all(self._has(files, chunk["file"], places) for chunk in entry.get("chunks", [])):
                    return int(entry["num_timesteps"])
        return None

    def _has(self, files: dict[str, bytes], name: str, places: dict[str, index.Elsewhere]) -> bool:
        if name not in places:
            return is_chunk(name, files[name])
        versions = self.service.datasets.get(REPLAY, [])
        number = places[name].place.version
        return number <= len(versions) and is_chunk(name, versions[number - 1][1].get(name, b""))


class Killed:
    """Of a process that is no more: nothing that it asks for happens."""

    def __getattr__(self, name: str) -> Any:
        raise UploadFailed("killed")


def is_chunk(name: str, data: bytes) -> bool:
    return name == f"chunk_{hashlib.sha256(data).hexdigest()}.bin"


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Store]:
    return lambda *args, **kwargs: Store(tmp_path, *args, **kwargs)


def test_sealed_chunks_go_once_and_the_growing_one_with_each_checkpoint(store: Callable[..., Store]) -> None:
    b = store()
    b.publisher.start()
    for t in (25, 47, 68, 95):
        b.publish(t)
        _, files, _ = b.service.versions[-1]
        assert sum(name.startswith("chunk_") for name in files) == 1, "the one that still grows"
        assert b.restorable() == t
    b.publisher.close()
    assert set(b.copies().values()) == {1}
    assert len(b.copies()) == 9, "rows 0 to 90"


def test_a_run_with_little_replay_keeps_one_dataset(store: Callable[..., Store]) -> None:
    b = store(replay_dataset_bytes=BYTES * 100)
    b.publisher.start()
    b.publish(47)
    b.publisher.close()
    assert REPLAY not in b.service.datasets
    assert sum(name.startswith("chunk_") for name in b.service.versions[-1][1]) == 5
    assert "version" not in json.loads(b.service.versions[-1][1]["index.json"])["checkpoints"][0]["chunks"][0]


def test_a_version_of_chunks_holds_no_more_than_one_upload_is_given_time_for(store: Callable[..., Store]) -> None:
    b = store(buffer=200)
    b.publisher.start()
    b.publish(95)
    b.publisher.close()
    held = [sum(name.startswith("chunk_") for name in files) for _, files, _ in b.service.datasets[REPLAY]]
    assert held[0] == 3
    assert sum(held) == 9


def test_no_version_has_so_many_files_that_the_client_packs_them(
    store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "FIRST_PART_BYTES", 1 << 40)
    b = store(buffer=2_000)
    b.publisher._replay.part_bytes = 1 << 40
    b.publisher.start()
    b.publish(995)
    b.publisher.close()
    assert max(len(files) for _, files, _ in b.service.datasets[REPLAY]) <= 50
    assert len(b.copies()) == 99


def test_the_main_version_comes_after_the_chunks_that_it_names(store: Callable[..., Store]) -> None:
    b = store()
    b.service.processing = 60.0
    b.publisher.start()
    b.publish(47)
    b.publisher.close()
    chunks_ready = max(at for at, _, _ in b.service.datasets[REPLAY]) + 60.0
    assert b.service.versions[-1][0] >= chunks_ready


def test_what_was_sent_before_a_kill_is_not_sent_again(store: Callable[..., Store]) -> None:
    b = store(buffer=200)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(95)
    b.until(lambda: len(b.service.datasets.get(REPLAY, [])) == 1)
    other = b.again(session=2)
    other.publisher.start()
    other.until(lambda: other.publisher.published == 95)
    other.publisher.close()
    assert set(other.copies().values()) == {1}
    assert other.restorable() == 95


def test_a_timeout_costs_one_part_and_what_was_sent_stays(store: Callable[..., Store]) -> None:
    b = store([None, None, None, "hang", "hang"], buffer=200)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.publish(95)
    b.publisher.close()
    assert len(b.named("publish_failed")) == 2
    assert set(b.copies().values()) == {1}
    assert b.restorable() == 95


def test_an_answer_that_was_lost_is_no_reason_to_send_again(store: Callable[..., Store]) -> None:
    b = store([None, "answer lost"])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.publish(47)
    b.publisher.close()
    assert set(b.copies().values()) == {1}


def test_chunks_that_are_listed_with_another_size_are_sent_again(store: Callable[..., Store]) -> None:
    b = store([None, "torn"])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.publish(47)
    b.publisher.close()
    assert len(b.named("publish_failed")) == 1
    assert b.restorable() == 47


def test_chunks_that_are_deleted_are_noticed_and_sent_again(store: Callable[..., Store]) -> None:
    b = store()
    b.publisher.start()
    b.publish(47)
    b.service.delete(REPLAY)
    assert b.restorable() is None
    b.until(lambda: bool(b.named("publish_lost")))
    b.until(lambda: b.publisher.published == 47)
    b.publisher.close()
    (lost,) = b.named("publish_lost")
    assert REPLAY in lost["reason"]
    assert b.restorable() == 47


def test_chunks_that_are_deleted_while_they_are_processed_are_not_waited_for(store: Callable[..., Store]) -> None:
    b = store()
    b.service.processing = 30.0
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(47)
    b.until(lambda: bool(b.service.datasets.get(REPLAY)))
    b.until(lambda: b.service.newest(REPLAY, 1.0).exists)
    for _ in range(20):
        b.clock.sleep(0.25)
    began = b.clock.now
    b.service.delete(REPLAY)
    b.until(lambda: b.publisher.published == 47)
    b.publisher.close()
    assert b.clock.now - began < 100.0, "two versions of 30 s each, and not the 120 s of what nobody processes"
    assert b.restorable() == 47


def test_a_new_session_notices_that_the_chunks_of_the_one_before_are_gone(store: Callable[..., Store]) -> None:
    b = store()
    b.publisher.start()
    b.publish(47)
    b.service.delete(REPLAY)
    other = b.again(session=2)
    other.publisher.start()
    other.until(lambda: other.restorable() == 47)
    other.until(lambda: other.publisher.published == 47)
    other.publisher.close()


def test_a_later_session_fences_the_chunks_too(store: Callable[..., Store]) -> None:
    b = store()
    b.publisher.start()
    b.publish(25)
    b.service.datasets[REPLAY].append((b.clock.now - 100.0, {"run.json": b""}, "t=90 session=2"))
    sent = len(b.service.datasets[REPLAY])
    b.write(47)
    b.publisher.notify()
    b.until(lambda: b.publisher.fenced)
    b.publisher.close()
    assert len(b.service.datasets[REPLAY]) == sent
    assert b.publisher.published == 25


def test_each_version_is_looked_into_once(store: Callable[..., Store]) -> None:
    b = store(buffer=300)
    b.publisher.start()
    for t in range(25, 300, 25):
        b.publish(t)
    b.publisher.close()
    assert max(Counter(b.service.looked_into).values(), default=0) <= 1


def test_a_first_version_that_is_slow_is_waited_for(store: Callable[..., Store]) -> None:
    b = store(buffer=200)
    b.service.processing = 200.0
    b.publisher.start()
    b.publish(95)
    b.publisher.close()
    assert b.named("publish_failed") == []
    assert set(b.copies().values()) == {1}


def test_bytes_that_are_sent_are_those_of_new_rows_and_of_what_grows(store: Callable[..., Store]) -> None:
    b = store(buffer=600)
    b.publisher.start()
    for t in range(50, 1000, 50):
        b.publish(t)
    b.publisher.close()
    rows, weights = (
        BYTES * 950 // ROWS,
        sum(
            len(data)
            for _, files, _ in b.service.versions
            for name, data in files.items()
            if not name.startswith("chunk_")
        ),
    )
    assert b.service.received <= 1.3 * (rows + weights)
    assert sum(event["bytes"] for event in b.named("published")) >= rows


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["ok", "hang", "torn", "answer lost", "net", 403, 429, 500]),
            st.sampled_from(["delete chunks", "delete all", "new process", "checkpoint"]),
        ),
        max_size=8,
    )
)
def test_whatever_happens_the_newest_is_published_and_what_is_said_can_be_had(
    tmp_path_factory: pytest.TempPathFactory, happens: list[Any]
) -> None:
    b = Store(tmp_path_factory.mktemp("store"), buffer=120)
    b.publisher.start()
    t = 35
    b.write(t)
    session = 1
    for event in happens:
        if event == "new process":
            session += 1
            b = b.again(session=session)
            b.publisher.start()
        elif event == "checkpoint":
            t += 30
            b.write(t)
            b.publisher.notify()
        elif event == "delete chunks":
            b.service.delete(REPLAY)
        elif event == "delete all":
            b.service.delete(REPLAY)
            b.service.delete()
        elif event != "ok":
            known = {"net": UploadFailed("Connection refused")}
            fault = UploadFailed("refused", event) if isinstance(event, int) else known.get(event, event)
            b.service.faults.append(fault)
        for _ in range(28):
            b.clock.sleep(0.25)
    b.until(lambda: b.publisher.published == t and b.restorable() == t, seconds=60_000.0)
    b.publisher.close()
    assert b.publisher.published == b.restorable() == t
