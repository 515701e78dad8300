"""Checkpoints leave the session whatever the service does, and nothing of that stops or tears anything."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.checkpoints import checkpoint, sources, staging
from kernel.checkpoints.retention import published_timesteps, publishing_given_up
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.manifest import Manifest, verify
from kernel.session.deadline import Deadline
from kernel.session.publisher import Publisher
from kernel.session.upload import Remote, SubprocessUploader, UploadFailed

RUN = RunConfig(run_id="quick-run", total_timesteps=100, checkpoint_freq=10)

MAIN = "alice/quick-run-ckpt"


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.0005)


class Service:
    """Datasets as the real ones behave, with faults handed out in order: an exception, a wait, or None."""

    def __init__(self, clock: Clock, faults: list[Any] | None = None, processing: float = 5.0) -> None:
        self.clock = clock
        self.faults = list(faults or [])
        self.processing = processing
        self.datasets: dict[str, list[tuple[float, dict[str, bytes], str]]] = {MAIN: []}
        self.identities: dict[str, int] = {}
        self.looked_into: list[tuple[str, int]] = []
        self.received = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    @property
    def versions(self) -> list[tuple[float, dict[str, bytes], str]]:
        """Of the run's own dataset."""
        return self.datasets[MAIN]

    def upload(self, folder: Path, handle: str, notes: str, timeout: float) -> None:
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            fault = self.faults.pop(0) if self.faults else None
            if isinstance(fault, Exception):
                raise fault
            if fault == "hang":
                self.clock.now += timeout
                raise UploadFailed(f"no answer within {timeout:.0f} s")
            self.received += sum(map(len, files.values()))
            if fault == "torn":
                files = {name: data[: len(data) // 2] for name, data in files.items()}
            versions = self.datasets.setdefault(handle, [])
            if versions and not self._ready(versions, 0):
                raise UploadFailed("Permission 'datasets.update' was denied", 403)
            if not versions:
                self.identities[handle] = len(self.identities) + random.randrange(1 << 30)
            versions.append((self.clock.now, files, notes))
            if fault == "answer lost":
                raise UploadFailed("no answer from the service")
        finally:
            with self.lock:
                self.in_flight -= 1

    def newest(self, handle: str, timeout: float) -> Remote:
        versions = self.datasets.get(handle, [])
        if not versions:
            return Remote()
        ready = {i + 1: version for i, version in enumerate(versions) if self._ready(versions, i)}
        current = max(ready, default=None)
        session = int(versions[-1][2].rpartition("session=")[2])
        sizes = {name: len(data) for name, data in ready[current][1].items()} if current is not None else {}
        notes = {number: version[2] for number, version in ready.items()}
        is_ready = self._ready(versions, -1)
        return Remote(True, is_ready, current, session, sizes, notes, identity=self.identities.get(handle, 0))

    def files(self, handle: str, version: int, timeout: float) -> dict[str, int]:
        self.looked_into.append((handle, version))
        return {name: len(data) for name, data in self.datasets[handle][version - 1][1].items()}

    def download(self, handle: str, version: int, name: str, to: Path, timeout: float) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        versions = self.datasets.get(handle, [])
        if not 0 < version <= len(versions) or name not in versions[version - 1][1]:
            raise UploadFailed("404 Client Error", 404)
        to.write_bytes(versions[version - 1][1][name])

    def delete(self, handle: str = MAIN) -> None:
        """A dataset is deleted from elsewhere; made anew, its versions are counted from one."""
        self.datasets[handle] = []

    def _ready(self, versions: list[tuple[float, dict[str, bytes], str]], index: int) -> bool:
        return self.clock.now >= versions[index][0] + self.processing

    def timesteps(self) -> list[int]:
        """What each version says it holds."""
        return [int(notes.split()[0].removeprefix("t=")) for _, _, notes in self.versions]


class Bench:
    """A publisher over a folder, a clock and a service."""

    def __init__(self, folder: Path, faults: list[Any] | None = None, max_seconds: float = 40_000.0, **session: Any):
        self.folder = folder
        self.clock = Clock()
        self.service = Service(self.clock, faults)
        settings = SessionConfig(**{"dataset": MAIN, "publish_interval_seconds": 10.0, **session})
        self.events: list[dict[str, Any]] = []
        self.deadline = Deadline(0.0, max_seconds, clock=self.clock)
        self.publisher = Publisher(
            folder,
            Configuration(RUN, settings),
            self.deadline,
            self.service,
            lambda event: self.events.append(event.plain()),
            clock=self.clock,
            sleep=self.clock.sleep,
            jitter=random.Random(1).random,
            longest_pause=0.002,
        )
        (folder / "checkpoints").mkdir(exist_ok=True)

    def write(self, t: int, size: int = 2000) -> Path:
        """A checkpoint as the trainer leaves it."""
        path = self.folder / "checkpoints" / f"checkpoint_t{t}.zip"
        manifest = Manifest("quick-run", 1, t, 100, RUN.digest, {}, state_digest=f"{t:064d}")
        checkpoint.write_new(path, checkpoint.to_bytes(manifest, {"data": random.Random(t).randbytes(size)}))
        return path

    def until(self, condition: Callable[[], bool], seconds: float = 20_000.0) -> None:
        """Let time pass until `condition`."""
        while not condition():
            assert self.clock.now < seconds, self.events
            self.clock.sleep(0.25)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *args, **kwargs: Bench(tmp_path, *args, **kwargs)


def test_first_version_proves_the_write_before_any_checkpoint_exists(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.publisher.start()
    b.until(lambda: bool(b.named("write_proved")))
    b.publisher.close()
    assert set(b.service.versions[0][1]) == {"run.json", "index.json"}
    assert json.loads(b.service.versions[0][1]["run.json"])["run"]["run_id"] == "quick-run"
    assert b.named("write_proved")[0]["version"] == 1


def test_published_version_holds_the_checkpoint_under_a_name_that_is_not_unpacked(bench: Callable[..., Bench]) -> None:
    b = bench()
    path = b.write(10)
    (b.folder / "metrics.jsonl").write_text('{"num_timesteps": 10}\n')
    b.publisher.start()
    b.until(lambda: b.publisher.published == 10)
    b.publisher.close()
    _, files, notes = b.service.versions[-1]
    assert notes == "t=10 session=1"
    assert set(files) == {
        "run.json",
        "index.json",
        "metrics.jsonl",
        "checkpoint_t10.zip.bin",
        "checkpoint_t10.manifest.json",
    }
    assert files["checkpoint_t10.zip.bin"] == path.read_bytes()
    entry = json.loads(files["index.json"])["checkpoints"][0]
    assert (entry["num_timesteps"], entry["size"]) == (10, path.stat().st_size)
    published = b.named("published")[0]
    assert (published["num_timesteps"], published["files"], published["version"]) == (10, 5, 1)
    assert published_timesteps(b.folder) == 10


def test_when_behind_only_the_newest_checkpoint_goes(bench: Callable[..., Bench]) -> None:
    b = bench(publish_interval_seconds=100.0)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    for t in range(10, 100, 10):
        b.write(t)
        b.publisher.notify()
    b.until(lambda: b.publisher.published == 90)
    b.publisher.close()
    assert b.service.timesteps() == [0, 90]
    assert b.service.most_in_flight == 1


def test_last_checkpoint_is_published_at_the_end_whatever_the_interval(bench: Callable[..., Bench]) -> None:
    b = bench(publish_interval_seconds=10_000.0)
    b.write(10)
    b.publisher.start()
    b.until(lambda: b.publisher.published == 10)
    b.write(20)
    b.publisher.notify()
    b.publisher.close()
    assert b.service.timesteps()[-1] == 20


FAULTS = {
    "429 with Retry-After": [UploadFailed("Too many requests", 429, 60.0)],
    "409": [UploadFailed("Conflict", 409)],
    "5xx": [UploadFailed("Server Error", 503), UploadFailed("Server Error", 500)],
    "hang": ["hang"],
    "network gone for minutes": [UploadFailed("Connection refused")] * 6,
    "torn": ["torn"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_delays_a_publish_and_loses_nothing(name: str, bench: Callable[..., Bench]) -> None:
    b = bench([None, *FAULTS[name]])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(10)
    b.publisher.notify()
    b.until(lambda: b.publisher.published == 10)
    b.publisher.close()
    assert len(b.named("publish_failed")) == len(FAULTS[name])
    files = b.service.versions[-1][1]
    restored = b.folder / "restored" / "checkpoint_t10.zip.bin"
    restored.parent.mkdir()
    restored.write_bytes(files["checkpoint_t10.zip.bin"])
    assert verify(restored).num_timesteps == 10


def test_training_that_goes_on_through_an_outage_publishes_its_newest_once_it_is_over(
    bench: Callable[..., Bench],
) -> None:
    """Ten minutes without a network, a checkpoint in each: few requests, nothing torn, one version when it is back."""
    b = bench()
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    gone_until = b.clock.now + 600.0
    tries: list[float] = []
    upload = b.service.upload

    def gone(folder: Path, handle: str, notes: str, timeout: float) -> None:
        tries.append(b.clock.now)
        if b.clock.now < gone_until:
            raise UploadFailed("Connection refused")
        upload(folder, handle, notes, timeout)

    b.service.upload = gone  # type: ignore[method-assign]
    for t in range(10, 110, 10):
        b.write(t)
        b.publisher.notify()
        over = b.clock.now + 60.0
        b.until(lambda over=over: b.clock.now >= over)
    b.until(lambda: b.publisher.published == 100)
    b.publisher.close()
    assert b.service.timesteps() == [0, 100]
    assert 4 <= sum(at < gone_until for at in tries) <= 20
    assert b.service.versions[-1][0] < gone_until + 400.0


def test_retry_after_is_obeyed(bench: Callable[..., Bench]) -> None:
    b = bench([None, UploadFailed("Too many requests", 429, 90.0)])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(10)
    b.until(lambda: bool(b.named("publish_failed")))
    failed_at = b.clock.now
    b.until(lambda: b.publisher.published == 10)
    b.publisher.close()
    assert b.named("publish_failed")[0]["retry_seconds"] == 90.0
    assert b.service.versions[-1][0] >= failed_at + 85.0


def test_failing_first_write_is_loud_and_tried_again_later(bench: Callable[..., Bench]) -> None:
    b = bench([UploadFailed("Permission 'datasets.create' was denied", 403)] * 4)
    b.publisher.start()
    b.until(lambda: bool(b.named("write_failed")))
    assert publishing_given_up(b.folder), "the trainer must not wait for what cannot come"
    b.write(10)
    b.until(lambda: b.publisher.published == 10)
    b.publisher.close()
    assert not publishing_given_up(b.folder)
    assert len(b.named("write_failed")) == 1
    assert len(b.named("write_proved")) == 1


def test_first_version_is_waited_for_until_it_is_ready(bench: Callable[..., Bench]) -> None:
    b = bench(publish_interval_seconds=0.0)
    b.service.processing = 120.0
    b.write(10)
    b.publisher.start()
    b.until(lambda: b.publisher.published == 10)
    b.write(20)
    b.until(lambda: b.publisher.published == 20)
    b.publisher.close()
    assert b.service.versions[1][0] >= 120.0
    assert b.named("publish_failed") == []


def test_older_session_cannot_overwrite_a_newer_one(bench: Callable[..., Bench]) -> None:
    b = bench(session=2)
    b.service.versions.append((-100.0, {"run.json": b""}, "t=50 session=3"))
    b.write(10)
    b.publisher.start()
    b.until(lambda: b.publisher.fenced)
    b.publisher.close()
    assert b.service.timesteps() == [50]
    assert "Session 3" in b.named("publish_failed")[0]["reason"]
    assert publishing_given_up(b.folder)


def test_no_ordinary_upload_begins_near_the_deadline_but_the_last_one_does(bench: Callable[..., Bench]) -> None:
    b = bench(max_seconds=1000.0)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.clock.now = 1000.0 - 1.5 * b.deadline.margin
    b.write(10)
    b.publisher.notify()
    time.sleep(0.1)
    assert b.publisher.published is None
    b.publisher.close()
    assert b.service.timesteps()[-1] == 10


def test_upload_that_hangs_at_the_end_is_given_up_before_the_limit(bench: Callable[..., Bench]) -> None:
    b = bench([None, *["hang"] * 50], max_seconds=1000.0)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.clock.now = 900.0
    b.write(10)
    b.publisher.close()
    assert b.publisher.published is None
    assert b.clock.now <= 1000.0


def test_invalid_checkpoint_is_never_published(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.write(10)
    newest = b.write(20)
    newest.write_bytes(newest.read_bytes()[:-7])
    b.publisher.start()
    b.until(lambda: b.publisher.published == 10)
    b.publisher.close()
    assert b.service.timesteps()[-1] == 10


def test_large_checkpoints_stretch_the_interval_and_say_so(bench: Callable[..., Bench]) -> None:
    b = bench(publish_interval_seconds=1.0)
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(10, size=20_000_000)
    b.until(lambda: b.publisher.published == 10)
    published_at = b.clock.now
    b.write(20)
    b.until(lambda: b.publisher.published == 20)
    b.publisher.close()
    assert b.clock.now - published_at >= 35.0
    assert b.named("cadence")


def test_a_version_that_cannot_be_made_leaves_no_folder(tmp_path: Path) -> None:
    gone = tmp_path / "gone.zip"
    manifest = Manifest("small-run", 1, 10, 96, "", {})
    (parent := tmp_path / "staged").mkdir()
    with pytest.raises(FileNotFoundError):
        staging.stage(tmp_path, Configuration(RUN, SessionConfig()), (gone, manifest), parent=parent)
    assert list(parent.iterdir()) == []


def test_staging_folder_is_fresh_each_time_and_removed(tmp_path: Path) -> None:
    configuration = Configuration(RUN, SessionConfig())
    folders = [staging.stage(tmp_path, configuration, None).folder for _ in range(2)]
    assert folders[0] != folders[1]
    b = Bench(tmp_path)
    staged = staging.stage(tmp_path, configuration, (b.write(10), verify(b.folder / "checkpoints/checkpoint_t10.zip")))
    staged.remove()
    assert not staged.folder.exists()
    assert (b.folder / "checkpoints" / "checkpoint_t10.zip").exists()


def test_dataset_that_comes_back_unpacked_is_a_checkpoint_all_the_same(tmp_path: Path) -> None:
    b = Bench(tmp_path)
    path = b.write(10)
    for name in ("checkpoint_t10", "checkpoint_t10.zip", "checkpoint_t10.zip.bin"):
        mount = tmp_path / f"mount-{name}" / "datasets" / "alice" / "quick-run-ckpt"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(mount / name)
        choice = sources.choose([mount], RUN)
        assert choice.manifest is not None
        assert choice.manifest.num_timesteps == 10
        target = sources.import_checkpoint(choice.path, choice.manifest, tmp_path / f"local-{name}")
        assert verify(target).state_digest == verify(path).state_digest


def test_the_newest_checkpoint_is_told_by_its_timestep_and_by_no_clock(tmp_path: Path) -> None:
    b = Bench(tmp_path)
    for t, written in ((10, 4e9), (20, 0.0), (30, 1e9)):
        os.utime(b.write(t), (written, written))
    choice = sources.choose([tmp_path / "checkpoints"], RUN)
    assert choice.path is not None
    assert choice.path.name == "checkpoint_t30.zip"


def test_newest_whole_checkpoint_wins_over_place_and_a_broken_newer_one(tmp_path: Path) -> None:
    b = Bench(tmp_path)
    for t in (10, 20, 30):
        b.write(t)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "checkpoint_t40.zip.bin").write_bytes((b.folder / "checkpoints" / "checkpoint_t30.zip").read_bytes())
    choice = sources.choose([tmp_path / "checkpoints", mount], RUN)
    assert choice.manifest is not None
    assert choice.manifest.num_timesteps == 30
    assert [refused.path.name for refused in choice.refused] == ["checkpoint_t40.zip.bin"]
    other = RunConfig(run_id="other-run", total_timesteps=100, checkpoint_freq=10)
    assert sources.choose([tmp_path / "checkpoints"], other).path is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["ok", 429, 500, 409, "hang", "torn", "net"]), max_size=8))
def test_any_sequence_of_faults_ends_with_the_newest_checkpoint_published(faults: list[Any]) -> None:
    made: list[Any] = [None if f == "ok" else f if f in ("hang", "torn") else UploadFailed(str(f), f) for f in faults]
    made = [UploadFailed("net") if isinstance(f, UploadFailed) and f.status == "net" else f for f in made]
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(Path(folder), made)
        b.write(10)
        b.publisher.start()
        b.write(20)
        b.until(lambda: b.publisher.published == 20)
        b.publisher.close()
        assert b.service.timesteps()[-1] == 20
        assert b.service.most_in_flight == 1
        assert all(b >= a for a, b in zip(b.service.timesteps(), b.service.timesteps()[1:], strict=False))


def test_upload_process_that_hangs_is_killed_and_the_next_request_gets_another(tmp_path: Path) -> None:
    code = "import sys, time\nfor line in sys.stdin: time.sleep(3600)"
    import subprocess

    started: list[subprocess.Popen[str]] = []
    original = subprocess.Popen

    def hang(command: list[str], **kwargs: Any) -> Any:
        started.append(original([command[0], "-c", code], **kwargs))
        return started[-1]

    uploader = SubprocessUploader(hang)
    for _ in range(2):
        with pytest.raises(UploadFailed, match="no answer"):
            uploader.upload(tmp_path, "alice/data-set", "t=1 session=1", 0.3)
    assert [process.poll() is not None for process in started] == [True, True]


def test_network_that_is_gone_at_the_end_is_not_waited_for_all_night(bench: Callable[..., Bench]) -> None:
    b = bench([None, *[UploadFailed("Connection refused")] * 10_000])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    ended_at = b.clock.now
    b.write(10)
    b.publisher.close()
    assert b.publisher.published is None
    assert 800.0 < b.clock.now - ended_at < 1000.0


def test_second_signal_abandons_the_last_upload(bench: Callable[..., Bench]) -> None:
    b = bench([None, *[UploadFailed("Connection refused")] * 10_000])
    b.publisher.start()
    b.until(lambda: b.publisher.proved)
    b.write(10)
    b.publisher.abandon()
    began = b.clock.now
    b.publisher.close()
    assert b.clock.now == began, "no retry is waited for"
