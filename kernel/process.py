"""Facts of this process and its threads.

Standard library only.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path


def process_age(stat: Path = Path("/proc/self/stat"), uptime: Path = Path("/proc/uptime")) -> float:
    """Seconds since this process began, on no wall clock; 0 where the system does not tell."""
    try:
        ticks = float(stat.read_text("utf-8").rpartition(")")[2].split()[19])
        return max(0.0, float(uptime.read_text("utf-8").split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0


def thread_seconds(thread: threading.Thread, tasks: Path = Path("/proc/self/task")) -> float:
    """Processor time that `thread` took so far [s]; 0 where it has ended or the system does not tell.

    By the system's number of it: `time.pthread_getcpuclockid` may not be asked of a thread that has just ended. Python
    has joined a thread a moment before the system forgets it, and the number is given again later.
    """
    if not thread.is_alive():
        return 0.0
    try:
        fields = (tasks / str(thread.native_id) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
