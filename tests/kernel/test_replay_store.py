"""Chunks of a replay buffer: what comes out is what went in, byte for byte, and nothing else is taken for it."""

from __future__ import annotations

import copy
import errno
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.checkpoints import checkpoint
from kernel.contract import chunks
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import CheckpointInvalid, Manifest
from kernel.training import codec, row_packing
from kernel.training.replay_store import CHUNK_BYTES, CHUNKS, ReplayStore
from kernel.training.row_packing import Arrays

ENVS = 2
BUFFER = 40
CHUNK = 8


def flat(count: int, seed: int = 0, envs: int = ENVS) -> Arrays:
    """Rows of short vectors, in episodes of seven."""
    draw = np.random.default_rng(seed)
    observations = draw.normal(size=(count + 1, envs, 3)).astype(np.float32)
    following = observations[1:].copy()
    following[6::7] = np.nan
    following[3::7] *= -0.0
    return {
        "observations": observations[:-1],
        "next_observations": following,
        "actions": draw.integers(0, 5, (count, envs, 1)),
        "rewards": draw.normal(size=(count, envs)).astype(np.float32),
        "dones": (np.arange(count * envs).reshape(count, envs) % 7 == 6).astype(np.float32),
    }


def frames(count: int, *, channels: int = 1, last: bool = False, stacked: int = 4, envs: int = ENVS) -> Arrays:
    """Rows of stacked random frames, on the first or the last axis of an observation; an episode ends every 50."""
    draw = np.random.default_rng(0)
    single = draw.integers(0, 256, (count + stacked, envs, channels, 12, 10), dtype=np.uint8)
    observations = np.concatenate([single[k : count + k] for k in range(stacked)], axis=2)
    following = np.concatenate([single[k + 1 : count + k + 1] for k in range(stacked)], axis=2)
    following[::50] = 7
    observations[25::50] = observations[25::50, :, -1:]
    if last:
        observations, following = (np.ascontiguousarray(np.moveaxis(v, 2, -1)) for v in (observations, following))
    return {"observations": observations, "next_observations": following, "actions": np.zeros((count, envs, 1), int)}


def part(rows: Arrays, first: int, last: int) -> Arrays:
    return {name: values[first:last] for name, values in rows.items()}


def same(one: Arrays, other: Arrays) -> bool:
    return set(one) == set(other) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def size(rows: Arrays) -> int:
    return sum(values.nbytes for values in rows.values())


def store(folder: Path, rows: Arrays, **options: Any) -> ReplayStore:
    return ReplayStore(folder, part(rows, 0, 0), **{"buffer_size": BUFFER, "chunk_rows": CHUNK, **options})


def listed(entries: list[dict[str, Any]]) -> list[Chunk]:
    return chunks.listed(Manifest("quick-run", 1, 1, 1, "", {}, details={"chunks": entries}))


def loaded(folder: Path, rows: Arrays, saved: Any, found: list[Chunk], **options: Any) -> tuple[ReplayStore, Arrays]:
    """A store that goes on from a checkpoint, and all rows that came out of it."""
    again = store(folder, rows, **options)
    parts: list[Arrays] = []
    again.load(saved, found, lambda first, rows: parts.append(rows))
    return again, {name: np.concatenate([part[name] for part in parts]) for name in rows}


@given(st.integers(1, 30), st.integers(1, 3), st.sampled_from(["flat", "first", "last", "colour", "doubled"]))
@settings(deadline=None)
def test_rows_come_out_of_a_chunk_as_they_went_in(count: int, envs: int, kind: str) -> None:
    rows = {
        "flat": lambda: flat(count, count, envs),
        "first": lambda: frames(count, envs=envs),
        "last": lambda: frames(count, last=True, envs=envs),
        "colour": lambda: frames(count, channels=3, envs=envs),
        "doubled": lambda: {name: np.repeat(values[:1], count, axis=0) for name, values in flat(1, 0, envs).items()},
    }[kind]()
    assert same(row_packing.unpack(row_packing.pack(rows), part(rows, 0, 0), count), rows)


@pytest.mark.parametrize(("channels", "last"), [(1, False), (3, False), (1, True)])
def test_of_stacked_frames_each_is_held_once(channels: int, last: bool) -> None:
    rows = frames(200, channels=channels, last=last)
    assert len(row_packing.pack(rows)) < size(rows) / 6, "random frames: nothing but repetition can be saved"


def test_an_observation_is_held_once_and_what_deflates_is_deflated() -> None:
    rows = flat(2000)
    columns = size({name: rows[name] for name in rows if name != "next_observations"})
    assert len(row_packing.pack(rows)) < 1.2 * columns + 0.3 * rows["observations"].nbytes
    zeros = {name: np.zeros_like(values) for name, values in rows.items()}
    assert len(row_packing.pack(zeros)) < size(zeros) / 50


