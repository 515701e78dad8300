"""Names of replay segments are names and nothing else."""

from __future__ import annotations

import pytest

from kernel.checkpoints import sources
from kernel.contract import segments
from kernel.contract.manifest import CheckpointInvalid, Manifest


def test_segment_names_cannot_lead_elsewhere() -> None:
    for name in ("../../etc/passwd", "replay_0_1_zz.bin", "/tmp/x", 7):
        manifest = Manifest("quick-run", 1, 1, 1, "", {}, details={"segments": [{"name": name}]})
        with pytest.raises(CheckpointInvalid):
            segments.listed(manifest)
    assert sources.mounted_folders("") == []
