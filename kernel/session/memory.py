"""How much memory the trainer holds, sampled from outside, and whether the system killed something for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from kernel import health

SAMPLE_SECONDS = 2.0
CGROUPS = Path("/sys/fs/cgroup")


class MemoryWatch:
    """Samples one process."""

    def __init__(self, pid: int) -> None:
        self._limit = MemoryLimit(pid)
        self._health = health.Health()
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)
        self._sampled_at = float("-inf")
        self._kills_before = self._limit.oom_kills()
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
        return self._health.fresh(health.memory_findings(self.rss, self._limit.total_bytes()))

    def summary(self) -> dict[str, Any]:
        """The figures for an event."""
        return {
            "rss_bytes": self.rss,
            "peak_bytes": self.peak,
            "available_bytes": int(psutil.virtual_memory().available),
            "total_bytes": self._limit.total_bytes(),
            "oom_kills": max(0, self._limit.oom_kills() - self._kills_before),
        }


class MemoryLimit:
    """What a process may use, and how often the system killed for it: its control group's, of either version.

    Inside a container the group's own folder is often mounted as the root, so that both places are looked at.
    """

    def __init__(self, pid: int, groups: Path = CGROUPS) -> None:
        self._folders = [groups, groups / "memory"]
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
                _, controllers, path = line.split(":", 2)
                if controllers in ("", "memory"):
                    self._folders.insert(0, groups / controllers / path.lstrip("/"))

    def total_bytes(self) -> int:
        """The least of the limits that are set and the machine's memory."""
        limits = [self._read(name) for name in ("memory.max", "memory.limit_in_bytes")]
        return min([int(psutil.virtual_memory().total), *(int(text) for text in limits if text.strip().isdigit())])

    def oom_kills(self) -> int:
        """Processes of the group that were killed for want of memory, so far."""
        lines = [*self._read("memory.events").splitlines(), *self._read("memory.oom_control").splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def _read(self, name: str) -> str:
        for folder in self._folders:
            with contextlib.suppress(OSError):
                return (folder / name).read_text("utf-8")
        return ""
