"""What the launcher asks of a target, and the words it answers in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

from kernel.contract.record import Record
from launcher.transfers import OnBytes


class Status(Enum):
    """The platform's own states of a session."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCEL_ACKNOWLEDGED = "CANCEL_ACKNOWLEDGED"
    NEW_SCRIPT = "NEW_SCRIPT"

    @property
    def final(self) -> bool:
        """Nothing follows this state."""
        return self in (Status.COMPLETE, Status.ERROR, Status.CANCEL_ACKNOWLEDGED, Status.NEW_SCRIPT)


class Kernel(Record):
    """One kernel as it is pushed; the title is the slug, and it is private."""

    slug: str
    script: bytes
    accelerator: str | None
    """Machine shape such as `NvidiaTeslaT4`; None for a CPU session, which debits no GPU quota."""
    timeout_s: int
    dataset_sources: tuple[str, ...] = ()
    """`owner/slug` of each dataset that is mounted at the session's start."""


class SessionState(Record):
    """Where a session stands, and what the platform says of its failure."""

    status: Status
    message: str = ""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked it to end; a limit that was reached makes the same state, and only words differ."""
        return self.status is Status.CANCEL_ACKNOWLEDGED and "cancel" in self.message.lower()


class LogLine(Record):
    """One line of a session's log: seconds since its start, `stdout` or `stderr`, text without the newline."""

    time: float
    stream: str
    text: str


class Quota(Record):
    """Weekly hours of one kind of accelerator."""

    used_h: float
    reserved_h: float
    allowed_h: float
    refresh: datetime | None

    @property
    def left_h(self) -> float:
        """Hours that a new session can count on: those that running sessions reserve are not among them."""
        return max(0.0, self.allowed_h - self.used_h - self.reserved_h)


class DatasetVersion(Record):
    """One version of a dataset."""

    number: int
    created: datetime | None
    notes: str = ""


class RemoteFile(Record):
    """One file of a dataset version or of a session's outputs; size in bytes, -1 where it is not told."""

    name: str
    size: int = -1


class ActiveSession(Record):
    """A session of this account that waits or runs."""

    slug: str
    on_gpu: bool


class Compute(Protocol):
    """Whatever runs sessions: a target, or this machine.

    Every method of the three protocols raises `BackendUnavailable` when there is no usable answer, `NotFound` for what
    is missing or another's, `CredentialsError` when the target refuses who asks, and `BackendError` for the rest.
    """

    def push(self, kernel: Kernel) -> str:
        """Start a session; returns its page's address. PushRefused with the target's words; SubmissionUnknown."""

    def state(self, slug: str) -> SessionState:
        """Where the kernel's newest session stands."""

    def session_id(self, slug: str) -> int | None:
        """The id of the kernel's session that is alive, where the target tells it; else its log does."""

    def log_lines(self, slug: str, skip: int = 0) -> Iterator[LogLine]:
        """The log from its first line on, less the first `skip` lines, followed while the session runs.

        Ends when the connection does, which alone does not say that the session has ended.
        """

    def cancel(self, session_id: int) -> None:
        """Ask the session of that id to end."""

    def delete(self, slug: str) -> None:
        """Delete the kernel, its running session included."""


class CheckpointStore(Protocol):
    """Where sessions leave checkpoints: versions of a dataset while they run, their outputs when they have ended."""

    def dataset_versions(self, dataset: str) -> list[DatasetVersion]:
        """Ready versions of `owner/slug`, newest first; empty when there is no such dataset."""

    def dataset_files(self, dataset: str, version: int) -> list[RemoteFile]:
        """Files of one version."""

    def download_dataset_file(
        self, dataset: str, version: int, name: str, to: Path, on_bytes: OnBytes | None = None
    ) -> None:
        """Write one file of a version to `to`, as `download_output` does."""

    def output_files(self, slug: str) -> list[RemoteFile]:
        """What the kernel's newest session left in its working folder."""

    def download_output(self, slug: str, name: str, to: Path, on_bytes: OnBytes | None = None) -> None:
        """Write one output file to `to`, aside (`to` with `.part`) and renamed; what was broken off is continued."""


class Account(Protocol):
    """Whose runs they are, and what that account has and may still use."""

    username: str

    def quota(self) -> Quota | None:
        """GPU hours of this week; None where the target does not tell."""

    def active_sessions(self) -> list[ActiveSession]:
        """Sessions of this user that wait or run, of the kernels that were started within the longest session."""

    def kernels(self) -> list[str]:
        """Slugs of this user's kernels, newest first."""

    def datasets(self) -> list[str]:
        """Slugs of this user's datasets."""

    def pull(self, slug: str) -> Kernel:
        """A kernel as it was pushed; its session limit is not told (0)."""


class Backend(Compute, CheckpointStore, Account, Protocol):
    """A target that is all three, as kaggle.com and the embedded Kaggle are."""
