"""Checkpoints and their replay segments over real HTTP, through downloads that are torn or altered on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from kernel.contract import chunks
from kernel.contract.manifest import MANIFEST, Manifest, verify
from launcher.local_kaggle.service import LocalKaggle
from launcher.runs import checkpoints
from launcher.runs.checkpoints import Fetched
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend
from launcher.targets.storage import CHUNK_BYTES
from launcher.transfers import PlainTransfers
from tests.limits import limit_s, until

from .local_kaggle.callers import DATASETS, FAST, Caller, reaches
from .test_checkpoints import book, checkpoint_members, run, zipped

__all__ = ["book", "run"]
SEGMENT = bytes(range(256)) * 1000
OLDER = SEGMENT[:50_000]


@pytest.fixture
def local_kaggle(tmp_path: Path) -> Iterator[LocalKaggle]:
    service = LocalKaggle(tmp_path / "local-kaggle")
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(**FAST)
    yield service
    service.stop()


@pytest.fixture
def call(local_kaggle: LocalKaggle) -> Caller:
    return Caller(local_kaggle)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Range headers of all downloads."""
    asked: list[str] = []
    real = requests.Session.get

    def get(self: requests.Session, url: str, **kwargs: object) -> requests.Response:
        asked.append(str((kwargs.get("headers") or {}).get("Range", "")))  # type: ignore[attr-defined]
        return real(self, url, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "get", get)
    return asked


def _backend(kaggle: LocalKaggle, patience_s: float = 10.0) -> KaggleBackend:
    endpoint = kaggle.ensure_running(timeout_s=limit_s(20))
    return KaggleBackend(endpoint.url, Credentials("a test", endpoint.token, endpoint.username), patience_s=patience_s)


def _segment(first: int, last: int, data: bytes) -> tuple[str, dict[str, object]]:
    digest = hashlib.sha256(data).hexdigest()
    name = f"replay_{first}_{last}_{digest[:8]}.bin"
    return name, {"first": first, "last": last, "name": name, "sha256": digest, "size": len(data)}


def _with_segments(num_timesteps: int, entries: list[dict[str, object]]) -> bytes:
    members = checkpoint_members(num_timesteps)
    manifest = dataclasses.replace(Manifest.from_json(members[MANIFEST]), details={"segments": entries})
    return zipped({**members, MANIFEST: manifest.to_json().encode()})


def _publish(call: Caller, run: Run, files: dict[str, bytes]) -> None:
    slug = run.dataset.split("/")[1]
    call.dataset(slug, **{name.replace(".", "__"): data for name, data in files.items()})

    def status() -> str:
        try:
            return str(call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=slug)["status"])
        except OSError:
            return ""

    until(lambda: status().upper() == "READY")


def _publish_two(call: Caller, run: Run) -> tuple[str, str]:
    """Version 1 with t20 and one segment, version 2 with t30 and two."""
    (old, old_entry), (new, new_entry) = _segment(0, 20, OLDER), _segment(20, 30, SEGMENT)
    _publish(call, run, {"checkpoint_t20.zip.bin": _with_segments(20, [old_entry]), old: OLDER})
    both = _with_segments(30, [old_entry, new_entry])
    _publish(call, run, {"checkpoint_t30.zip.bin": both, old: OLDER, new: SEGMENT, "metrics.jsonl": b'{"t": 30}\n'})
    return old, new


def _fetch(run: Run, kaggle: LocalKaggle, book: Ledger, said: list[str], patience_s: float = 10.0) -> list[Fetched]:
    shown = PlainTransfers(said.append)
    return checkpoints.fetch(run, _backend(kaggle, patience_s), book, transfers=shown)


def test_a_checkpoint_comes_with_every_replay_segment_it_lists(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger
) -> None:
    old, new = _publish_two(call, run)
    said: list[str] = []
    (result,) = _fetch(run, local_kaggle, book, said)
    assert (result.num_timesteps, result.verdict) == (30, "verified")
    assert result.path is not None
    chunks.verify(result.path, verify(result.path))
    assert (run.checkpoints / "replay" / new).read_bytes() == SEGMENT
    assert (run.folder / "metrics.jsonl").read_bytes() == b'{"t": 30}\n'
    assert sum(f"{len(SEGMENT):,} bytes from version 2" in line for line in said) == 1

    (run.checkpoints / "replay" / old).unlink()
    before = (run.checkpoints / "replay" / new).stat()
    (again,) = _fetch(run, local_kaggle, book, [])
    assert again.verdict == "verified"
    assert (run.checkpoints / "replay" / old).read_bytes() == OLDER
    assert (run.checkpoints / "replay" / new).stat().st_mtime_ns == before.st_mtime_ns
    assert _fetch(run, local_kaggle, book, [])[0].verdict == "already here"


def test_a_torn_download_goes_on_where_it_broke_off(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger, ranges: list[str]
) -> None:
    _, new = _publish_two(call, run)
    # The first one goes to the answer that tells the address, of which nothing is read.
    local_kaggle.set_fault("download_cut", {"bytes": 100_000, "pattern": new, "times": 3})
    (result,) = _fetch(run, local_kaggle, book, [])
    assert result.verdict == "verified"
    assert (run.checkpoints / "replay" / new).read_bytes() == SEGMENT
    continued = [asked for asked in ranges if asked]
    assert len(continued) == 2
    assert all(int(asked.removeprefix("bytes=").rstrip("-")) > 50_000 for asked in continued)


