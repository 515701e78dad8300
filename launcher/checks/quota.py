"""Enough GPU hours left, before a second of them is spent."""

from __future__ import annotations

import logging
import math

from kernel.contract.checks import Check, Verdict, failed, passed, warned
from launcher.documents.machine import QuotaLeft
from launcher.errors import BackendError, QuotaError
from launcher.targets.base import Account, Quota
from launcher.targets.target import PERSON_S, Target

logger = logging.getLogger(__name__)

NAME = "quota"
MARGIN_H = 0.1
"""Kept free besides the hours asked for: what queueing and a slow end may take."""


def read(backend: Account) -> tuple[Quota | None, str]:
    """The quota, or None with the reason why it cannot be read: that is not the same as none being left."""
    try:
        quota = backend.quota()
    except BackendError as error:
        return None, str(error).splitlines()[0]
    return quota, "" if quota else "the target does not tell it"


def judge(quota: Quota | None, unreadable: str, accelerator: str | None, max_hours: float) -> Check:
    """Whether `max_hours` on `accelerator` can be had; `quota` and `unreadable` as `read` gives them."""
    if accelerator is None:
        return passed(NAME, "A CPU session costs no GPU quota.")
    if quota is None:
        return warned(
            NAME,
            f"The GPU quota cannot be read ({unreadable.rstrip('.')}). That does not mean that it is used up.",
            "The target refuses the session if it is; `kaglaunch quota` asks again.",
        )
    figures = f"{quota.used_h:.1f} h used and {quota.reserved_h:.1f} h reserved of {quota.allowed_h:.0f} h"
    until = f" until {quota.refresh:%a %d %b %H:%M} UTC" if quota.refresh else ""
    if quota.left_h < max_hours + MARGIN_H:
        fits_h = math.floor(10 * (quota.left_h - MARGIN_H)) / 10
        shorter = f"Run a shorter session with `--max-hours {fits_h:.1f}`. " if fits_h >= 0.1 else ""
        return failed(
            NAME,
            f"This session asks for {max_hours:g} h of {accelerator} with {MARGIN_H:g} h to spare, and "
            f"{quota.left_h:.1f} h are left{until} ({figures}).",
            f"{shorter}`--device cpu` costs no GPU quota.",
        )
    return passed(NAME, f"{quota.left_h:.1f} h are left{until} ({figures}); {max_hours:g} h are asked for.")


def check(backend: Account, accelerator: str | None, max_hours: float) -> Check:
    """Raise QuotaError when the hours that are left, less those reserved by running sessions, do not suffice."""
    found = judge(*(read(backend) if accelerator else (None, "")), accelerator, max_hours)
    if found.verdict is Verdict.WARN:
        logger.warning("%s %s", found.evidence, found.fix)
    if found.verdict is Verdict.FAIL:
        raise QuotaError(f"{found.evidence}\n{found.fix}")
    return found


def told(target: Target) -> Quota:
    """GPU hours used, reserved and left this week on `target`.

    Raises
    ------
    BackendError
        The target does not tell.
    """
    found = target.connect(patience_s=PERSON_S).quota()
    if found is None:
        raise BackendError("The target does not tell its GPU quota. That is not the same as none being left.")
    return found


def document(target: Target, found: Quota) -> QuotaLeft:
    """What `quota --json` has."""
    return QuotaLeft(
        target=target.name.value,
        used_h=found.used_h,
        reserved_h=found.reserved_h,
        allowed_h=found.allowed_h,
        left_h=found.left_h,
        refresh=found.refresh.isoformat() if found.refresh else None,
    )
