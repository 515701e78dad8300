"""Controllers and trained agents, compared on the same held-out traffic."""

from __future__ import annotations

from collections.abc import Mapping

from kernel.contract.record import Record


class Estimate(Record):
    """A mean over the episodes, in the unit of its figure."""

    mean: float
    """The mean."""
    half_width: float
    """Half-width of its 95 % confidence interval."""


class ComparedController(Record):
    """One controller, or one agent, on all episodes."""

    name: str
    """The controller, or the agent's run and timestep."""
    decision_interval_s: int
    """How often it decided [s]."""
    means: Mapping[str, Estimate]
    """Figure -> its mean."""
    difference: Mapping[str, Estimate]
    """Figure -> the mean of its paired difference to the baseline."""
    episodes: Mapping[str, tuple[float, ...]]
    """Figure -> its value in each episode, in the order of `seeds`."""


class Comparison(Record):
    """What was compared on which traffic, and everything that was measured."""

    scenario: str
    """What was simulated."""
    demand: str
    """Its demand profile."""
    seeds: tuple[int, ...]
    """Demand seeds of the episodes, the same for all."""
    baseline: str
    """The controller that differences are taken to: the first."""
    figures: Mapping[str, str]
    """Figure -> its meaning and unit."""
    controllers: tuple[ComparedController, ...]
    """What was compared, in the order asked for, agents last."""
