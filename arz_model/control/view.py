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

    Actions count from the present phase: 0 keeps it, 1 asks for the one after it. What is learnt in one situation then
    holds for all that are the same but for the names of roads and phases. Which phase is the present one is shown only
    where phases differ in more than their names.

    Parameters
    ----------
    roads : observed segments, in the order of the observation.
    columns : where the numbers of each begin.
    labels : what the numbers of each road are.

    Raises
    ------
    ParameterError
        The roads cannot stand for each other: several intersections, a road without a signal or in several phases,
        phases with different numbers of roads, or roads of a phase that differ in length, speed or saturation flow.
    """

    def __init__(
        self, network: Network, signals: Signals, roads: list[int], columns: list[int], labels: list[list[str]]
    ) -> None:
        if len(signals.plans) != 1:
            raise ParameterError(f"view = 'relative' is for one intersection; there are {len(signals.plans)}.")
        (plan,) = signals.plans
        by_phase = [[s for s in roads if network.segments[s].name in green] for _, green in plan.phases]
        if sorted(s for phase in by_phase for s in phase) != sorted(roads) or len({len(p) for p in by_phase}) > 1:
            raise ParameterError(
                "view = 'relative' needs phases with equally many roads, and every observed road in exactly one of "
                "them; use view = 'absolute'."
            )
        kinds = [{replace(network.segments[s], name="") for s in phase} for phase in by_phase]
        if len({tuple(label) for label in labels}) > 1 or any(len(kind) > 1 for kind in kinds):
            raise ParameterError("view = 'relative' needs phases of roads of one kind; use view = 'absolute'.")
        self._phases_differ = any(kind != kinds[0] for kind in kinds)
        begins = dict(zip(roads, columns, strict=True))
        self._starts = np.array([[begins[s] for s in phase] for phase in by_phase], np.int64)
        self._width = len(labels[0])
        n_phases, n_roads = self._starts.shape
        self.names = [
            f"{'present phase' if p == 0 else f'phase +{p}'}, {ORDINALS[r] if r < 4 else f'{r + 1}th'} road{label}"
            for p in range(n_phases)
            for r in range(n_roads)
            for label in labels[0]
        ]
        """What each number is, in place of the roads' own names."""

    def look(self, obs: NDArray[np.float32], phase: NDArray[np.int64]) -> None:
        """Reorder observations (B, n) for the present phases (B,), in place."""
        _look(obs, phase, self._starts, self._width)
        if not self._phases_differ:
            obs[:, self._starts.size * self._width :][:, : len(self._starts)] = 0.0


@njit(cache=False, nogil=True)
def _look(obs, phase, starts, width):
    n_phases, n_roads = starts.shape
    seen = np.empty(n_phases * n_roads * width, np.float32)
    fullness = np.empty(n_roads)
    for b in range(obs.shape[0]):
        column = 0
        for k in range(n_phases):
            p = (phase[b] + k) % n_phases
            for r in range(n_roads):
                fullness[r] = obs[b, starts[p, r] : starts[p, r] + width].sum()
            for _ in range(n_roads):
                fullest = np.argmax(fullness)
                fullness[fullest] = -1.0
                seen[column : column + width] = obs[b, starts[p, fullest] : starts[p, fullest] + width]
                column += width
        obs[b, : seen.size] = seen
