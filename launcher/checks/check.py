"""What a check says: one verdict, the evidence for it, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """FAIL blocks a push; WARN is told and goes on."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of the checklist."""

    name: str
    verdict: Verdict
    evidence: str
    fix: str = ""


def passed(name: str, evidence: str) -> Check:
    """All is well."""
    return Check(name, Verdict.PASS, evidence)


def warned(name: str, evidence: str, fix: str = "") -> Check:
    """It could not be known, or is worth knowing."""
    return Check(name, Verdict.WARN, evidence, fix)


def failed(name: str, evidence: str, fix: str) -> Check:
    """It must not be pushed like this."""
    return Check(name, Verdict.FAIL, evidence, fix)
