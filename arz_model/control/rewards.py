"""Rewards by name: exact integrals over one decision interval, scaled so that returns are of order one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arz_model.network import Network
from arz_model.state import Observables


@dataclass(frozen=True)
class Interval:
    """What a reward may look at."""

    measured: Observables
    """Integrals over the decision interval."""
    before: NDArray[np.float64]
    """(B,) vehicle seconds queued in the interval before; 0 at the start of an episode."""
    pressure_weights: NDArray[np.float64]
    """(S,) see `pressure_weights`."""
    exits: NDArray[np.int64]
    """Segments whose end leaves the network."""
    delay_scale: float
    """[s] the delay that one vehicle's passage is worth."""


def lost_time(measured: Observables) -> NDArray[np.float64]:
    """(B,) vehicle seconds lost: delay on all roads, and all time spent waiting to enter [veh s]."""
    return measured.delay.sum(axis=(1, 2)) + measured.entrance.sum(axis=(1, 2))


def queued_time(measured: Observables) -> NDArray[np.float64]:
    """(B,) vehicle seconds spent queued on the roads or waiting to enter [veh s]."""
    return measured.queue.sum(axis=(1, 2)) + measured.entrance.sum(axis=(1, 2))


def delay(interval: Interval) -> NDArray[np.float64]:
    """Minus the time lost; its sum over an episode is minus the total delay."""
    return -lost_time(interval.measured)


def queue(interval: Interval) -> NDArray[np.float64]:
    """Minus the time spent queued, the entrance queue included."""
    return -queued_time(interval.measured)


def pressure(interval: Interval) -> NDArray[np.float64]:
    """Minus the time integral of the pressure: vehicles upstream of stop lines, less those downstream by turning ratio.

    Vehicles waiting to enter stand upstream. Varaiya (2013), Transp. Res. C 36:177-195.
    """
    vehicles = interval.measured.vehicles.sum(axis=2) @ interval.pressure_weights
    return -(vehicles + interval.measured.entrance.sum(axis=(1, 2)))


def throughput(interval: Interval) -> NDArray[np.float64]:
    """Vehicles that left the network, each worth `delay_scale` seconds; those still waiting to enter have not."""
    return interval.measured.outflow[:, interval.exits].sum(axis=(1, 2)) * interval.delay_scale


def wait_diff(interval: Interval) -> NDArray[np.float64]:
    """Decrease of the time spent queued against the interval before; its sum telescopes."""
    return interval.before - queued_time(interval.measured)


Reward = Callable[[Interval], NDArray[np.float64]]
REWARDS: dict[str, Reward] = {
    "delay": delay,
    "queue": queue,
    "pressure": pressure,
    "throughput": throughput,
    "wait_diff": wait_diff,
}
"""Reward functions by name; each gives (B,) vehicle seconds."""


def pressure_weights(network: Network, controlled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S,) what one vehicle on each segment adds to the pressure of the network's stop lines."""
    weights = controlled.astype(np.float64)
    for node in network.nodes:
        for row, inlet in zip(node.turning_ratios, node.inlets, strict=True):
            if controlled[network.index[inlet]]:
                for ratio, outlet in zip(row, node.outlets, strict=True):
                    weights[network.index[outlet]] -= ratio
    return weights
