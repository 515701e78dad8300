"""Enough GPU hours left, before a second of them is spent."""

from __future__ import annotations

import logging

from launcher.backends.base import Backend, Kernel, Quota
from launcher.errors import BackendError, QuotaError

logger = logging.getLogger(__name__)


def check(backend: Backend, kernel: Kernel, max_hours: float) -> Quota | None:
    """Raise QuotaError when the hours that are left, less those reserved by running sessions, do not suffice.

    A quota that cannot be read is not an exhausted one: that is logged, and the target has the last word.
    """
    if kernel.accelerator is None:
        return None
    try:
        quota = backend.quota()
    except BackendError as error:
        logger.warning("The GPU quota cannot be read (%s); the target will refuse the session if it is used up.", error)
        return None
    if quota is not None and quota.left_h < max_hours:
        until = f" until {quota.refresh:%a %d %b %H:%M} UTC" if quota.refresh else ""
        shorter = f"Run a shorter session with `--max-hours {quota.left_h:.1f}`. " if quota.left_h >= 0.1 else ""
        raise QuotaError(
            f"This session asks for {max_hours:g} h of {kernel.accelerator}, and {quota.left_h:.1f} h are left{until} "
            f"({quota.used_h:.1f} h used and {quota.reserved_h:.1f} h reserved of {quota.allowed_h:.0f} h).\n"
            f"{shorter}`--device cpu` costs no GPU quota."
        )
    return quota
