"""Imported in the midst of an episode."""

from __future__ import annotations

TOTAL = 0


def count(action: int) -> int:
    """Counts in its module."""
    global TOTAL
    TOTAL += 1 + action
    return TOTAL
