"""What a push would send, what was checked before it, and what was sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kernel.contract.checks import Check
from kernel.contract.record import Record


class Kernel(Record):
    """The kernel that a push starts."""

    id: str
    """owner/slug."""
    title: str
    """Its title, which is the slug."""
    is_private: bool
    """Always true."""
    enable_internet: bool
    """Always true: checkpoints leave by it."""
    accelerator: str | None
    """Machine shape; null for a CPU session."""
    session_timeout_s: int
    """Session limit that the platform is told [s]."""
    dataset_sources: tuple[str, ...]
    """owner/slug of each dataset that is mounted."""


class Preflight(Record):
    """The checklist of a push."""

    blocked: bool
    """Whether a check failed that was not waived."""
    checks: tuple[Check, ...]
    """Every check: see preflight.md."""
    waived: tuple[str, ...]
    """Names that were waived."""
    plan: Mapping[str, Any] | None
    """Hours, sessions and what they rest on; null where the speed is not known."""
    measured: Mapping[str, Any]
    """What the trial measured; empty where there was none."""


class Proposed(Record):
    """Exactly what a push sends, where each value came from and what was checked."""

    target: str
    """kaggle or local."""
    kernel: Kernel
    """What is started."""
    dataset: str
    """owner/slug that takes the checkpoints."""
    script_bytes: int
    """Size of the kernel script."""
    script_sha256: str
    """Its digest."""
    code_sha256: str
    """Digest of its members without the configuration."""
    files: Mapping[str, int]
    """Every member and its size in bytes."""
    left_out: tuple[str, ...]
    """Files that were not packed because their names say credentials."""
    configuration: Mapping[str, Any]
    """Section, key, `value` and its `source`: flag, environment, the file, --quick or default."""
    sent: Mapping[str, Any]
    """What the kernel is told."""
    preflight: Preflight
    """As `kaglaunch preflight --json` prints it."""

    def pushed(self, run_id: str, page: str) -> Pushed:
        """The same once it was pushed, as session 1 of `run_id`, to be seen at `page`."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Pushed(**own, run_id=run_id, session=1, page=page)


class Pushed(Proposed):
    """What was pushed."""

    run_id: str
    """Name of the run."""
    session: int
    """1."""
    page: str
    """Address of the kernel's page."""
