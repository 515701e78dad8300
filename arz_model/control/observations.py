"""What an agent sees: densities near the stop lines, queues, and the signal, each in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arz_model.control.scenarios import Scenario
from arz_model.control.signals import Signal
from arz_model.solver import Solver
from arz_model.state import Observables


class Observer:
    """Writes the observation vector; by approach `n_bins` densities, queue, entrance queue; then the signal.

    density  = vehicles per metre in a bin / those of a full road, the bin nearest the stop line first, at most 1
    queue    = vehicles slower than the queue speed, mean over the interval / vehicles of a full approach, at most 1
    entrance = n / (n + entrance_scale) for n vehicles waiting to enter
    """

    def __init__(self, scenario: Scenario, solver: Solver) -> None:
        plan = scenario.observation
        self._n_approaches = len(scenario.approaches)
        self._per_approach = plan.n_bins + 2
        self._n_phases = len(scenario.signal.phases)
        self._max_green = scenario.signal.max_green
        self._entrance_scale = plan.entrance_scale
        self.size = self._n_approaches * self._per_approach + self._n_phases + 2
        """Length of the observation vector."""
        self._bins = np.zeros((self._n_approaches * plan.n_bins, solver.layout.n))
        """Cell densities to bin densities over that of a full road; overlaps are shared by length."""
        for i, approach in enumerate(scenario.approaches):
            cells = solver.layout.real_cells(i)
            segment = approach.segment
            edges = segment.length - segment.dx * np.arange(segment.n_cells + 1)
            for k in range(plan.n_bins):
                near, far = k * plan.bin_length, (k + 1) * plan.bin_length
                overlap = np.clip(np.minimum(edges[:-1], far) - np.maximum(edges[1:], near), 0.0, None)
                self._bins[i * plan.n_bins + k, cells] = overlap / plan.bin_length / scenario.parameters.rho_full
        storage = [a.segment.length * scenario.parameters.rho_full for a in scenario.approaches]
        self._full_queue = np.array(storage) * scenario.signal.decision_interval

    def observe(self, solver: Solver, measured: Observables, signal: Signal) -> NDArray[np.float32]:
        """The observation of road 0, float32 (size,)."""
        obs = np.empty(self.size, np.float32)
        n = self._n_approaches
        approaches = obs[: n * self._per_approach].reshape(n, self._per_approach)
        total = solver.total_density()[0]
        np.minimum((self._bins @ total).reshape(n, -1), 1.0, out=approaches[:, :-2], casting="same_kind")
        queue, waiting = measured.queue[0], solver.waiting[0]
        np.minimum((queue[:, 0] + queue[:, 1]) / self._full_queue, 1.0, out=approaches[:, -2], casting="same_kind")
        outside = waiting[:, 0] + waiting[:, 1]
        approaches[:, -1] = outside / (outside + self._entrance_scale)
        np.maximum(approaches, 0.0, out=approaches)
        lights = obs[n * self._per_approach :]
        lights[:] = 0.0
        lights[signal.phase] = 1.0
        lights[-2] = signal.changing
        lights[-1] = min(1.0, signal.time_in_phase / self._max_green)
        return obs
