"""Where runs stand, and what they have done: figures of the ledger and of the target, and what was brought here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernel.contract.record import Record


class KnownRun(Record):
    """One run of this machine's."""

    run_id: str
    """Name of the run."""
    target: str
    """Where it was pushed: kaggle or local."""
    age_s: int
    """Seconds since it was pushed."""
    sessions: int
    """How many sessions it has had."""
    safe_timesteps: int
    """Furthest timestep that is safe."""
    total_timesteps: int
    """Timesteps of the whole run."""
    at_risk_timesteps: int | None
    """Done and not safe while its newest session lives; null where that is not known."""
    state: str
    """How its newest session stands, in words."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    folder: str
    """Folder of its scripts, logs and checkpoints."""
    note: str
    """What its owner wrote down about it."""
    tags: tuple[str, ...]
    """Words that its owner finds it by."""


class RemoteRun(Record):
    """One run that only the target knows."""

    run_id: str
    """Name of a run that only the target knows."""
    sessions: tuple[int, ...]
    """Numbers of its sessions that have a kernel there."""
    dataset: bool
    """Whether it has a dataset of checkpoints."""
    known: bool
    """False: this machine does not know it."""


class Relay(Record):
    """What a run's relay is about."""

    state: str
    """`on` until it has ended."""
    note: str
    """What it was about, or why it ended, in words."""
    process: int | None
    """The process that is at it; null where none is."""


class Standing(Record):
    """Where the newest session of a run stands."""

    run_id: str
    """Name of the run."""
    session: int
    """Number of its newest session."""
    target: str
    """Where that session runs: kaggle, local or here."""
    slug: str
    """Its kernel."""
    code_digest: str
    """sha256 of what it runs; empty where nobody here knows."""
    config_digest: str
    """sha256 of its configuration."""
    status: str
    """The platform's word, or NOT_FOUND."""
    message: str
    """What the platform says of a failure; empty without one."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    total_timesteps: int
    """Timesteps of the whole run."""
    done_timesteps: int | None
    """Furthest timestep that was seen; null where nobody can know."""
    safe_timesteps: int
    """Furthest timestep of the run that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while the session lives, 0 after its end; null where that is not known."""
    lost_timesteps: int | None
    """Done and not safe at its end; null while it lives, and where nobody followed it to its end."""
    live: bool
    """Whether it waits or runs, as last seen."""
    risk: str
    """What its kernel said of work at risk far beyond what was asked for; empty where it was published since."""
    steps_per_s: float | None
    """Speed that its log told; null where it was not read."""
    to_go_s: int | None
    """Time that the rest of the run takes [s]; null where it is not known, as while the last publish is to come."""
    published_age_s: int | None
    """Seconds since the newest dataset version with a checkpoint was made; null where there is none or nobody told."""
    quota_used_h: float | None
    """GPU hours used this week; null for a CPU session, or where nobody told."""
    quota_left_h: float | None
    """GPU hours that are left of this week's."""
    relay: Relay | None
    """The run's relay; null without one."""


class SessionReport(Record):
    """One session of a run, in timesteps."""

    session: int
    """Number of the session in its run, from 1."""
    slug: str
    """Its kernel."""
    device: str
    """Device that it trains on; before its log told, the one that was asked for."""
    target: str
    """Where it ran: kaggle, local or here."""
    status: str
    """The platform's last known state; empty before it was asked."""
    result: str
    """The kernel's own word; empty without one."""
    from_timesteps: int
    """Timestep that it started from."""
    done_timesteps: int | None
    """Furthest timestep that was seen; null where nobody can know."""
    published_timesteps: int
    """Furthest timestep that is safe."""
    safe_timesteps: int
    """Furthest timestep that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while the session lives, 0 after its end; null where that is not known."""
    lost_timesteps: int | None
    """Done and not safe at its end; null while it lives, and where nobody followed it to its end."""
    live: bool
    """Whether it waits or runs, as last seen."""
    seen_at: str | None
    """When state and published timesteps were last seen, ISO 8601; null before that."""
    bound: str
    """The most that was at risk at once so far; what was asked for before anything was measured."""
    risk: str
    """What its kernel said of work at risk far beyond what was asked for; empty where it was published since."""
    ended: str
    """How it ended, or how it stands, in words."""


class RunReport(Record):
    """What a run has done, what is safe, and what a kill has cost."""

    run_id: str
    """Name of the run."""
    target: str
    """Where it was pushed."""
    total_timesteps: int
    """Timesteps of the whole run."""
    safe_timesteps: int
    """Furthest timestep that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while its newest session lives; null where that is not known."""
    finished: bool
    """Whether all timesteps are done and safe."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    unanswered: str
    """Why the target did not answer; empty where it did, or need not be asked."""
    note: str
    """What its owner wrote down about it."""
    tags: tuple[str, ...]
    """Words that its owner finds it by."""
    exactness: str
    """Whether it equals a run that was never interrupted: proved, unproved or inexact; empty where nobody told."""
    proved_timesteps: int | None
    """Newest timestep whose state a second process gave again, bit for bit; null where none did."""
    differs_since_timesteps: int | None
    """Timestep from which on it may be another run; null where nothing says so."""
    exactness_reason: str
    """Why it is inexact, or why nothing was proved."""
    sessions: tuple[SessionReport, ...]
    """Its sessions, first to last."""


class FetchedCheckpoint(Record):
    """One checkpoint, brought here or found here."""

    num_timesteps: int
    """Timestep of the checkpoint."""
    origin: str
    """Where it came from."""
    path: str | None
    """The file; null where none verified."""
    size: int
    """Bytes."""
    verdict: str
    """verified, or what is wrong with it."""
    metrics: Mapping[str, Any]
    """Training metrics that its manifest holds."""
