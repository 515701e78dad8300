"""Baselines as strong as their parameters allow: points of a grid, raced against each other on tuning episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np

from arz_model.control.comparison import drive
from arz_model.control.controllers import Actuated, Controller, FixedTime, LongestQueue, Setting, Webster
from arz_model.control.scenarios import Scenario

TUNING_SEEDS = tuple(range(100, 120))
"""Demand of the episodes that baselines are tuned on."""
TEST_SEEDS = tuple(range(1000, 1200))
"""Demand of the episodes that results are reported on: enough of them to tell one per cent of delay from none."""
FIRST_SHARE, KEPT_SHARE, LEAST_KEPT = 0.25, 1.0 / 3.0, 4
"""Part of the episodes that every point drives; part of the points, and how many at least, that drive the others."""
EPISODES_AT_A_TIME = 400
"""Episodes of several points of a grid that are driven side by side; more would leave the cache."""


@dataclass(frozen=True)
class Family:
    """Controllers that differ by their parameters."""

    name: str
    make: Callable[..., Controller]
    grid: Mapping[str, Sequence[Any]]
    """Values of each parameter; `make` takes one of each, or (B,) of each."""


@dataclass(frozen=True)
class Tuned:
    """A family's best member."""

    family: Family
    controller: Controller
    parameters: dict[str, Any]
    delays: dict[tuple[Any, ...], list[float]]
    """Delay [s/veh] of every point of the grid in each episode that it was driven on, the first of the seeds."""


def tune(family: Family, scenario: Scenario, seeds: Sequence[int] = TUNING_SEEDS, **options: Any) -> Tuned:
    """The member with the least mean delay on `seeds`; `options` go to `comparison.drive`.

    A race: points that are clearly worse on the first episodes, the same for all, do not drive the others.
    """
    points = list(product(*family.grid.values()))
    n_kept = max(LEAST_KEPT, math.ceil(KEPT_SHARE * len(points)))
    n_first = max(1, math.ceil(FIRST_SHARE * len(seeds))) if n_kept < len(points) else len(seeds)
    delays = _delays(family, points, scenario, seeds[:n_first], options)
    best = sorted(points, key=lambda point: fmean(delays[point]))[:n_kept]
    if n_first < len(seeds):
        for point, others in _delays(family, best, scenario, seeds[n_first:], options).items():
            delays[point] += others
    winner = min(best, key=lambda point: fmean(delays[point]))
    parameters = dict(zip(family.grid, winner, strict=True))
    return Tuned(family, family.make(**parameters), parameters, delays)


def _delays(
    family: Family,
    points: Sequence[tuple[Any, ...]],
    scenario: Scenario,
    seeds: Sequence[int],
    options: Mapping[str, Any],
) -> dict[tuple[Any, ...], list[float]]:
    """Delay of each point in each episode, many of them side by side."""
    delays: dict[tuple[Any, ...], list[float]] = {}
    at_a_time = max(1, EPISODES_AT_A_TIME // len(seeds))
    for first in range(0, len(points), at_a_time):
        some = points[first : first + at_a_time]
        columns = (np.repeat(values, len(seeds)) for values in zip(*some, strict=True))
        controller = family.make(**dict(zip(family.grid, columns, strict=True)))
        result = drive(controller, scenario, [*seeds] * len(some), **options)
        by_point = result.figures["delay_s"].reshape(len(some), len(seeds))
        delays.update(zip(some, by_point.tolist(), strict=True))
    return delays


def families(scenario: Scenario) -> list[Family]:
    """The baselines that are tuned: best fixed time, green wave, max-pressure, longest queue, actuated."""
    n_phases = len(scenario.intersections[0].phases)
    interval = scenario.decision_interval

    def fixed(cycle_s: Setting, first_share: Setting, offset_s: Setting = 0.0) -> Controller:
        plan = scenario.intersections[0]
        green = cycle_s - plan.intergreen * n_phases
        first = np.maximum(plan.min_green, np.rint(green * first_share))
        others = np.maximum(plan.min_green, np.rint((green - first) / (n_phases - 1)))
        offsets = [offset_s * j for j in range(len(scenario.intersections))]
        greens = np.stack([first] + [others] * (n_phases - 1), axis=-1)
        return FixedTime(greens[..., None, None, :], offsets, "best fixed time")

    shares = (0.4, 0.5, 0.6) if n_phases == 2 else (0.25, 0.35)
    fixed_grid: dict[str, Sequence[Any]] = {"cycle_s": (50, 60, 75, 90, 120), "first_share": shares}
    found = [
        Family("max-pressure", lambda **p: LongestQueue(**p, pressure=True, name="max-pressure"), SLOTS),
        Family("longest queue", lambda **p: LongestQueue(**p, name="longest queue"), SLOTS),
        Family("actuated, 1 s", lambda **p: Actuated(**p, interval=1, name="actuated, 1 s"), GAPS),
        Family(
            f"actuated, {interval} s",
            lambda **p: Actuated(**p, interval=interval, name=f"actuated, {interval} s"),
            GAPS,
        ),
    ]
    if len(scenario.intersections) > 1:
        travel = scenario.network.segments[scenario.network.index[scenario.intersections[1].phases[0][1][0]]]
        one_link = round(travel.length / travel.v_free_c)
        fixed_grid["offset_s"] = (0.0, 0.5 * one_link, float(one_link))
        wave = {"max_cycle_s": (60.0, 90.0, 120.0), "offset_s": (0.5 * one_link, float(one_link), 1.5 * one_link)}
        found.append(Family("green wave", lambda **p: Webster(**p, name="green wave"), wave))
    return [Family("best fixed time", fixed, fixed_grid), *found]


SLOTS: Mapping[str, Sequence[Any]] = {"slot_s": (10, 15, 20, 25, 30, 40), "hysteresis_veh": (2.0, 4.0, 6.0, 8.0, 12.0)}
GAPS: Mapping[str, Sequence[Any]] = {
    "detector_m": (10.0, 20.0, 30.0, 40.0, 60.0),
    "gap_veh": (0.3, 0.5, 0.7, 1.0, 1.5),
    "max_green_s": (45.0, 60.0, 90.0, 120.0),
}
