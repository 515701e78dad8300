"""Demand: how many vehicles of each class arrive at each entrance in each second of an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from arz_model.kernel_cache import keep_on_disk

Range = tuple[float, float]
"""Least and largest value of a number that is drawn uniformly at the start of an episode."""
ONE: Range = (1.0, 1.0)


@dataclass(frozen=True)
class Source:
    """What arrives at one entrance, before the profile multiplies it."""

    flow: float
    """Nominal flow of both classes [veh/s]."""
    factor: Range = ONE
    """The episode's flow over the nominal one."""
    group: int = 0
    """Entrances of even groups swing against those of odd ones."""


@dataclass(frozen=True)
class Profile:
    """How demand changes over an episode; each range is drawn once an episode.

    flow(t) = nominal x factor x (level + (peak_level - level) bump(t)) x swing(t) x wobble(t) x surge(t)

    bump   : exp(-((t - peak_time) / peak_width)**2 / 2)
    swing  : 1 +- swing sin(2 pi t / swing_period + phase), + for even groups and - for odd ones: what one street gains
             the other loses
    wobble : 1 + wobble x the mean of three sines of random phase, with periods of 1, 1/2 and 1/3 of wobble_period; each
             entrance has its own
    surge  : surge_level while surge_time <= t < surge_time + surge_duration, else 1
    """

    name: str
    description: str = ""
    level: Range = ONE
    peak_level: Range | None = None
    peak_time: Range = (0.0, 0.0)
    peak_width: float = 600.0
    swing: float = 0.0
    swing_period: float = 3600.0
    wobble: float = 0.0
    wobble_period: float = 900.0
    surge_level: Range | None = None
    surge_time: Range = (0.0, 0.0)
    surge_duration: float = 0.0


@dataclass(frozen=True)
class Demand:
    """Entrances, the class mix, and the profile over time."""

    sources: tuple[Source, ...]
    motorcycle_share: Range
    """Part of all arrivals that are motorcycles."""
    profile: Profile
    duration: int
    """Seconds of an episode."""

    def rates(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Mean arrivals (seconds, E, 2) of m and c in each second of one episode [veh/s]; draws from `generator`."""
        p, n = self.profile, len(self.sources)
        t = np.arange(self.duration, dtype=np.float64) + 0.5
        level = _draw(generator, p.level)
        factors = np.array([_draw(generator, source.factor) for source in self.sources])
        share = _draw(generator, self.motorcycle_share)
        total, swing, waves = np.full_like(t, level), np.zeros_like(t), np.ones((0, n))
        if p.peak_level is not None:
            top, centre = _draw(generator, p.peak_level), _draw(generator, p.peak_time)
            total = total + (top - level) * np.exp(-0.5 * ((t - centre) / p.peak_width) ** 2)
        if p.swing:
            swing = np.sin(2 * np.pi * (t / p.swing_period + generator.uniform()))
        if p.wobble:
            phases = generator.uniform(size=(3, n))
            sines = [np.sin(2 * np.pi * ((k + 1) * t[:, None] / p.wobble_period + phases[k])) for k in range(3)]
            waves = 1.0 + p.wobble * (sines[0] + sines[1] + sines[2]) / 3.0
        surge = np.ones_like(t)
        if p.surge_level is not None:
            height, begin = _draw(generator, p.surge_level), _draw(generator, p.surge_time)
            surge[(t >= begin) & (t < begin + p.surge_duration)] = height
        flows = np.array([source.flow for source in self.sources])
        signs = np.array([p.swing if source.group % 2 == 0 else -p.swing for source in self.sources])
        rates = np.empty((self.duration, n, 2))
        _spread(rates, total, factors, flows, signs, swing, waves, surge, share)
        return rates

    def arrivals(self, generator: np.random.Generator) -> NDArray[np.uint8]:
        """Vehicles (seconds, E, 2) that arrive in each second of one episode, a Poisson process of these rates.

        Given its number of points, a Poisson process is that many independent points with a density proportional to
        its rate; so the work is by vehicle and not by second.
        """
        rates = self.rates(generator)
        edges = np.cumsum(rates)
        number = generator.poisson(edges[-1])
        counts = np.zeros(rates.size, np.uint8)
        _count(counts, edges, np.sort(generator.uniform(0.0, edges[-1], number)))
        return counts.reshape(rates.shape)

    def expected_rates(self) -> NDArray[np.float64]:
        """Mean flow of each entrance over an episode, every range at its middle (E,) [veh/s]."""
        p = self.profile
        t = np.arange(self.duration, dtype=np.float64) + 0.5
        total = np.full_like(t, _middle(p.level))
        if p.peak_level is not None:
            bump = np.exp(-0.5 * ((t - _middle(p.peak_time)) / p.peak_width) ** 2)
            total += (_middle(p.peak_level) - _middle(p.level)) * bump
        if p.surge_level is not None:
            begin = _middle(p.surge_time)
            total[(t >= begin) & (t < begin + p.surge_duration)] *= _middle(p.surge_level)
        return np.array([total.mean() * _middle(source.factor) * source.flow for source in self.sources])


def _draw(generator: np.random.Generator, between: Range) -> float:
    return generator.uniform(*between) if between[0] < between[1] else between[0]


def _middle(between: Range) -> float:
    return 0.5 * (between[0] + between[1])


@keep_on_disk
@njit(nogil=True)
def _spread(rates, total, factors, flows, signs, swing, waves, surge, share):
    """Rates (T, E, 2) of what changes with time, (T,), and what differs by entrance, (E,); `waves` (T or 0, E)."""
    for k in range(total.size):
        for e in range(factors.size):
            flow = total[k] * factors[e] * flows[e] * (1.0 + signs[e] * swing[k])
            if waves.shape[0]:
                flow *= waves[k, e]
            flow *= surge[k]
            rates[k, e, 0] = flow * share
            rates[k, e, 1] = flow * (1.0 - share)


@keep_on_disk
@njit(nogil=True)
def _count(counts, edges, points):
    """How many of the ascending `points` lie below each edge and not below the one before; 255 at the most."""
    place, last = 0, edges.size - 1
    for point in points:
        while place < last and edges[place] <= point:
            place += 1
        if counts[place] < 255:
            counts[place] += 1
