"""How much memory the trainer holds, sampled from outside, and whether the system killed something for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from kernel import health

SAMPLE_SECONDS = 2.0
CGROUP = Path("/sys/fs/cgroup")


class MemoryWatch:
    """Samples one process."""

    def __init__(self, pid: int, cgroup: Path = CGROUP) -> None:
        self._cgroup = cgroup
        self._health = health.Health()
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)
        self._sampled_at = float("-inf")
        self._kills_before = _oom_kills(cgroup)
        self.rss = 0
        self.peak = 0

    def fresh_findings(self, now: float) -> Iterable[health.Finding]:
        """Sample when it is time; a finding when the trainer is about to be killed."""
        if now - self._sampled_at < SAMPLE_SECONDS or self._process is None:
            return []
        self._sampled_at = now
        with contextlib.suppress(psutil.Error):
            self.rss = self._process.memory_info().rss
            self.peak = max(self.peak, self.rss)
        return self._health.fresh(health.memory_findings(self.rss, total_bytes(self._cgroup)))

    def summary(self) -> dict[str, Any]:
        """The figures for an event."""
        return {
            "rss_bytes": self.rss,
            "peak_bytes": self.peak,
            "available_bytes": int(psutil.virtual_memory().available),
            "total_bytes": total_bytes(self._cgroup),
            "oom_kills": max(0, _oom_kills(self._cgroup) - self._kills_before),
        }


def total_bytes(cgroup: Path = CGROUP) -> int:
    """What this container may use."""
    machine = int(psutil.virtual_memory().total)
    try:
        return min(machine, int((cgroup / "memory.max").read_text("utf-8")))
    except (OSError, ValueError):
        return machine


def _oom_kills(cgroup: Path) -> int:
    try:
        lines = (cgroup / "memory.events").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
