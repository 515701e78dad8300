"""What is here to launch with: this machine, the account's hours."""

from __future__ import annotations

from kernel.contract.checks import Verdict
from kernel.contract.record import Record


class QuotaLeft(Record):
    """GPU hours of this week."""

    target: str
    """Who was asked."""
    used_h: float
    """GPU hours used this week."""
    reserved_h: float
    """GPU hours that running sessions may still use."""
    allowed_h: float
    """GPU hours of a week."""
    left_h: float
    """GPU hours that a new session can count on."""
    refresh: str | None
    """When the week begins anew, ISO 8601; null where it is not told."""


class Finding(Record):
    """One thing that `doctor` looked at."""

    name: str
    """What was looked at."""
    verdict: Verdict
    """PASS, WARN or FAIL."""
    found: str
    """The evidence."""
    evidence: str
    """The same, by the name that checks of a push have for it."""
    fix: str
    """What to do about it; empty for a PASS."""


class Health(Record):
    """Whether this machine can launch."""

    healthy: bool
    """Whether no check failed."""
    checks: tuple[Finding, ...]
    """What was looked at."""
