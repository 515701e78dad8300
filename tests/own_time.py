"""Time that processes need by themselves: what they work and what they sleep, not what they wait for a processor.

How long something takes says little on a machine that others use; these two figures hardly change there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import psutil

LOOK_S = 0.2
"""Time between two looks, and the most that one look adds to what was slept."""


class Spent(NamedTuple):
    """What processes worked, their processor time, and how long all of them slept [s]."""

    worked_s: float = 0.0
    slept_s: float = 0.0

    def exceeds(self, limit: Spent) -> bool:
        """Whether more was worked or more was slept than `limit`."""
        return self.worked_s > limit.worked_s or self.slept_s > limit.slept_s


class OwnTime:
    """Own time of a process and of all that it starts, from looks at them every LOOK_S."""

    def __init__(self, pid: int) -> None:
        self.spent = Spent()
        self._pid = pid
        self._looked_at = time.monotonic()
        self._slept = False

    def look(self) -> None:
        """Bring `spent` up to now; processes that have ended leave it as it is."""
        now = time.monotonic()
        try:
            processes = [first := psutil.Process(self._pid), *first.children(recursive=True)]
            worked_s = sum(sum(process.cpu_times()[:4]) for process in processes)  # ended children's included
            sleeps = all(_sleeps(process.pid) for process in processes)
        except (psutil.Error, OSError):  # one ended during the look, so something works
            self._looked_at, self._slept = now, False
            return
        slept_s = min(now - self._looked_at, LOOK_S) if sleeps and self._slept else 0.0
        self.spent = Spent(max(self.spent.worked_s, worked_s), self.spent.slept_s + slept_s)
        self._looked_at, self._slept = now, sleeps


def _sleeps(pid: int) -> bool:
    """Whether no thread works, waits for a processor or for a disk; False where the system does not tell of threads."""
    states = [path.read_text("utf-8").rpartition(") ")[2][0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and not {"R", "D"} & set(states)
