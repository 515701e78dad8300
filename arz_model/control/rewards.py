"""Rewards: exact integrals over one decision interval, per expected vehicle, so that returns are of order one."""

from __future__ import annotations

from collections.abc import Callable

from arz_model.state import Observables


def lost_time(measured: Observables) -> float:
    """Vehicle seconds lost on road 0: delay on all approaches, and all time spent waiting to enter [veh s]."""
    return float(measured.delay[0].sum() + measured.entrance[0].sum())


def delay(measured: Observables) -> float:
    """Minus the time lost; its sum over an episode is minus the total delay."""
    return -lost_time(measured)


REWARDS: dict[str, Callable[[Observables], float]] = {"delay": delay}
"""Reward functions by name."""
