"""What an agent sees: densities near the stop lines, queues, and the signals, each in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from arz_model.control.signals import Signals
from arz_model.control.view import VIEWS, RelativeView
from arz_model.kernel_cache import keep_on_disk
from arz_model.network import Network
from arz_model.parameters import ParameterError
from arz_model.solver import Solver
from arz_model.state import Observables

KM_PER_H = 1.0 / 3.6


@dataclass(frozen=True)
class ObservationPlan:
    """How roads and queues become numbers."""

    n_bins: int = 10
    bin_length: float = 30.0
    """[m]"""
    queue_speed: float = 5.0 * KM_PER_H
    """Vehicles slower than this are queued [m/s]."""
    entrance_scale: float = 20.0
    """Entrance queue that reads 0.5 [veh]."""


class Observer:
    """Writes observation vectors (B, size): by observed road, then by intersection.

    Observed are the roads with a stop line and those with an entrance, in the scenario's order. A road gives
    density  = vehicles per metre in a bin / those of a full road, the bin nearest its end first, at most 1;
               as many bins as fit on the road, at most `n_bins`
    queue    = vehicles slower than the queue speed, mean over the interval / vehicles of a full road, at most 1
    entrance = n / (n + entrance_scale) for n vehicles waiting to enter, where the road has an entrance
    An intersection gives its phase one-hot, the part of a change that is still to come, and seconds of green / the
    maximum green.
    Densities and queues are given as their square roots. In the relative view the order is another: see RelativeView.
    """

    def __init__(
        self,
        plan: ObservationPlan,
        network: Network,
        solver: Solver,
        signals: Signals,
        interval: int,
        view: str = "absolute",
    ) -> None:
        if view not in VIEWS:
            raise ParameterError(f"view must be one of {', '.join(VIEWS)}; got {view!r}.")
        full = solver.parameters.rho_full
        layout = solver.layout
        entrance = {segment: e for e, segment in enumerate(layout.entrances)}
        self.roads = [s for s in range(len(network.segments)) if signals.owner[s] >= 0 or s in entrance]
        """Segments that are observed."""
        columns: list[tuple[int, int, int]] = []
        bins: list[tuple[int, int, int, int]] = []
        overlaps: list[float] = []
        self.names: list[str] = []
        """What each number of the observation is."""
        begins: list[int] = []
        for s in self.roads:
            begins.append(len(self.names))
            segment, cells = network.segments[s], layout.real_cells(s)
            edges = segment.length - segment.dx * np.arange(segment.n_cells + 1)
            n_bins = max(1, min(plan.n_bins, int(segment.length // plan.bin_length)))
            for k in range(n_bins):
                near, far = k * plan.bin_length, min((k + 1) * plan.bin_length, segment.length)
                part = np.clip(np.minimum(edges[:-1], far) - np.maximum(edges[1:], near), 0.0, None) / (far - near)
                inside = np.nonzero(part)[0]
                begin, end = cells.start + int(inside[0]), cells.start + int(inside[-1]) + 1
                bins.append((len(self.names), begin, end, len(overlaps)))
                overlaps += list(part[inside] / full)
                self.names.append(f"{segment.name} {near:g}-{far:g} m")
            self.names.append(f"{segment.name} queue")
            columns.append((len(self.names) - 1, s, entrance.get(s, -1)))
            if s in entrance:
                self.names.append(f"{segment.name} entrance")
        self.view: RelativeView | None = None
        """How roads are ordered, where that is not the scenario's order."""
        ends = [*begins[1:], len(self.names)]
        if view == "relative":
            labels = [
                [name.removeprefix(network.segments[s].name) for name in self.names[begin:end]]
                for s, begin, end in zip(self.roads, begins, ends, strict=True)
            ]
            self.view = RelativeView(network, signals, self.roads, begins, labels)
            self.names = list(self.view.names)
        for plan_of_signal in signals.plans:
            self.names += [f"{plan_of_signal.name} {name}" for name, _ in plan_of_signal.phases]
            self.names += [f"{plan_of_signal.name} changing", f"{plan_of_signal.name} green time"]
        self.size = len(self.names)
        """Length of an observation."""
        self._absolute_size = ends[-1] + sum(n + 2 for n in signals.n_phases)
        self._bins, self._columns = np.array(bins, np.int64), np.array(columns, np.int64)
        self._overlaps = np.array(overlaps)
        self._full_queue = np.array([network.segments[s].length * full * interval for s in self.roads])
        self._entrance_scale = plan.entrance_scale
        self._max_green = np.array([float(p.max_green * signals.steps_per_second) for p in signals.plans])
        self._intergreen = np.array([float(p.intergreen * signals.steps_per_second) for p in signals.plans])

    def observe(self, solver: Solver, measured: Observables, signals: Signals) -> NDArray[np.float32]:
        """Observations of all networks, float32 (B, size), in an array of their own."""
        obs = np.zeros((solver.n_roads, self._absolute_size), np.float32)
        _observe(
            obs, solver.total_density(), measured.queue, solver.waiting, signals.phase, signals.clock,
            self._bins, self._overlaps, self._columns, self._full_queue, self._entrance_scale,
            signals.n_phases, self._max_green, self._intergreen,
        )  # fmt: skip
        return obs if self.view is None else self.view.look(obs, signals.phase[:, 0])


@keep_on_disk
@njit(nogil=True)
def _observe(
    obs, density, queue, waiting, phase, clock, bins, overlaps, columns, full_queue, entrance_scale, n_phases,
    max_green, intergreen,
):  # fmt: skip
    for b in range(obs.shape[0]):
        for k in range(bins.shape[0]):
            total = 0.0
            for i in range(bins[k, 2] - bins[k, 1]):
                total += density[b, bins[k, 1] + i] * overlaps[bins[k, 3] + i]
            obs[b, bins[k, 0]] = np.sqrt(min(1.0, max(0.0, total)))
        for r in range(columns.shape[0]):
            column, s, e = columns[r]
            obs[b, column] = np.sqrt(min(1.0, max(0.0, (queue[b, s, 0] + queue[b, s, 1]) / full_queue[r])))
            if e >= 0:
                outside = max(0.0, waiting[b, e, 0] + waiting[b, e, 1])
                obs[b, column + 1] = outside / (outside + entrance_scale)
        column = obs.shape[1]
        for j in range(phase.shape[1] - 1, -1, -1):
            column -= n_phases[j] + 2
            obs[b, column + phase[b, j]] = 1.0
            obs[b, column + n_phases[j]] = -clock[b, j] / intergreen[j] if clock[b, j] < 0 else 0.0
            obs[b, column + n_phases[j] + 1] = min(1.0, max(0, clock[b, j]) / max_green[j])
