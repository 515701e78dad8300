"""The embedded Kaggle of this machine: whether it runs, and everything in it. Its server fills these in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kernel.contract.record import Record


class LocalClock(Record):
    """The clock of the embedded Kaggle."""

    now: str
    """Its time, ISO 8601."""
    offset_s: float
    """How far it is ahead of this machine's [s]."""


class LocalQuota(Record):
    """This week's hours of one kind of accelerator."""

    used_h: float
    """Hours used this week."""
    reserved_h: float
    """Hours that running sessions may still use."""
    total_h: float
    """Hours of a week."""
    refresh_at: str
    """When the week begins anew, ISO 8601."""


class LocalSession(Record):
    """One session that was ever pushed to it."""

    kernel: str
    """owner/slug."""
    version: int
    """Number of the kernel's version."""
    session_id: int
    """What a cancel names it by."""
    machine: str
    """cpu, gpu or tpu."""
    state: str
    """QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_REQUESTED or CANCEL_ACKNOWLEDGED."""
    limit_s: float
    """Its limit [s]."""
    running_s: float
    """How long it has run, or ran [s]."""
    failure_message: str | None
    """Why it failed; null where it did not."""


class LocalVersion(Record):
    """One version of a dataset."""

    number: int
    """Number of the version, from 1."""
    state: str
    """How far it is: READY, FAILED, or a step before either."""
    failure: str | None
    """Why it failed; null where it did not."""


class LocalDataset(Record):
    """One dataset."""

    dataset: str
    """owner/slug."""
    versions: tuple[LocalVersion, ...]
    """Its versions, newest first."""


class RunningLocalKaggle(Record):
    """An embedded Kaggle that runs."""

    running: Literal[True]
    """It runs."""
    url: str
    """Where it listens."""
    pid: int
    """Its process."""
    username: str
    """Its only account."""
    state_dir: str
    """Folder of its state, one folder a session among it."""
    clock: LocalClock
    """Its clock."""
    quota: Mapping[str, LocalQuota]
    """gpu and tpu -> this week's hours."""
    sessions: tuple[LocalSession, ...]
    """Its sessions, oldest first."""
    datasets: tuple[LocalDataset, ...]
    """Its datasets."""
    faults: Mapping[str, tuple[Mapping[str, Any], ...]]
    """Fault -> its rules: their fields, `times` that are left (null: no end), `skip` and `taken`."""
    settings: Mapping[str, Any]
    """Setting -> its value: see embedded-kaggle.md."""


class StoppedLocalKaggle(Record):
    """An embedded Kaggle that does not run."""

    running: Literal[False] = False
    """It does not run; the next push starts it."""
