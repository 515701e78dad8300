"""A checkpoint comes into being whole or not at all: killed at each of its system calls, on a full disk, read-only."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, configuration, digests, learn, learn_until
from stable_baselines3 import PPO

from kernel.checkpoints import checkpoint, retention
from kernel.contract import chunks
from kernel.contract.manifest import CheckpointInvalid, checkpoints_in, verify
from kernel.contract.names import num_timesteps_of
from kernel.training import codec, train, writer
from tests.limits import limit_s

from .support import HERE, environment

CALLS = "openat,write,pwrite64,fsync,fdatasync,linkat,link,unlinkat,unlink,renameat,renameat2,rename,close,lseek"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt: strace)")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a small run."""
    folder = tmp_path_factory.mktemp("small")
    learn(configuration(keep_checkpoints=20), folder)
    return folder / "checkpoints"


def traced(arguments: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run `commit_once.py` under strace."""
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        *options,
        sys.executable,
        "-S",
        str(HERE / "commit_once.py"),
        *arguments,
    ]
    if "stable-baselines3" in arguments:
        command.remove("-S")
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=limit_s(240))


def calls_of_a_commit(arguments: list[str]) -> list[tuple[str, int]]:
    """Every system call between the markers: its name, and which one of that name it is in the process."""
    counted: dict[str, int] = {}
    between: list[tuple[str, int]] = []
    inside = False
    for line in traced(arguments, "-e", f"trace={CALLS}").stderr.splitlines():
        match = re.match(r"(?:\[pid +\d+\] )?(\w+)\((.*)", line)
        if match is None:
            continue
        name = match[1]
        counted[name] = counted.get(name, 0) + 1
        if name == "write" and '2, "begin' in line:
            inside = True
        elif name == "write" and '2, "end' in line:
            break
        elif inside:
            between.append((name, counted[name]))
    return between


def sweep(how: str, small: Path, tmp_path: Path, most: int | None = None) -> dict[str, int]:
    """Kill at each call, or at so many of those that write, evenly spread; what was found afterwards."""
    source = small / "checkpoint_t16.zip"
    arguments = [str(tmp_path / "probe"), how, str(source)]
    (tmp_path / "probe").mkdir()
    found = {"kills": 0, "corrupt": 0, "older_lost": 0, "left_aside": 0, "committed": 0}
    calls = calls_of_a_commit(arguments)
    if most is not None:
        writes = [call for call in calls if call[0] == "write"]
        calls = [writes[len(writes) * (k + 1) // (most + 1)] for k in range(most)]
    for index, (name, count) in enumerate(calls):
        folder = tmp_path / f"kill-{index}"
        folder.mkdir()
        shutil.copy(small / "checkpoint_t8.zip", folder)
        inject = f"inject={name}:signal=SIGKILL:when={count}"
        done = traced([str(folder), *arguments[1:]], "-e", inject)
        found["kills"] += done.returncode != 0
        target = folder / "checkpoint_t20.zip"
        if target.exists():
            found["committed"] += 1
            altered = torn(target) if how == "stable-baselines3" else target.read_bytes() != source.read_bytes()
            found["corrupt"] += altered
        found["older_lost"] += verify(folder / "checkpoint_t8.zip").num_timesteps != 8
        found["left_aside"] += len(checkpoint.sweep(folder)) > 0
    return found


def torn(path: Path) -> bool:
    """Whether stable-baselines3 cannot read back what it wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "policy.optimizer.pth" not in archive.namelist() or archive.testzip() is not None
    except (zipfile.BadZipFile, OSError):
        return True


@needs_strace
@pytest.mark.slow
def test_kill_at_every_system_call_of_a_commit_leaves_no_half_checkpoint(small: Path, tmp_path: Path) -> None:
    found = sweep("ours", small, tmp_path)
    assert found["kills"] >= 5
    assert (found["corrupt"], found["older_lost"], found["left_aside"]) == (0, 0, 0)
    assert 0 < found["committed"] < found["kills"]


@needs_strace
@pytest.mark.slow
def test_kill_at_every_system_call_without_unnamed_files_leaves_at_most_a_file_aside(
    small: Path, tmp_path: Path
) -> None:
    found = sweep("aside", small, tmp_path)
    assert found["kills"] >= 6
    assert (found["corrupt"], found["older_lost"]) == (0, 0)
    assert found["left_aside"] > 0


@needs_strace
@pytest.mark.slow
def test_stable_baselines3_own_save_fails_the_same_sweep(small: Path, tmp_path: Path) -> None:
    """The control: the sweep can see the fault."""
    found = sweep("stable-baselines3", small, tmp_path, most=3)
    assert (found["kills"], found["corrupt"]) == (3, 3)


@pytest.mark.parametrize("unnamed", [True, False])
def test_what_was_written_once_is_never_replaced(unnamed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE")
    path = tmp_path / "checkpoint_t1.zip"
    checkpoint.write_new(path, b"first")
    with pytest.raises(FileExistsError):
        checkpoint.write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["checkpoint_t1.zip"]


class FullDisk:
    """A disk that does not take some checkpoints."""

    def __init__(self, fails: range, error: int = errno.ENOSPC) -> None:
        self.fails = fails
        self.error = error

    def __call__(self, path: Path, data: bytes) -> None:
        if num_timesteps_of(path.name) in self.fails:
            raise OSError(self.error, os.strerror(self.error), str(path))
        checkpoint.write_new(path, data)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_training_goes_on_when_a_checkpoint_cannot_be_written(
    error: int, algorithm: str, tmp_path: Path, monkeypatch: Any
) -> None:
    run = {} if algorithm == "PPO" else {"algorithm": "DQN", "hyperparameters": {"learning_starts": 20}}
    disk = FullDisk(range(24, 56), error)

    def make(*args: Any, **kwargs: Any) -> writer.CheckpointWriter:
        return writer.CheckpointWriter(*args, **{**kwargs, "write": disk})

    learn(configuration(run), tmp_path / "whole")
    monkeypatch.setattr(train, "CheckpointWriter", make)
    ear = Ear()
    status, num_timesteps, _ = learn(configuration(run, keep_checkpoints=20), tmp_path / "full", ear)
    assert (status, num_timesteps) == ("finished", 96)
    failed = ear.of("checkpoint_failed")
    assert [event["num_timesteps"] for event in failed] == [24, 32, 40, 48]
    assert [event["in_a_row"] for event in failed] == [1, 2, 3, 4]
    assert os.strerror(error) in failed[0]["reason"]
    for path in checkpoints_in(tmp_path / "full" / "checkpoints"):
        verify(path)
    assert digests(tmp_path / "full")[96] == digests(tmp_path / "whole")[96]


def test_a_start_on_a_full_disk_makes_room_for_its_metrics(tmp_path: Path, monkeypatch: Any) -> None:
    wanted = configuration({"total_timesteps": 96}, keep_checkpoints=2)
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "full", 70, monkeypatch)
    original, refused = train.begin_metrics, []

    def begin_metrics(*args: Any) -> None:
        if len(checkpoints_in(tmp_path / "full" / "checkpoints")) > 2:
            refused.append(1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*args)

    monkeypatch.setattr(train, "begin_metrics", begin_metrics)
    status, num_timesteps, _ = learn(wanted, tmp_path / "full")
    assert refused
    assert (status, num_timesteps) == ("finished", 96)
    assert digests(tmp_path / "full")[96] == digests(tmp_path / "whole")[96]


class Beats(Ear):
    """Counts the signs of life by phase."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: Counter[str] = Counter()

    def beat(self, num_timesteps: int, phase: str = "stepping") -> None:
        self.beats[phase] += 1


@pytest.mark.parametrize("works", [True, False], ids=["works", "is held by the disk"])
def test_waiting_for_the_writer_is_a_sign_of_life_only_where_it_gets_on(
    works: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    def slow(path: Path, data: bytes) -> None:
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            if not works:
                time.sleep(1.0)
        checkpoint.write_new(path, data)

    def make(*args: Any, **kwargs: Any) -> writer.CheckpointWriter:
        return writer.CheckpointWriter(*args, **{**kwargs, "write": slow})

    monkeypatch.setattr(train, "CheckpointWriter", make)
    ear = Beats()
    assert learn(configuration({"checkpoint_freq": 1000}), tmp_path, ear)[0] == "finished"
    taken = len(ear.of("checkpoint"))
    waited = ear.beats["saving"] - taken
    assert waited >= taken if works else waited <= taken  # the beginning and the end of a write are work


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        checkpoint.write_new(tmp_path / "checkpoint_t1.zip", b"x" * 100_000)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.write_new(tmp_path / "checkpoint_t2.zip", b"x" * 150_000)
        assert os.listdir(tmp_path) == ["checkpoint_t1.zip"]
        checkpoint.write_new(tmp_path / "checkpoint_t3.zip", b"x" * 50_000)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_retention_never_deletes_the_last_two(tmp_path: Path, small: Path) -> None:
    for t in (8, 16):
        shutil.copy(small / f"checkpoint_t{t}.zip", tmp_path)
    assert retention.Retention(tmp_path, 1).prune() == []
    assert len(checkpoints_in(tmp_path)) == 2


def test_a_checkpoint_that_does_not_read_back_costs_none_of_the_older_ones(tmp_path: Path, monkeypatch: Any) -> None:
    def worn_disk(path: Path, data: bytes) -> None:
        checkpoint.write_new(path, data if "_t8." in path.name or "_t16." in path.name else data[:-1] + b"?")

    def make(*args: Any, **kwargs: Any) -> writer.CheckpointWriter:
        return writer.CheckpointWriter(*args, **{**kwargs, "write": worn_disk})

    monkeypatch.setattr(train, "CheckpointWriter", make)
    ear = Ear()
    assert learn(configuration(keep_checkpoints=2), tmp_path, ear)[0] == "finished"
    assert [verify(path).num_timesteps for path in checkpoints_in(tmp_path / "checkpoints")] == [16, 8]
    assert [event["num_timesteps"] for event in ear.of("checkpoint")] == [8, 16]
    assert "does not read back" in ear.of("checkpoint_failed")[0]["reason"]


def test_no_replay_chunk_is_deleted_while_a_checkpoint_cannot_be_read(tmp_path: Path, monkeypatch: Any) -> None:
    run = {"algorithm": "DQN", "hyperparameters": {"learning_starts": 2000}}
    learn(configuration(run, keep_checkpoints=20), tmp_path)
    folder = tmp_path / "checkpoints"
    before = sorted((folder / chunks.FOLDER).iterdir())
    newest = checkpoints_in(folder)[0]
    original = zipfile.ZipFile

    def failing(path: Any, *args: Any) -> Any:
        if path == newest:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, *args)

    monkeypatch.setattr(retention.zipfile, "ZipFile", failing)
    retention.Retention(folder, 2).prune()
    assert sorted((folder / chunks.FOLDER).iterdir()) == before
    monkeypatch.undo()
    retention.Retention(folder, 2).prune()
    chunks.verify(newest, verify(newest))


def test_disk_does_not_grow_with_the_length_of_a_run(tmp_path: Path) -> None:
    run = {"algorithm": "DQN", "hyperparameters": {"buffer_size": 60, "learning_starts": 2000}, "checkpoint_freq": 5}
    for total in (400, 800):
        learn(configuration({**run, "total_timesteps": total}), tmp_path / str(total))
    names = {total: [p.name for p in (tmp_path / str(total)).rglob("*.*")] for total in (400, 800)}
    assert len(names[800]) <= len(names[400]) + 12
    assert all(verify(path) for path in checkpoints_in(tmp_path / "800" / "checkpoints"))


def test_plain_load_gives_the_weights_of_the_exact_state(small: Path) -> None:
    path = small / "checkpoint_t96.zip"
    state = codec.decode(checkpoint.read_state(path, verify(path)))
    model = PPO.load(path, device="cpu")
    for name, tensor in model.policy.state_dict().items():
        assert (tensor.numpy() == state["policy"][name]).all()


def test_an_offset_that_leads_before_the_file_is_an_altered_checkpoint_and_no_broken_disk(
    tmp_path: Path, small: Path
) -> None:
    data = bytearray((small / "checkpoint_t16.zip").read_bytes())
    place = data.rindex(b"PK\x05\x06") + 16  # of the central directory's offset, in the record at the zip's end
    offset = int.from_bytes(data[place : place + 4], "little")
    data[place : place + 4] = (offset + (1 << 20)).to_bytes(4, "little")
    path = tmp_path / "checkpoint_t16.zip"
    path.write_bytes(data)
    with pytest.raises(CheckpointInvalid, match="not a whole zip file"):
        verify(path)


def test_no_flipped_bit_verifies_with_another_state(tmp_path: Path, small: Path) -> None:
    whole = small / "checkpoint_t16.zip"
    data, manifest = whole.read_bytes(), verify(whole)
    state = checkpoint.read_state(whole, manifest)
    path = tmp_path / whole.name
    path.write_bytes(data)
    chance = random.Random(0)
    accepted = 0
    with path.open("r+b", buffering=0) as file:
        for _ in range(4000):
            place = chance.randrange(len(data))
            os.pwrite(file.fileno(), bytes([data[place] ^ 1 << chance.randrange(8)]), place)
            with contextlib.suppress(CheckpointInvalid):
                found = verify(path)
                accepted += 1
                assert found.state_digest == manifest.state_digest
                assert checkpoint.read_state(path, found) == state
            os.pwrite(file.fileno(), data[place : place + 1], place)
    # Some bits of a zip file say nothing of its content, as those of a member's date.
    assert accepted < 40
    assert verify(path) == manifest


def test_no_truncated_checkpoint_verifies(tmp_path: Path, small: Path) -> None:
    """At every length there is."""
    path = tmp_path / "checkpoint_t16.zip"
    shutil.copy(small / path.name, path)
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(CheckpointInvalid):
            verify(path)
