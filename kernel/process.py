"""Facts of this process.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path


def process_age(stat: Path = Path("/proc/self/stat"), uptime: Path = Path("/proc/uptime")) -> float:
    """Seconds since this process began, on no wall clock; 0 where the system does not tell."""
    try:
        ticks = float(stat.read_text("utf-8").rpartition(")")[2].split()[19])
        return max(0.0, float(uptime.read_text("utf-8").split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0