def test_a_command_that_gave_up_is_continued_by_the_next_one(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger, ranges: list[str]
) -> None:
    _, new = _publish_two(call, run)
    local_kaggle.set_fault("download_cut", {"bytes": 100_000, "pattern": new, "times": 50})
    said: list[str] = []
    first, second = _fetch(run, local_kaggle, book, said, patience_s=0.0)
    assert (first.num_timesteps, first.path) == (30, None)
    assert first.verdict.startswith("not fetched")
    assert (second.num_timesteps, second.verdict) == (20, "verified")
    assert not (run.checkpoints / "checkpoint_t30.zip").exists()
    local_kaggle.clear_faults()
    ranges.clear()
    (result,) = _fetch(run, local_kaggle, book, said)
    assert (result.num_timesteps, result.verdict) == (30, "verified")
    (asked,) = [asked for asked in ranges if asked]
    assert 100_000 - CHUNK_BYTES < int(asked.removeprefix("bytes=").rstrip("-")) <= 100_000
    assert any(line.startswith(f"{new}: goes on after") for line in said)


@pytest.mark.parametrize("name", ["checkpoint_t30", "replay_20_30"])
def test_bytes_altered_on_the_way_are_reported_and_the_checkpoint_before_is_taken(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger, name: str
) -> None:
    _publish_two(call, run)
    local_kaggle.set_fault("download_wrong", {"bytes": 300, "pattern": name, "times": 2})
    said: list[str] = []
    worse, good = _fetch(run, local_kaggle, book, said)
    assert worse.path is None
    assert worse.verdict.startswith("not usable")
    assert (good.num_timesteps, good.verdict) == (20, "verified")
    assert any("checkpoint_t30.zip of version 2 is not usable" in line for line in said)
    assert not (run.checkpoints / "checkpoint_t30.zip").exists()
    (cured, *_) = _fetch(run, local_kaggle, book, [])
    assert (cured.num_timesteps, cured.verdict) == (30, "verified")


def test_a_continued_download_that_turns_out_bad_is_fetched_anew(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger
) -> None:
    _, new = _publish_two(call, run)
    folder = run.checkpoints / "replay"
    folder.mkdir(parents=True)
    (folder / f".incoming-version-2-{new}.part").write_bytes(b"other bytes than those of the file")
    said: list[str] = []
    (result,) = _fetch(run, local_kaggle, book, said)
    assert result.verdict == "verified"
    assert (folder / new).read_bytes() == SEGMENT
    assert any("it is fetched anew" in line for line in said)


OUTPUTS = """
import base64, json, pathlib
for name, data in json.loads({files!r}).items():
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b85decode(data))
"""


def test_outputs_of_a_kernel_bring_their_segments_too(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger
) -> None:
    import base64

    name, entry = _segment(0, 100, OLDER)
    files = {
        "checkpoints/checkpoint_t100.zip": _with_segments(100, [entry]),
        f"checkpoints/replay/{name}": OLDER,
        "metrics.jsonl": b'{"t": 100}\n',
    }
    listed = json.dumps({path: base64.b85encode(data).decode() for path, data in files.items()})
    call.push(run.slug(1), OUTPUTS.format(files=listed))
    reaches(call, run.slug(1), "COMPLETE")
    (result,) = until(lambda: _fetch(run, local_kaggle, book, []))
    assert (result.num_timesteps, result.origin, result.verdict) == (100, "outputs of session 1", "verified")
    assert result.path is not None
    chunks.verify(result.path, verify(result.path))


def test_weights_without_their_replay_buffer_are_brought_only_where_they_are_asked_for(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger
) -> None:
    import base64

    (old, old_entry), (name, entry) = _segment(0, 50, OLDER), _segment(0, 100, SEGMENT)
    files = {
        "checkpoints/checkpoint_t50.weights.zip": _with_segments(50, [old_entry]),
        "checkpoints/checkpoint_t100.weights.zip": _with_segments(100, [old_entry]),
        "checkpoints/checkpoint_t100.zip": _with_segments(100, [entry]),
        f"checkpoints/replay/{name}": SEGMENT,
    }
    listed = json.dumps({path: base64.b85encode(data).decode() for path, data in files.items()})
    call.push(run.slug(1), OUTPUTS.format(files=listed))
    reaches(call, run.slug(1), "COMPLETE")
    (newest,) = until(lambda: _fetch(run, local_kaggle, book, []))
    assert (newest.num_timesteps, newest.verdict) == (100, "verified")
    assert [path.name for path in run.checkpoints.glob("*.zip")] == ["checkpoint_t100.zip"]
    every = checkpoints.fetch(run, _backend(local_kaggle), book, everything=True)
    assert [(found.num_timesteps, found.verdict) for found in every] == [(100, "already here"), (50, "weights alone")]
    assert (run.checkpoints / "checkpoint_t50.weights.zip").is_file()
    assert not (run.checkpoints / "replay" / old).exists()
    here = checkpoints.newest_here(run)
    assert here is not None
    assert here.num_timesteps == 100
    (asked,) = checkpoints.fetch(run, _backend(local_kaggle), book, step=50)
    assert (asked.num_timesteps, asked.verdict) == (50, "weights alone")


def test_a_segment_name_that_leads_elsewhere_is_refused(
    run: Run, local_kaggle: LocalKaggle, call: Caller, book: Ledger
) -> None:
    _, entry = _segment(0, 20, OLDER)
    evil = {**entry, "name": "../../evil.bin"}
    _publish(call, run, {"checkpoint_t20.zip.bin": _with_segments(20, [evil])})
    (result,) = _fetch(run, local_kaggle, book, [])
    assert result.path is None
    assert "evil" in result.verdict
    assert [path.name for path in run.checkpoints.iterdir()] == []
