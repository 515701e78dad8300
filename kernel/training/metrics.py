"""What a training measures of itself: a row of numbers at every multiple of `checkpoint_freq`.

Rows depend on the training alone, never on clocks or on which checkpoints were written, so a run that was killed and
resumed writes the same bytes as one that was not. Everything kept here is part of the exact state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernel.checkpoints import digests
from kernel.contract.files import write_aside

Row = tuple[int, str]
"""A row's timestep and its line."""
RECENT_ROWS = 100
"""Rows that travel inside a checkpoint: those that the file on the disk may lack after a kill."""
WINDOW = 200
"""Vector steps that progress and health look back on."""


def json_number(value: Any) -> Any:
    """`value` as JSON holds it; what is no number becomes a word, because NaN must be seen, not lost."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def row_text(row: dict[str, Any]) -> str:
    """One line of the file."""
    return json.dumps(row, sort_keys=True, allow_nan=False) + "\n"


def read_rows(text: str) -> dict[int, str]:
    """Lines of a metrics file by timestep; a torn last line is left out."""
    rows: dict[int, str] = {}
    for line in text.splitlines():
        try:
            rows[int(json.loads(line)["num_timesteps"])] = line + "\n"
        except (ValueError, KeyError, TypeError):
            continue
    return rows


class MetricsFile:
    """`metrics.jsonl`: every row up to the newest checkpoint, re-created from checkpoints where it lacks some."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.newest = -1

    def begin(self, num_timesteps: int, sources: Iterable[str]) -> None:
        """Rows of all `sources` up to `num_timesteps`, later sources first choice; the file is replaced at once."""
        rows: dict[int, str] = {}
        for text in sources:
            rows.update(read_rows(text))
        kept = {t: line for t, line in sorted(rows.items()) if t <= num_timesteps}
        self.newest = max(kept, default=-1)
        write_aside(self.path, "".join(kept.values()).encode())

    def append(self, rows: Iterable[Row]) -> None:
        """Add the rows that are newer than what is there."""
        fresh = [row for row in rows if row[0] > self.newest]
        if fresh:
            digests.append_lines(self.path, "".join(text for _, text in fresh))
            self.newest = fresh[-1][0]
