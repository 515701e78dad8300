"""What is fetched is verified; a bad newest one gives way to the one before; good files are never touched."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from kernel.contract.config import RunConfig
from kernel.contract.manifest import MANIFEST, Manifest, Member, verify
from launcher.errors import CheckpointError, NotFound
from launcher.runs import checkpoints
from launcher.runs.checkpoints import Fetched
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, new_run
from launcher.runs.run import RunHandle
from launcher.targets.base import DatasetVersion, RemoteFile
from launcher.transfers import OnBytes

RUN_ID = "quick-abcdef"
CONFIG = RunConfig(RUN_ID, 100, 10)


def checkpoint_members(num_timesteps: int, run_id: str = RUN_ID, digest: str = CONFIG.digest) -> dict[str, bytes]:
    """A whole checkpoint, member by member."""
    content = {"policy.pth": f"weights at {num_timesteps}".encode() * 50, "kaglaunch/state.bin": b"\0" * 200}
    members = {name: Member(len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    state = members["kaglaunch/state.bin"].sha256
    manifest = Manifest(run_id, 1, num_timesteps, 100, digest, members, metrics={"loss": 0.5}, state_digest=state)
    return {**content, MANIFEST: manifest.to_json().encode()}


def zipped(members: dict[str, bytes]) -> bytes:
    """`members` as one stored zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Shelf:
    """A target that holds what a test put there; counts downloads."""

    username = "local"

    def __init__(self) -> None:
        self.versions: dict[int, dict[str, bytes]] = {}
        self.outputs: dict[str, dict[str, bytes]] = {}
        self.downloads: list[str] = []

    def dataset_versions(self, dataset: str) -> list[DatasetVersion]:
        assert dataset == f"local/{RUN_ID}-ckpt"
        return [DatasetVersion(number, None) for number in sorted(self.versions, reverse=True)]

    def dataset_files(self, dataset: str, version: int) -> list[RemoteFile]:
        return [RemoteFile(name, len(data)) for name, data in self.versions[version].items()]

    def download_dataset_file(
        self, dataset: str, version: int, name: str, to: Path, on_bytes: OnBytes | None = None
    ) -> None:
        self.downloads.append(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(self.versions[version][name])

    def output_files(self, slug: str) -> list[RemoteFile]:
        if slug not in self.outputs:
            raise NotFound("Permission 'kernels.get' was denied")
        return [RemoteFile(name) for name in self.outputs[slug]]

    def download_output(self, slug: str, name: str, to: Path, on_bytes: OnBytes | None = None) -> None:
        self.downloads.append(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(self.outputs[slug][name])


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(RUN_ID, "local", "local", CONFIG, tmp_path)


@pytest.fixture
def book(run: Run, tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_run(run)
    ledger.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=60,
        max_timesteps_at_risk=0,
        publish_interval_seconds=1,
        after=0,
    )
    return ledger


def _fetch(run: Run, shelf: Shelf, book: Ledger, **kwargs: bool | int) -> list[Fetched]:
    return checkpoints.fetch(run, shelf, book, **kwargs)  # type: ignore[arg-type]


def test_the_newest_version_is_fetched_verified_and_remembered_as_published(
    run: Run, shelf: Shelf, book: Ledger
) -> None:
    for number, timesteps in ((1, 10), (2, 20), (3, 30)):
        shelf.versions[number] = {f"checkpoint_t{timesteps}.zip.bin": zipped(checkpoint_members(timesteps))}
    (result,) = _fetch(run, shelf, book)
    assert (result.num_timesteps, result.verdict, result.origin) == (30, "verified", "version 3")
    assert result.path is not None
    assert verify(result.path, run_id=RUN_ID).num_timesteps == 30
    assert shelf.downloads == ["checkpoint_t30.zip.bin"]
    assert book.sessions(RUN_ID)[0].published_timesteps == 30


def _cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def _flipped(whole: bytes) -> bytes:
    at = whole.index(b"weights") + 3
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize(
    "bad",
    [
        _cut(zipped(checkpoint_members(30))),
        _flipped(zipped(checkpoint_members(30))),
        zipped({**checkpoint_members(30), "extra.pkl": b"stray"}),
        zipped(checkpoint_members(40)),
        zipped(checkpoint_members(30, run_id="quick-foreign")),
        zipped(checkpoint_members(30, digest="0" * 64)),
        b"",
        b"<html>Too many requests</html>",
    ],
    ids=["cut", "flipped", "stray-member", "other-timestep", "other-run", "other-config", "empty", "html"],
)
def test_a_bad_newest_one_is_reported_and_the_one_before_is_taken(
    run: Run, shelf: Shelf, book: Ledger, bad: bytes
) -> None:
    shelf.versions = {
        1: {"checkpoint_t20.zip.bin": zipped(checkpoint_members(20))},
        2: {"checkpoint_t30.zip.bin": bad},
    }
    worse, good = _fetch(run, shelf, book)
    assert (worse.num_timesteps, worse.path) == (30, None)
    assert worse.verdict.startswith("not usable")
    assert (good.num_timesteps, good.verdict) == (20, "verified")
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint_t20.zip"]


def test_a_good_file_that_is_here_is_neither_fetched_nor_touched(run: Run, shelf: Shelf, book: Ledger) -> None:
    shelf.versions[1] = {"checkpoint_t30.zip.bin": zipped(checkpoint_members(30))}
    (first,) = _fetch(run, shelf, book)
    assert first.path is not None
    before = first.path.stat()
    (second,) = _fetch(run, shelf, book)
    assert second.verdict == "already here"
    assert len(shelf.downloads) == 1
    assert first.path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_that_is_here_is_fetched_again(run: Run, shelf: Shelf, book: Ledger) -> None:
    shelf.versions[1] = {"checkpoint_t30.zip.bin": zipped(checkpoint_members(30))}
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "checkpoint_t30.zip").write_bytes(b"torn")
    (result,) = _fetch(run, shelf, book)
    assert result.verdict == "verified"
    assert result.path is not None
    verify(result.path)


def test_a_damaged_file_here_stays_when_nothing_better_comes(run: Run, shelf: Shelf, book: Ledger) -> None:
    shelf.versions[1] = {"checkpoint_t30.zip.bin": b"also torn"}
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "checkpoint_t30.zip").write_bytes(b"torn")
    (result,) = _fetch(run, shelf, book)
    assert result.path is None
    assert (run.checkpoints / "checkpoint_t30.zip").read_bytes() == b"torn"


