"""An intersection as seen from its present phase, so that situations that differ by symmetry look the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from arz_model.control.signals import Signals
from arz_model.network import Network
from arz_model.parameters import ParameterError

VIEWS = ("absolute", "relative")
ORDINALS = ("fullest", "second", "third", "fourth")


class RelativeView:
    """Roads of the present phase first, then those of the phase after it, and so on; within a phase the fullest first.

    A road is seen together with the one that feeds it, as a turning lane with its approach; an approach with several
    lanes is then seen with each. Actions count from the present phase: 0 keeps it, 1 asks for the one after it. What is
    learnt in one situation then holds for all that are the same but for the names of roads and phases. Which phase is
    the present one is shown as far as phases differ in more than their names: as the first of those like it, and not
    at all where all are alike.

    Parameters
    ----------
    roads : observed segments, in the order of the observation.
    columns : where the numbers of each begin.
    labels : what the numbers of each road are.

    Raises
    ------
    ParameterError
        The roads cannot stand for each other: several intersections, an observed road that neither has a signal nor
        feeds one that has, a road in several phases, phases with different numbers of roads, or roads of a phase that
        differ in length, speed or saturation flow.
    """

    def __init__(
        self, network: Network, signals: Signals, roads: list[int], columns: list[int], labels: list[list[str]]
    ) -> None:
        if len(signals.plans) != 1:
            raise ParameterError(f"view = 'relative' is for one intersection; there are {len(signals.plans)}.")
        (plan,) = signals.plans
        by_phase = [[s for s in roads if network.segments[s].name in green] for _, green in plan.phases]
        signalled = [s for phase in by_phase for s in phase]
        feeders = {s: _feeders(network, s, roads) for s in signalled}
        seen = {s for road in signalled for s in (road, *feeders[road])}
        equally_many = len({len(phase) for phase in by_phase}) == 1
        if len(set(signalled)) < len(signalled) or seen != set(roads) or not equally_many:
            raise ParameterError(
                "view = 'relative' needs phases with equally many roads, every road with a signal in exactly one of "
                "them, and no observed road but those and what feeds them; use view = 'absolute'."
            )
        kinds = [
            {tuple(replace(network.segments[s], name="") for s in (road, *feeders[road])) for road in phase}
            for phase in by_phase
        ]
        numbers = dict(zip(roads, labels, strict=True))
        named = {
            tuple(numbers[road]) + tuple(f", feeder{label}" for s in feeders[road] for label in numbers[s])
            for road in signalled
        }
        if len(named) > 1 or any(len(kind) > 1 for kind in kinds):
            raise ParameterError("view = 'relative' needs phases of roads of one kind; use view = 'absolute'.")
        (label,) = named
        n_phases = len(kinds)
        turned = [[kinds[(p + k) % n_phases] for k in range(n_phases)] for p in range(n_phases)]
        self._like = np.array([turned.index(kind) for kind in turned], np.int64)
        begins = dict(zip(roads, columns, strict=True))
        self._columns = np.array(
            [
                [[begins[s] + i for s in (road, *feeders[road]) for i in range(len(numbers[s]))] for road in phase]
                for phase in by_phase
            ],
            np.int64,
        )
        self._n_before = sum(len(names) for names in labels)
        self.names = [
            f"{'present phase' if p == 0 else f'phase +{p}'}, {ORDINALS[r] if r < 4 else f'{r + 1}th'} road{name}"
            for p in range(self._columns.shape[0])
            for r in range(self._columns.shape[1])
            for name in label
        ]
        """What each number of the roads is, in place of their own names."""

    def look(self, obs: NDArray[np.float32], phase: NDArray[np.int64]) -> NDArray[np.float32]:
        """Observations (B, n) of the absolute view as seen from the present phases (B,)."""
        n_seen = self._columns.size
        seen = np.empty((len(obs), n_seen + obs.shape[1] - self._n_before), np.float32)
        seen[:, n_seen:] = obs[:, self._n_before :]
        shown = seen[:, n_seen : n_seen + len(self._like)]
        shown[...] = 0.0
        if self._like.any():
            shown[np.arange(len(obs)), self._like[phase]] = 1.0
        _look(obs, phase, self._columns, seen)
        return seen


def _feeders(network: Network, road: int, roads: list[int]) -> list[int]:
    """Observed roads that lead into a road."""
    name = network.segments[road].name
    found = [inlet for node in network.nodes if name in node.outlets for inlet in node.inlets]
    return [s for s in roads if network.segments[s].name in found]


@njit(cache=False, nogil=True)
def _look(obs, phase, columns, seen):
    n_phases, n_roads, width = columns.shape
    fullness = np.empty(n_roads)
    for b in range(obs.shape[0]):
        to = 0
        for k in range(n_phases):
            p = (phase[b] + k) % n_phases
            for r in range(n_roads):
                fullness[r] = 0.0
                for i in range(width):
                    fullness[r] += obs[b, columns[p, r, i]]
            for _ in range(n_roads):
                fullest = np.argmax(fullness)
                fullness[fullest] = -1.0
                for i in range(width):
                    seen[b, to + i] = obs[b, columns[p, fullest, i]]
                to += width