def test_a_chunk_that_would_burst_is_refused_before_it_is_inflated() -> None:
    rows = flat(8)
    most = row_packing.largest(part(rows, 0, 0), 8)
    bomb = zlib.compress(b"\0" * 200_000_000, 9)
    for length in (most, most + 1, 200_000_000, 1 << 60):
        data = struct.pack("<8scQ", row_packing.MAGIC, b"\1", length) + bomb
        with pytest.raises(codec.Undecodable):
            row_packing.unpack(data, part(rows, 0, 0), 8)


def test_a_chunk_of_other_columns_kinds_or_counts_is_refused() -> None:
    rows, like = flat(8), part(flat(1), 0, 0)
    data = row_packing.pack(rows)
    for count in (0, 7, 9):
        with pytest.raises(codec.Undecodable):
            row_packing.unpack(data, like, count)
    for other in (
        {name: values for name, values in like.items() if name != "rewards"},
        {**like, "more": like["rewards"]},
        {**like, "rewards": like["rewards"].astype(np.float64)},
        {**like, "observations": like["observations"][:, :, :2]},
    ):
        with pytest.raises(codec.Undecodable):
            row_packing.unpack(data, other, 8)


def test_no_flipped_or_missing_byte_of_a_chunk_ends_otherwise_than_refused() -> None:
    """Its sha256 is checked before; this is for one that was forged."""
    chance = random.Random(0)
    for rows in (flat(8), frames(8), {name: np.zeros_like(values) for name, values in flat(8).items()}):
        data, like = row_packing.pack(rows), part(rows, 0, 0)
        for _ in range(600):
            place = chance.randrange(len(data))
            for other in (
                data[:place],
                data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :],
            ):
                try:
                    found = row_packing.unpack(other, like, 8)
                except codec.Undecodable:
                    continue
                assert {name: values.shape for name, values in found.items()} == {
                    name: values.shape for name, values in rows.items()
                }


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=40)
def test_a_buffer_that_is_loaded_goes_on_as_if_nothing_had_been(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    rows = flat(sum(counts) + 30)
    whole = store(folder, rows)
    done = 0
    for count in counts:
        whole.add(part(rows, done, done + count))
        done += count
        if data.draw(st.booleans()):
            whole.commit()
    found = listed(whole.commit())
    again, out = loaded(folder, rows, copy.deepcopy(whole.state()), found) if done else (store(folder, rows), {})
    if done:
        first = found[0].first
        assert first <= max(0, done - BUFFER)
        assert same(out, part(rows, first, done))
    for one in (whole, again):
        one.add(part(rows, done, done + 30))
    assert again.state() == whole.state()
    assert again.commit() == whole.commit()


def test_what_the_state_says_does_not_depend_on_how_rows_came(tmp_path: Path) -> None:
    rows = flat(200)
    at_once, one_by_one, other = (store(tmp_path / name, rows) for name in "abc")
    at_once.add(rows)
    for k in range(200):
        one_by_one.add(part(rows, k, k + 1))
        if k % 3 == 0:
            one_by_one.commit()
    assert at_once.state() == one_by_one.state()
    rows["rewards"] = rows["rewards"].copy()
    rows["rewards"][3] += 1  # gone from the buffer long ago
    other.add(rows)
    assert other.state() != at_once.state()
    assert other.state()["digests"] == at_once.state()["digests"]


def test_sealed_chunks_are_written_once_and_shared(tmp_path: Path) -> None:
    rows = flat(60)
    kept = store(tmp_path, rows)
    written: list[str] = []
    kept.write = lambda path, data: (written.append(path.name), checkpoint.write_new(path, data))[1]
    kept.add(part(rows, 0, 20))
    before = listed(kept.commit())
    assert [(chunk.first, chunk.last) for chunk in before] == [(0, 8), (8, 16), (16, 20)]
    assert kept.commit() == [chunk.entry() for chunk in before], "and nothing is written where nothing is new"
    kept.add(part(rows, 20, 60))
    after = listed(kept.commit())
    assert [(chunk.first, chunk.last) for chunk in after] == [
        (16, 24),
        (24, 32),
        (32, 40),
        (40, 48),
        (48, 56),
        (56, 60),
    ]
    assert len(written) == len(set(written)) == 3 + 6
    assert {chunk.name for chunk in after} <= kept.in_use | {after[-1].name}
    for chunk in (*before, *after):
        assert chunks.is_whole(tmp_path / chunk.name, chunk)


def test_a_chunk_that_is_there_is_left_and_one_that_was_altered_is_written_again(tmp_path: Path) -> None:
    rows = flat(8)
    first = store(tmp_path, rows)
    first.add(rows)
    (chunk,) = listed(first.commit())
    path = tmp_path / chunk.name
    whole, was = path.read_bytes(), path.stat()
    store(tmp_path, rows).add(rows)
    assert path.stat().st_mtime_ns == was.st_mtime_ns
    path.write_bytes(whole[:-1])
    store(tmp_path, rows).add(rows)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("how", ["missing", "cut", "longer", "flipped", "folder", "loop", "other", "forged"])
def test_a_chunk_that_is_not_what_it_was_makes_its_checkpoint_invalid(how: str, tmp_path: Path) -> None:
    rows = flat(30)
    kept = store(tmp_path, rows)
    kept.add(rows)
    saved, found = kept.state(), listed(kept.commit())
    path = tmp_path / found[1].name
    data = path.read_bytes()
    if how == "other":
        path.write_bytes((tmp_path / found[0].name).read_bytes())
    elif how == "forged":  # whole, of the right kind, and named by its sha256: but other rows
        forged = row_packing.pack(flat(CHUNK, seed=9))
        found[1] = Chunk.named(
            found[1].first, found[1].last, checkpoint.hashlib.sha256(forged).hexdigest(), len(forged)
        )
        (tmp_path / found[1].name).write_bytes(forged)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "loop":
            path.symlink_to(path.name)
        elif how != "missing":
            place = len(data) // 2
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            path.write_bytes({"cut": data[:-1], "longer": data + b"x", "flipped": flipped}[how])
    with pytest.raises(CheckpointInvalid):
        loaded(tmp_path, rows, saved, found)


def test_chunks_that_do_not_hold_the_rows_of_the_state_are_refused(tmp_path: Path) -> None:
    rows = flat(60)
    kept = store(tmp_path, rows)
    kept.add(rows)
    saved, found = kept.state(), listed(kept.commit())
    assert loaded(tmp_path, rows, saved, found)[0].state() == saved
    for odd in (
        (saved, found[1:]),
        (saved, found[:-1]),
        (saved, []),
        ({**saved, "rows": 59}, found),
        ({**saved, "rows": -1}, found),
        ({**saved, "chunk_rows": 0}, found),
        ({**saved, "chunk_rows": 4}, found),
        ({**saved, "chunk_rows": CHUNK_BYTES}, found),
        ({**saved, "digests": saved["digests"][::-1]}, found),
        ({**saved, "digests": [7]}, found),
        ({**saved, "more": 1}, found),
        ("rows", found),
        (saved, [*found[:-1], Chunk(found[-1].first, 60, found[-1].sha256, 1 << 40, found[-1].name)]),
    ):
        with pytest.raises(CheckpointInvalid):
            loaded(tmp_path, rows, *odd)


def test_what_a_full_disk_did_not_take_is_told_and_taken_later(tmp_path: Path) -> None:
    rows = flat(60)
    kept = store(tmp_path, rows)
    full = [True]

    def write(path: Path, data: bytes) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        checkpoint.write_new(path, data)

    kept.write = write
    kept.add(part(rows, 0, 20))
    assert kept.missing == [(0, 8), (8, 16)]
    with pytest.raises(OSError, match="No space left"):
        kept.commit()
    full[0] = False
    kept.again(0, part(rows, 0, 8))
    with pytest.raises(OSError, match="No space left"):
        kept.commit()
    kept.again(8, part(rows, 8, 16))
    assert kept.missing == []
    found = listed(kept.commit())
    assert same(loaded(tmp_path, rows, kept.state(), found)[1], part(rows, 0, 20))
    full[0] = True
    kept.add(part(rows, 20, 30))
    full[0] = False
    kept.add(part(rows, 30, 60))
    assert kept.missing == [(16, 24)]
    kept.add(part(rows, 0, 8))
    assert kept.missing == [], "the buffer holds none of its rows any more"
    kept.commit()


@pytest.mark.parametrize(
    ("row", "buffer"), [(56_448, 26_000), (4_000, 1_000), (40, 1_000_000), (40, 100), (1 << 25, 8)]
)
def test_chunks_are_small_beside_their_buffer_and_not_smaller_than_a_file_is_worth(row: int, buffer: int) -> None:
    kind = {"observations": np.empty((0, 1, row), np.uint8)}
    rows = ReplayStore(Path("unused"), kind, buffer).chunk_rows
    assert rows == 1 or rows * row <= min(CHUNK_BYTES, max(row * buffer / CHUNKS, 1 << 16))
