"""Weekly accelerator quota: wall-clock of every session, cut at the refresh on Saturday 00:00 UTC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from launcher.local_kaggle import states
from launcher.local_kaggle.store import Store

WEEK_S = 7 * 86_400
FIRST_SATURDAY_S = 2 * 86_400
"""1970-01-03 00:00 UTC, a Saturday."""
ACCELERATORS = ("gpu", "tpu")


@dataclass(frozen=True)
class Usage:
    """One accelerator's week, in seconds."""

    used_s: float
    reserved_s: float
    """What the running sessions may still use before their limits."""
    total_s: float
    has_ever_run: bool

    @property
    def exhausted(self) -> bool:
        return self.used_s >= self.total_s


def week_start(now: float) -> float:
    """The last refresh: Saturday 00:00 UTC at or before `now` [s since the epoch]."""
    return FIRST_SATURDAY_S + math.floor((now - FIRST_SATURDAY_S) / WEEK_S) * WEEK_S


def next_refresh(now: float) -> float:
    return week_start(now) + WEEK_S


def usage(store: Store, machine: str, now: float, preset: dict[str, Any] | None = None) -> Usage:
    """This week's usage of `machine` ("gpu" or "tpu").

    `preset`: the fault `quota_used_h`, which counts only in the week in which it was set.
    """
    since = week_start(now)
    used = reserved = 0.0
    rows = store.rows("SELECT * FROM sessions WHERE machine = ? AND started_at IS NOT NULL", machine)
    for row in rows:
        until = now if row["ended_at"] is None else row["ended_at"]
        used += max(0.0, until - max(row["started_at"], since))
        if row["ended_at"] is None:
            reserved += max(0.0, row["limit_s"] - (now - row["started_at"]))
    if machine == "gpu" and preset is not None and preset["set_at"] >= since:
        used += preset["hours"] * 3600
    total_h = store.settings.gpu_quota_h if machine == "gpu" else store.settings.tpu_quota_h
    return Usage(used, reserved, total_h * 3600, bool(rows))


def active_count(store: Store, machine: str) -> int:
    """Sessions of `machine` that count against its concurrency limit."""
    marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
    sql = f"SELECT count(*) AS n FROM sessions WHERE machine = ? AND deleted = 0 AND state IN ({marks})"
    return int(store.rows(sql, machine, *states.ACTIVE_SESSION)[0]["n"])
