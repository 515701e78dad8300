"""The memory limit that binds a session is read from its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from kernel.session.memory import MemoryLimit


@pytest.mark.parametrize(
    ("files", "total", "kills"),
    [
        ({"memory.max": "3000000\n", "memory.events": "oom 4\noom_kill 2\n"}, 3_000_000, 2),
        ({"memory/memory.limit_in_bytes": "5000000\n", "memory/memory.oom_control": "oom_kill 1\n"}, 5_000_000, 1),
        ({"memory.max": "max\n"}, psutil.virtual_memory().total, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, psutil.virtual_memory().total, 0),
        ({}, psutil.virtual_memory().total, 0),
    ],
    ids=["version 2", "version 1", "no limit", "no limit, version 1", "no groups"],
)
def test_memory_limit_is_read_from_groups_of_either_version(
    files: dict[str, str], total: int, kills: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    limit = MemoryLimit(os.getpid(), tmp_path)
    assert (limit.total_bytes(), limit.oom_kills()) == (total, kills)
