"""Which checkpoints stay on the disk, and that nothing else goes with those that do not."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernel.checkpoints import checkpoint, retention
from kernel.contract import chunks, manifest
from kernel.contract.chunks import Chunk
from kernel.contract.manifest import Manifest, checkpoints_in


def write(folder: Path, t: int, score: Any = None, needs: tuple[int, ...] = (), size: int = 1) -> Path:
    """A checkpoint with an evaluation of `score`, if any, that needs the chunks of these numbers, of `size` bytes."""
    metrics = {} if score is None else {"eval/mean_reward": score}
    details = {"chunks": [chunk(number, size).entry() for number in needs]} if needs else {}
    manifest = Manifest("quick-run", 1, t, 100, "", {}, metrics, state_digest=f"{t:064d}", details=details)
    (folder / chunks.FOLDER).mkdir(parents=True, exist_ok=True)
    for number in needs:
        (folder / chunks.FOLDER / chunk(number, size).name).write_bytes(b"x" * size)
    path = folder / f"checkpoint_t{t}.zip"
    checkpoint.write_new(path, checkpoint.to_bytes(manifest, {"data": b"x"}))
    return path


def chunk(number: int, size: int = 1) -> Chunk:
    return Chunk.named(number, number + 1, f"{number:064d}", size)


@pytest.fixture
def nothing_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LITTLE_BYTES", 0)


def held(folder: Path) -> list[int]:
    """Numbers of the chunks that are there."""
    return sorted(int(path.stem.removeprefix("chunk_")) for path in (folder / chunks.FOLDER).glob("chunk_*"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.zip"))


def left(folder: Path) -> list[int]:
    return sorted(int(path.stem.partition("_t")[2]) for path in checkpoints_in(folder))


def test_retention_keeps_newest_best_published_and_powers_of_two() -> None:
    timesteps = list(range(10, 1001, 10))
    stay = retention.kept(timesteps, newest=3, best=370, published=820)
    assert stay >= {1000, 990, 980, 370, 820}
    assert stay == {1000, 990, 980, 370, 820, 10, 20, 40, 70, 130, 260, 520}
    assert len(retention.kept(list(range(1, 100_001)), 3)) < 25


@pytest.mark.parametrize(
    ("timesteps", "newest", "best", "published", "stay"),
    [
        ([], 3, None, None, set()),
        ([7], 3, None, None, {7}),
        ([5, 7], 0, None, None, {5, 7}),
        ([100, 300, 200], 1, None, None, {100, 200, 300}),
        ([100, 101, 102, 103, 104], 2, None, None, {100, 103, 104}),
        ([100, 101, 102, 103, 104], 1, None, None, {100, 103, 104}),
        ([100, 101, 102, 103, 104], 3, None, None, {100, 102, 103, 104}),
        ([100, 101, 102, 103, 104], 2, 101, 102, {100, 101, 102, 103, 104}),
        ([100, 101, 102, 103, 104], 2, 99, 105, {100, 103, 104}),
        ([1, 2, 3, 4, 5, 6, 7], 2, None, None, {1, 2, 4, 6, 7}),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 2, None, None, {1, 2, 4, 8, 10, 11}),
        ([60, 64, 66, 67, 68], 2, None, None, {60, 64, 67, 68}),
        ([60, 63, 66, 67, 68], 2, None, None, {60, 66, 67, 68}),
        ([0, 1, 3, 5, 6], 2, None, None, {1, 3, 5, 6}),
        ([63, 64], 2, None, None, {63, 64}),
        ([61, 62, 63, 64], 2, None, None, {61, 63, 64}),
    ],
)
def test_the_newest_the_best_the_published_and_powers_of_two_stay(
    timesteps: list[int], newest: int, best: int | None, published: int | None, stay: set[int]
) -> None:
    assert retention.kept(timesteps, newest, best, published) == stay


def test_checkpoints_that_stay_grow_as_the_logarithm() -> None:
    assert len(retention.kept(list(range(1, 100_001)), 3)) == 3 + 17


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({10: 1.0, 20: 3.0, 30: 2.0}, 20),
        ({10: 3, 20: 3.0, 30: -7.0}, 20),
        ({10: -9.0, 20: None, 30: -7.0}, 30),
        ({10: None, 20: None}, None),
        ({10: "9", 20: 1.0}, 20),
    ],
)
def test_the_best_is_the_highest_score_and_the_later_of_equals(scores: dict[int, Any], best: int | None) -> None:
    known = retention.Scores()
    paths = [Path(f"checkpoint_t{t}.zip") for t in scores]
    for path, (t, score) in zip(paths, scores.items(), strict=True):
        metrics = {} if score is None else {"eval/mean_reward": score}
        known.add(path, Manifest("quick-run", 1, t, 100, "", {}, metrics))
    assert known.best(paths) == best


def test_each_manifest_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path, 10, 5.0, (3,))
    scores = retention.Scores()
    assert scores.best([path]) == 10
    path.unlink()
    assert scores.chunks(path) == (chunk(3),)
    assert scores.best([tmp_path / "checkpoint_t20.zip"]) is None, "what cannot be read has no score"
    with pytest.raises(OSError, match="No such file"):
        scores.chunks(tmp_path / "checkpoint_t20.zip")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\x00" * 18])
def test_what_is_no_checkpoint_scores_nothing_and_needs_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_t10.zip"
    path.write_bytes(content)
    assert retention.Scores().best([path]) is None
    assert retention.Scores().chunks(path) == ()


def test_a_manifest_of_another_shape_scores_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_t10.zip"
    for text in ("[]", "{}", "7", '{"metrics": 3}'):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", text)
        assert retention.Scores().best([path]) is None


def test_pruning_leaves_what_must_stay_and_names_what_went(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for t in range(100, 111):
        write(folder, t, 9.0 if t == 105 else 1.0)
    (tmp_path / "published.json").write_text('{"num_timesteps": 103}')
    gone = retention.Retention(folder, 2).prune()
    assert sorted(gone) == [f"checkpoint_t{t}.zip" for t in (101, 102, 104, 106, 107, 108)]
    assert left(folder) == [100, 103, 105, 109, 110]


def test_pruning_never_deletes_the_last_two(tmp_path: Path) -> None:
    for t in (100, 101):
        write(tmp_path, t)
    assert retention.Retention(tmp_path, 0).prune() == []
    assert left(tmp_path) == [100, 101]


@pytest.mark.usefixtures("nothing_is_little")
def test_the_newest_two_keep_their_replay_buffer_and_milestones_their_weights(tmp_path: Path) -> None:
    for t, needs in {100: (0,), 101: (0, 1), 102: (1, 2), 103: (2, 3), 104: (3, 4)}.items():
        write(tmp_path, t, needs=needs)
    (tmp_path / chunks.FOLDER / "other.txt").write_text("x")
    (tmp_path / chunks.FOLDER / chunk(9).name).write_text("x")
    (tmp_path / chunks.FOLDER / chunk(8).name).write_text("x")
    assert retention.Retention(tmp_path, 3).prune({chunk(9).name}) == ["checkpoint_t101.zip"]
    assert names(tmp_path) == [
        "checkpoint_t100.weights.zip",
        "checkpoint_t102.weights.zip",
        "checkpoint_t103.zip",
        "checkpoint_t104.zip",
    ]
    assert held(tmp_path) == [2, 3, 4, 9]
    assert (tmp_path / chunks.FOLDER / "other.txt").exists()
    assert manifest.verify(tmp_path / "checkpoint_t100.weights.zip").num_timesteps == 100


@pytest.mark.usefixtures("nothing_is_little")
def test_an_older_checkpoint_keeps_a_replay_buffer_that_costs_little(tmp_path: Path) -> None:
    for t, needs in {100: (0, 1, 2), 101: (0, 1, 2, 3), 102: (1, 2, 3, 4), 103: (1, 2, 3, 4)}.items():
        write(tmp_path, t, needs=needs)
    retention.Retention(tmp_path, 4).prune()
    assert left(tmp_path) == [100, 101, 102, 103], "five chunks, where the newest has four"
    write(tmp_path, 104, needs=(3, 4, 5, 6))
    retention.Retention(tmp_path, 5).prune()
    assert left(tmp_path) == [102, 103, 104]


def test_small_replay_buffers_all_stay_and_so_do_as_many_as_are_asked_for(tmp_path: Path) -> None:
    for t in range(100, 105):
        write(tmp_path / "small", t, needs=(t,), size=10)
        write(tmp_path / "large", t, needs=(t,), size=retention.LITTLE_BYTES)
    retention.Retention(tmp_path / "small", 9).prune()
    assert left(tmp_path / "small") == [100, 101, 102, 103, 104]
    retention.Retention(tmp_path / "large", 9, whole=3).prune()
    assert left(tmp_path / "large") == [102, 103, 104]


@pytest.mark.usefixtures("nothing_is_little")
def test_over_the_budget_the_oldest_milestones_go_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for t in (1, 2, 4, 8, 16, 20, 21):
        write(folder, t, 9.0 if t == 2 else 1.0, needs=(t,), size=10_000)
    (tmp_path / "published.json").write_text('{"num_timesteps": 4}')
    keeper = retention.Retention(folder, 2)
    keeper.prune()
    taken = retention.used_bytes(folder)
    assert held(folder) == [20, 21]
    keeper.budget_bytes = taken
    assert keeper.prune() == []
    keeper.budget_bytes = taken - 1
    assert keeper.prune() == ["checkpoint_t1.weights.zip"]
    keeper.budget_bytes = 0
    assert keeper.prune() == ["checkpoint_t8.weights.zip", "checkpoint_t16.weights.zip"]
    assert names(folder) == [
        "checkpoint_t2.weights.zip",
        "checkpoint_t20.zip",
        "checkpoint_t21.zip",
        "checkpoint_t4.weights.zip",
    ]


def test_room_is_made_of_milestones_first_and_the_newest_is_never_touched(tmp_path: Path) -> None:
    for t in (1, 2, 4, 6, 7):
        write(tmp_path, t, 9.0 if t == 2 else 1.0, needs=(t,))
    (tmp_path / "checkpoint_t5.zip.refused").write_bytes(b"x")
    keeper = retention.Retention(tmp_path, 2)
    assert keeper.make_room({chunk(1).name})
    assert not (tmp_path / "checkpoint_t5.zip.refused").exists()
    assert names(tmp_path) == ["checkpoint_t2.zip", "checkpoint_t6.zip", "checkpoint_t7.zip"]
    assert held(tmp_path) == [1, 2, 6, 7]
    assert not keeper.make_room({chunk(1).name}), "there are no more"
    assert keeper.make_room(everything=True)
    assert (names(tmp_path), held(tmp_path)) == (["checkpoint_t2.zip", "checkpoint_t7.zip"], [2, 7])
    assert not keeper.make_room(everything=True)


@pytest.mark.parametrize("unreadable", [100, 104])
def test_no_chunk_goes_while_a_checkpoint_that_stays_cannot_be_read(unreadable: int, tmp_path: Path) -> None:
    for t in range(100, 105):
        write(tmp_path, t)
    stray = tmp_path / chunks.FOLDER / chunk(1).name
    stray.write_bytes(b"x")
    broken = tmp_path / f"checkpoint_t{unreadable}.zip"
    broken.unlink()
    broken.mkdir()  # reading it is an OSError
    retention.Retention(tmp_path, 2).prune()
    assert stray.exists()
    assert broken.exists()


def test_room_is_made_of_chunks_alone_where_only_those_are_in_excess(tmp_path: Path) -> None:
    keeper = retention.Retention(tmp_path, 2)
    assert not keeper.make_room(), "there is nothing at all"
    for t in (6, 7):
        write(tmp_path, t, needs=(t,))
    stray = tmp_path / chunks.FOLDER / chunk(1).name
    stray.write_bytes(b"x")
    assert keeper.make_room()
    assert not stray.exists()
    stray.write_bytes(b"x")
    (tmp_path / "checkpoint_t6.zip").unlink()
    (tmp_path / "checkpoint_t6.zip").mkdir()
    assert not retention.Retention(tmp_path, 2).make_room(), "what cannot be read may list any of them"
    assert stray.exists()


def test_the_budget_is_what_is_asked_for_and_else_most_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, needs=(1,), size=5000)
    used = retention.used_bytes(tmp_path)
    assert used == 5000 + (tmp_path / "checkpoint_t1.zip").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert retention.budget_bytes(tmp_path, 7) == 7
    assert retention.budget_bytes(tmp_path) == used + 900


@pytest.mark.parametrize(
    ("written", "published", "given_up"),
    [
        (None, None, False),
        ('{"num_timesteps": 820, "given_up": false}', 820, False),
        ('{"num_timesteps": null, "given_up": true}', None, True),
        ('{"num_timesteps": 7}', 7, False),
        ("[]", None, False),
        ('{"num_times', None, False),
    ],
)
def test_what_is_published_is_read_from_its_marker(
    written: str | None, published: int | None, given_up: bool, tmp_path: Path
) -> None:
    if written is not None:
        (tmp_path / "published.json").write_text(written)
    assert retention.published_timesteps(tmp_path) == published
    assert retention.publishing_given_up(tmp_path) is given_up
