"""`result.json`: how a session ended, true whatever happened.

Standard library only.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "result.json"
STATUSES = ("finished", "deadline", "flood", "unhealthy", "crashed", "stopped")


@dataclass
class Result:
    """The end of a session; the `result` event has the same fields."""

    status: str
    num_timesteps: int = 0
    """Timestep of the newest checkpoint that verifies."""
    total_timesteps: int = 0
    published_timesteps: int | None = None
    """Timestep of the newest checkpoint that is in a dataset version; None when nothing was published."""
    restarts: int = 0
    message: str = ""
    run_id: str = ""
    session: int = 0
    seconds: float = 0.0
    exact: bool = True
    log_lines: int = 0
    hidden_lines: int = 0

    def write(self, folder: Path) -> None:
        """Put it into `folder`, whole or not at all."""
        aside = folder / f".{FILE}.tmp"
        aside.write_text(json.dumps(asdict(self), sort_keys=True, indent=1) + "\n", "utf-8")
        os.replace(aside, folder / FILE)