@pytest.mark.parametrize("folder", ["checkpoint_t30", "checkpoint_t30.zip", "checkpoint_t30.zip.bin"])
def test_a_checkpoint_that_came_back_unpacked_is_put_together_and_verified(
    run: Run, shelf: Shelf, book: Ledger, folder: str
) -> None:
    shelf.versions[1] = {f"{folder}/{name}": data for name, data in checkpoint_members(30).items()}
    (result,) = _fetch(run, shelf, book)
    assert result.verdict == "verified"
    assert result.path is not None
    assert verify(result.path).num_timesteps == 30


def test_outputs_of_a_finished_session_count_when_they_are_newer(run: Run, shelf: Shelf, book: Ledger) -> None:
    shelf.versions[1] = {"checkpoint_t30.zip.bin": zipped(checkpoint_members(30))}
    shelf.outputs[run.slug(1)] = {
        "checkpoints/checkpoint_t100.zip": zipped(checkpoint_members(100)),
        "result.json": b"{}",
    }
    (result,) = _fetch(run, shelf, book)
    assert (result.num_timesteps, result.origin) == (100, "outputs of session 1")


def test_all_brings_every_timestep_once(run: Run, shelf: Shelf, book: Ledger) -> None:
    for number, timesteps in ((1, 10), (2, 20), (3, 20)):
        shelf.versions[number] = {f"checkpoint_t{timesteps}.zip.bin": zipped(checkpoint_members(timesteps))}
    results = _fetch(run, shelf, book, everything=True)
    assert [result.num_timesteps for result in results] == [20, 10]


def test_a_step_that_is_asked_for_is_the_one_that_comes(run: Run, shelf: Shelf, book: Ledger) -> None:
    for number, timesteps in ((1, 10), (2, 20), (3, 30)):
        shelf.versions[number] = {f"checkpoint_t{timesteps}.zip.bin": zipped(checkpoint_members(timesteps))}
    (result,) = _fetch(run, shelf, book, step=20)
    assert result.num_timesteps == 20
    assert _fetch(run, shelf, book, step=50) == []


def test_nothing_published_is_nothing_fetched(run: Run, shelf: Shelf, book: Ledger) -> None:
    assert _fetch(run, shelf, book) == []


@pytest.mark.parametrize(
    ("known", "here", "advised", "never"),
    [
        ({"status": ""}, None, "kaglaunch watch", "resume"),
        ({"status": "RUNNING"}, None, "kaglaunch watch", "resume"),
        ({"status": "CANCEL_ACKNOWLEDGED"}, None, "resume {run}` starts from timestep 0", "watch"),
        ({"submission": "absent"}, None, "resume {run}` starts from timestep 0", "watch"),
        ({"status": "COMPLETE"}, 20, "resume {run}` starts from the checkpoint t20 of this machine", "watch"),
    ],
)
def test_a_fetch_that_brings_nothing_advises_by_what_is_known_of_the_session(
    run: Run, book: Ledger, known: dict[str, str], here: int | None, advised: str, never: str
) -> None:
    book.update_session(RUN_ID, 1, **known)
    if here is not None:
        run.checkpoints.mkdir(parents=True)
        (run.checkpoints / f"checkpoint_t{here}.zip").write_bytes(zipped(checkpoint_members(here)))
    with pytest.raises(CheckpointError) as raised:
        RunHandle(run, book).require_fetched([])
    assert advised.format(run=RUN_ID) in str(raised.value)
    assert never not in str(raised.value)
