"""The signal of one intersection: which stop lines are open in which sub-steps.

Rules, all held whatever the controller asks for:

* an action names the phase that should be green next; asking for the one that is green keeps it;
* a change begins only once the green has lasted `min_green`; asked for earlier, or during a change, it is held;
* a green that could not last through the next interval without exceeding `max_green` is changed to the next phase;
* a change takes `yellow` + `all_red` seconds in which stop lines that are not green in both phases pass nothing: the
  yellow's use by traffic and the start-up loss are taken as equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arz_model.control.scenarios import SignalPlan
from arz_model.network import Network


class Signal:
    """State of the signal in whole sub-steps; starts with phase 0 just turned green."""

    def __init__(self, plan: SignalPlan, network: Network, steps_per_second: int) -> None:
        self.plan = plan
        self.green = np.zeros((len(plan.phases), len(network.segments)), bool)
        """(phases, segments): which stop lines each phase opens."""
        for i, (_, names) in enumerate(plan.phases):
            self.green[i, [network.index[name] for name in names]] = True
        self.steps_per_second = steps_per_second
        self._intergreen = (plan.yellow + plan.all_red) * steps_per_second
        self._min_green = plan.min_green * steps_per_second
        self._max_green = plan.max_green * steps_per_second
        self.reset()

    def reset(self) -> None:
        """Phase 0, just turned green."""
        self.phase = 0
        self.previous = 0
        self.clock = 0
        """Sub-steps since the phase turned green; negative while the change is under way."""

    @property
    def time_in_phase(self) -> float:
        """Seconds of green so far; 0 while the change is under way."""
        return max(0, self.clock) / self.steps_per_second

    @property
    def changing(self) -> bool:
        """Whether a change is under way."""
        return self.clock < 0

    def request(self, phase: int, n_steps: int, windows: NDArray[np.int64]) -> bool:
        """Take an action for the next `n_steps` sub-steps; returns whether a change began.

        windows : (S, 2), written — each stop line is open in sub-steps windows[:, 0] <= k < windows[:, 1].
        """
        change = False
        if self.clock >= 0:
            if self.clock < self._min_green:
                phase = self.phase
            elif phase == self.phase and self.clock + n_steps > self._max_green:
                phase = (self.phase + 1) % len(self.green)
            change = phase != self.phase
            if change:
                self.previous, self.phase = self.phase, phase
                self.clock = -self._intergreen
            else:
                self.previous = self.phase
        opens = min(max(0, -self.clock), n_steps)
        now = self.green[self.phase]
        windows[:, 0] = np.where(now & self.green[self.previous], 0, opens)
        windows[:, 1] = np.where(now, n_steps, 0)
        self.clock += n_steps
        return change

    def state_dict(self) -> dict[str, int]:
        """The three integers that the next request depends on."""
        return {"phase": self.phase, "previous": self.previous, "clock": self.clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.phase, self.previous, self.clock = int(state["phase"]), int(state["previous"]), int(state["clock"])
