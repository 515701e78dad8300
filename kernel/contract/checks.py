"""What a check found and what to do about it: of the trial in a session, of a push, of a machine.

Standard library only.
"""

from __future__ import annotations

from enum import StrEnum

from kernel.contract.record import Record


class Verdict(StrEnum):
    """How a check came out: FAIL blocks what was asked for, WARN is told and goes on."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


class Check(Record):
    """One check, its evidence, and the way to mend what it found."""

    name: str
    """Name of the check, as `--waive` takes it."""
    verdict: Verdict
    """PASS, WARN or FAIL."""
    evidence: str
    """What was found."""
    fix: str = ""
    """What to do about it; empty for a PASS."""


def passed(name: str, evidence: str) -> Check:
    """All is well."""
    return Check(name, Verdict.PASS, evidence)


def warned(name: str, evidence: str, fix: str = "") -> Check:
    """It could not be known, or is worth knowing."""
    return Check(name, Verdict.WARN, evidence, fix)


def failed(name: str, evidence: str, fix: str) -> Check:
    """It must not go on like this."""
    return Check(name, Verdict.FAIL, evidence, fix)
