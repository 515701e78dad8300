"""How long a test waits at most: the one owner of every limit of time in the tests.

A limit is there so that what hangs ends. It is written in seconds of a quiet machine, and stretched by how much longer
a short standard job takes here: on a slow processor, or beside other processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ROUNDS = 4_000_000
QUIET_S = 0.1
"""Seconds of the standard job on the machine whose seconds are meant."""
GENEROUS = 3.0
"""What hangs may well be waited for a little longer; what is only slow must not be taken for it."""
FRESH_S = 60.0
"""Age of a measurement that is not repeated."""

Value = TypeVar("Value")
_slowest, _measured_at = 1.0, float("-inf")


def slowness() -> float:
    """How many times longer than on a quiet machine things have taken here, at the worst so far; at least 1."""
    global _slowest, _measured_at
    began = time.monotonic()
    if began - _measured_at > FRESH_S:
        for _ in range(ROUNDS):
            pass
        _measured_at = time.monotonic()
        _slowest = max(_slowest, (_measured_at - began) / QUIET_S)
    return _slowest


def limit_s(seconds: float) -> float:
    """Limit for what takes up to `seconds` on a quiet machine."""
    return GENEROUS * seconds * slowness()


def until(true: Callable[[], Value], seconds: float = 30.0, poll_s: float = 0.02) -> Value:
    """Look until `true()` is; its value.

    Raises
    ------
    AssertionError
        It did not come true within the limit, which is measured anew before it is given up.
    """
    began = time.monotonic()
    while not (value := true()):
        if (waited := time.monotonic() - began) > limit_s(seconds):
            raise AssertionError(f"it did not come true within {waited:.0f} s")
        time.sleep(poll_s)
    return value
