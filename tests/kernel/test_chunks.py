"""What a manifest says of replay chunks is believed only where it is whole, and leads nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.checkpoints import sources
from kernel.contract import chunks
from kernel.contract.manifest import CheckpointInvalid, Manifest

WHOLE = {"first": 0, "last": 4, "sha256": "0" * 64, "size": 9}
EARLIER = {**WHOLE, "name": "replay_0_4_01234567.bin"}


def manifest(**details: Any) -> Manifest:
    return Manifest("quick-run", 1, 1, 1, "", {}, details=details)


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {},
        {**WHOLE, "sha256": "../../etc/passwd"},
        {**WHOLE, "sha256": "0" * 63},
        {**WHOLE, "sha256": 7},
        {**WHOLE, "name": "chunk_1.bin"},
        {**WHOLE, "first": 4},
        {**WHOLE, "first": -1},
        {**WHOLE, "last": True},
        {**WHOLE, "size": 1.5},
    ],
)
def test_what_names_no_chunk_is_refused(entry: object) -> None:
    with pytest.raises(CheckpointInvalid):
        chunks.listed(manifest(chunks=[entry]))


@pytest.mark.parametrize("name", ["../../etc/passwd", "replay_0_1_zz.bin", "/tmp/x", 7])
def test_names_of_the_version_before_cannot_lead_elsewhere(name: object) -> None:
    assert chunks.listed(manifest(segments=[EARLIER]))[0].name == EARLIER["name"]
    with pytest.raises(CheckpointInvalid):
        chunks.listed(manifest(segments=[{**EARLIER, "name": name}]))


def test_chunks_that_leave_a_gap_are_refused() -> None:
    following = {**WHOLE, "first": 4, "last": 6}
    assert [chunk.last for chunk in chunks.listed(manifest(chunks=[WHOLE, following]))] == [4, 6]
    for other in ({**following, "first": 5}, {**following, "first": 3}):
        with pytest.raises(CheckpointInvalid, match="gap"):
            chunks.listed(manifest(chunks=[WHOLE, other]))
    with pytest.raises(CheckpointInvalid):
        chunks.listed(manifest(chunks="all"))


def test_without_a_mount_there_are_no_mounted_folders() -> None:
    assert sources.mounted_folders("") == []
