"""The states of kernel sessions and dataset versions, every way between them, and the clock that drives them.

One table. A transition happens on an event; a *timed* one happens by itself when the delay that it names (a field of
`settings.Settings`, or the session's own time limit) has passed on the server's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

SESSION = "kernel session"
DATASET_VERSION = "dataset version"

TIME_LIMIT = "time_limit"
"""The one delay that is no setting: the session's own limit, in seconds since it began to run."""


class IllegalTransition(Exception):
    """A machine was asked for an event that its present state does not know."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(
            f"a {machine} in state {state} knows no event {event!r}; it knows {sorted(events(machine, state))}"
        )


@dataclass(frozen=True)
class Transition:
    machine: str
    source: str
    event: str
    target: str
    delay: str | None = None
    """Name of the delay after which it happens by itself; None: only on its event."""


TRANSITIONS: tuple[Transition, ...] = (
    Transition(SESSION, "QUEUED", "machine_ready", "RUNNING", delay="queue_s"),
    Transition(SESSION, "QUEUED", "cancel", "CANCEL_REQUESTED"),
    Transition(SESSION, "QUEUED", "start_failed", "ERROR"),
    Transition(SESSION, "QUEUED", "deleted", "CANCEL_ACKNOWLEDGED"),
    Transition(SESSION, "QUEUED", "service_stopped", "CANCEL_ACKNOWLEDGED"),
    Transition(SESSION, "RUNNING", "exited_0", "COMPLETE"),
    Transition(SESSION, "RUNNING", "exited_nonzero", "ERROR"),
    Transition(SESSION, "RUNNING", "out_of_memory", "ERROR"),
    Transition(SESSION, "RUNNING", "disk_full", "ERROR"),
    Transition(SESSION, "RUNNING", "machine_lost", "ERROR"),
    Transition(SESSION, "RUNNING", "time_is_up", "CANCEL_ACKNOWLEDGED", delay=TIME_LIMIT),
    Transition(SESSION, "RUNNING", "cancel", "CANCEL_REQUESTED"),
    Transition(SESSION, "RUNNING", "deleted", "CANCEL_ACKNOWLEDGED"),
    Transition(SESSION, "RUNNING", "service_stopped", "CANCEL_ACKNOWLEDGED"),
    Transition(SESSION, "CANCEL_REQUESTED", "killed", "CANCEL_ACKNOWLEDGED", delay="cancel_s"),
    Transition(SESSION, "CANCEL_REQUESTED", "deleted", "CANCEL_ACKNOWLEDGED"),
    Transition(SESSION, "CANCEL_REQUESTED", "service_stopped", "CANCEL_ACKNOWLEDGED"),
    Transition(DATASET_VERSION, "NOT_YET_PERSISTED", "received", "BLOBS_RECEIVED", delay="dataset_receive_s"),
    Transition(DATASET_VERSION, "BLOBS_RECEIVED", "decompressed", "BLOBS_DECOMPRESSED", delay="dataset_decompress_s"),
    Transition(DATASET_VERSION, "BLOBS_DECOMPRESSED", "copied", "BLOBS_COPIED_TO_SDS", delay="dataset_copy_s"),
    Transition(
        DATASET_VERSION, "BLOBS_COPIED_TO_SDS", "compressed", "INDIVIDUAL_BLOBS_COMPRESSED", delay="dataset_compress_s"
    ),
    Transition(DATASET_VERSION, "INDIVIDUAL_BLOBS_COMPRESSED", "ready", "READY", delay="dataset_finish_s"),
    *(
        Transition(DATASET_VERSION, state, "failed", "FAILED")
        for state in (
            "NOT_YET_PERSISTED",
            "BLOBS_RECEIVED",
            "BLOBS_DECOMPRESSED",
            "BLOBS_COPIED_TO_SDS",
            "INDIVIDUAL_BLOBS_COMPRESSED",
        )
    ),
    Transition(DATASET_VERSION, "READY", "deleted", "DELETED"),
    Transition(DATASET_VERSION, "FAILED", "deleted", "DELETED"),
)

INITIAL = {SESSION: "QUEUED", DATASET_VERSION: "NOT_YET_PERSISTED"}

QUICK_SAVED = "NEW_SCRIPT"
"""The status of a kernel version that was saved without a run: no session, so no state of the table."""

ACTIVE_SESSION = ("QUEUED", "RUNNING", "CANCEL_REQUESTED")
"""The states in which a session counts against the concurrency limits."""


def states(machine: str) -> set[str]:
    return {state for row in TRANSITIONS if row.machine == machine for state in (row.source, row.target)}


def events(machine: str, state: str) -> set[str]:
    return {row.event for row in TRANSITIONS if row.machine == machine and row.source == state}


def target(machine: str, state: str, event: str) -> str:
    """The state that `event` leads to. Raises IllegalTransition if `state` does not know it."""
    for row in TRANSITIONS:
        if (row.machine, row.source, row.event) == (machine, state, event):
            return row.target
    raise IllegalTransition(machine, state, event)


def timed(machine: str, state: str) -> Transition | None:
    """The transition that happens in `state` by itself, if there is one."""
    for row in TRANSITIONS:
        if row.machine == machine and row.source == state and row.delay is not None:
            return row
    return None


def is_final(machine: str, state: str) -> bool:
    return not events(machine, state)


class Clock:
    """Seconds since the epoch, UTC: the machine's time plus an offset that only ever grows."""

    def __init__(self, offset_s: float = 0.0, source: Callable[[], float] = time.time) -> None:
        self.offset_s = offset_s
        self._source = source

    def now(self) -> float:
        return self._source() + self.offset_s

    def advance(self, seconds: float) -> None:
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"the clock goes forward only: asked for {seconds} s; give a number >= 0")
        self.offset_s += seconds
