"""A checkpoint from the network may hold anything: it is refused, or its arrays are read and nothing else happens."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, configuration, digests, learn

from kernel.checkpoints import checkpoint, sources
from kernel.contract.manifest import MANIFEST, CheckpointInvalid, Manifest, verify
from tests.limits import limit_s

from .support import environment


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.target}",))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder of checkpoints up to timestep 48."""
    folder = tmp_path / "run"
    learn(configuration({"total_timesteps": 48}, keep_checkpoints=20), folder)
    return folder


def members_of(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    return Manifest.from_json(data.pop(MANIFEST)), data


def test_payload_in_every_pickled_member_is_never_run(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    payload = pickle.dumps(Payload(target))
    path = whole / "checkpoints" / "checkpoint_t40.zip"
    manifest, members = members_of(path)
    for name in ("data", "policy.pth", "policy.optimizer.pth"):
        members[name] = payload
    for later in (whole / "checkpoints").glob("checkpoint_t48.zip"):
        later.unlink()
    path.unlink()
    # Whoever can write the file can write a manifest that fits it.
    checkpoint.write_new(path, checkpoint.to_bytes(manifest, members))
    ear = Ear()
    status, _, _ = learn(configuration({"total_timesteps": 48}), whole, ear)
    assert status == "finished"
    assert ear.of("training")[0]["num_timesteps"] == 40
    assert not target.exists()
    pickle.loads(payload)
    assert target.exists(), "the payload works where something unpickles it"


def test_payload_as_the_state_is_refused(whole: Path, tmp_path: Path) -> None:
    path = whole / "checkpoints" / "checkpoint_t48.zip"
    manifest, members = members_of(path)
    members[checkpoint.STATE] = pickle.dumps(Payload(tmp_path / "owned"))
    manifest = dataclasses.replace(manifest, state_digest=hashlib.sha256(members[checkpoint.STATE]).hexdigest())
    path.unlink()
    checkpoint.write_new(path, checkpoint.to_bytes(manifest, members))
    ear = Ear()
    assert learn(configuration({"total_timesteps": 48}), whole, ear)[0] == "finished"
    assert "does not begin as a state does" in ear.of("checkpoint_refused")[0]["reason"]
    assert ear.of("training")[0]["num_timesteps"] == 40
    assert not (tmp_path / "owned").exists()


def rewritten(path: Path, change: Callable[[zipfile.ZipFile, dict[str, bytes], str], None]) -> None:
    manifest, members = members_of(path)
    listed = {name: {"size": len(d), "sha256": checkpoint.hashlib.sha256(d).hexdigest()} for name, d in members.items()}
    text = json.dumps({**json.loads(manifest.to_json()), "members": listed})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        change(archive, members, text)
    path.write_bytes(file.getvalue())


def _slip(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text), ("../../escaped.txt", b"x"), ("/tmp/escaped.txt", b"x")]:
        archive.writestr(name, data)


def _extra(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text), ("further.pth", b"x")]:
        archive.writestr(name, data)


def _bomb(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text)]:
        archive.writestr(name, data)
    archive.writestr("bomb.bin", b"\0" * 200_000_000, zipfile.ZIP_DEFLATED)


def _packed_state(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text)]:
        archive.writestr(name, data, zipfile.ZIP_DEFLATED if name == checkpoint.STATE else zipfile.ZIP_STORED)


def _missing(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*list(members.items())[:-1], (MANIFEST, text)]:
        archive.writestr(name, data)


def _wrong_hash(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text)]:
        archive.writestr(name, data[:-1] + b"?" if name == checkpoint.STATE else data)


def _huge_manifest(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text + " " * 5_000_000)]:
        archive.writestr(name, data)


def _other_format(archive: zipfile.ZipFile, members: dict[str, bytes], text: str) -> None:
    for name, data in [*members.items(), (MANIFEST, text.replace('"format": 1', '"format": 99'))]:
        archive.writestr(name, data)


@pytest.mark.parametrize(
    "change", [_slip, _extra, _bomb, _packed_state, _missing, _wrong_hash, _huge_manifest, _other_format]
)
def test_tampered_checkpoint_is_refused_and_the_one_before_is_used(change: Any, whole: Path, tmp_path: Path) -> None:
    path = whole / "checkpoints" / "checkpoint_t48.zip"
    rewritten(path, change)
    with pytest.raises(CheckpointInvalid):
        verify(path)
    ear = Ear()
    assert learn(configuration({"total_timesteps": 48}), whole, ear)[0] == "finished"
    assert ear.of("training")[0]["num_timesteps"] == 40
    assert [event["file"] for event in ear.of("checkpoint_refused")] == ["checkpoint_t48.zip"]
    assert not (tmp_path / "escaped.txt").exists()
    assert not Path("/tmp/escaped.txt").exists()
    assert max(digests(whole)) == 48


def test_verifying_a_bomb_allocates_nothing_of_it(whole: Path) -> None:
    path = whole / "checkpoints" / "checkpoint_t48.zip"
    rewritten(path, _bomb)
    code = f"""
import resource
from pathlib import Path
from kernel.contract.manifest import verify
resource.setrlimit(resource.RLIMIT_AS, (150_000_000, 150_000_000))
try:
    verify(Path({str(path)!r}))
except ValueError as error:
    print("refused", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=limit_s(60)
    )
    assert done.stdout.startswith("refused"), done.stderr


def test_member_names_of_an_unpacked_tree_cannot_lead_outside(whole: Path, tmp_path: Path) -> None:
    path = whole / "checkpoints" / "checkpoint_t48.zip"
    tree = tmp_path / "mount" / "checkpoint_t48"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tree)
    text = json.loads((tree / MANIFEST).read_text())
    text["members"]["../../../etc/hostname"] = {"size": 1, "sha256": "0" * 64}
    (tree / MANIFEST).write_text(json.dumps(text))
    choice = sources.choose([tmp_path / "mount"], configuration().run)
    assert choice.path is None
    assert "members missing" in choice.refused[0].reason
