"""The signals of a batch of networks: which stop lines are open in which sub-steps.

Rules, all held whatever the controller asks for:

* an action names the phase that should be green next; asking for the one that is green keeps it;
* a change begins only once the green has lasted `min_green`; asked for earlier, or during a change, it is held;
* a green that could not last through the next interval without exceeding `max_green` is changed to the next phase;
* a change takes `yellow` + `all_red` seconds; stop lines that lose their green pass traffic in the first `yellow_use`
  of them, those that gain it open `start_up_loss` seconds after the change; those green in both phases stay open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from arz_model.kernel_cache import keep_on_disk
from arz_model.network import Network


@dataclass(frozen=True)
class SignalPlan:
    """One intersection: phases and times, in whole seconds but for the two losses."""

    name: str
    phases: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and green roads of each phase."""
    yellow: int
    all_red: int
    min_green: int
    max_green: int
    start_up_loss: float = 0.0
    """Green time in which nothing moves [s]."""
    yellow_use: float = 0.0
    """Part of the yellow that traffic still uses [s]."""

    @property
    def intergreen(self) -> int:
        """Seconds from the end of one green to the beginning of the next."""
        return self.yellow + self.all_red

    @property
    def lost_time(self) -> float:
        """Seconds of a change in which nothing passes."""
        return self.intergreen + self.start_up_loss - self.yellow_use


class Signals:
    """State of all intersections of `n` networks in whole sub-steps; each starts with phase 0 open."""

    def __init__(self, plans: tuple[SignalPlan, ...], network: Network, n: int, steps_per_second: int) -> None:
        self.plans = plans
        self.n_phases = np.array([len(plan.phases) for plan in plans])
        """(J,) phases of each intersection."""
        self.green = np.zeros((len(plans), int(self.n_phases.max()), len(network.segments)), bool)
        """(J, phases, S): which stop lines each phase opens."""
        self.owner = np.full(len(network.segments), -1)
        """(S,) the intersection whose signal stands at the end of each segment; -1 for none."""
        for j, plan in enumerate(plans):
            for p, (_, names) in enumerate(plan.phases):
                roads = [network.index[name] for name in names]
                self.green[j, p, roads] = True
                self.owner[roads] = j
        self.steps_per_second = steps_per_second
        seconds = [(p.intergreen, p.min_green, p.max_green, p.start_up_loss, p.yellow_use) for p in plans]
        self._times = np.rint(np.array(seconds) * steps_per_second).astype(np.int64)
        self.phase = np.zeros((n, len(plans)), np.int64)
        """(B, J) the phase that is green, or will be after the change under way."""
        self.previous = np.zeros_like(self.phase)
        self.clock = np.zeros_like(self.phase)
        """(B, J) sub-steps since the phase turned green; negative while the change is under way."""
        self.changed = np.zeros((n, len(plans)), bool)
        """(B, J) whether the last request began a change."""
        self.windows = np.zeros((n, len(network.segments), 2), np.int64)
        """(B, S, 2) stop lines are open in sub-steps [0] <= k < [1] of the interval that was requested last."""
        self.reset(np.arange(n))

    def reset(self, which: NDArray[np.integer[Any]]) -> None:
        """Phase 0, open, in the networks `which`."""
        self.phase[which] = 0
        self.previous[which] = 0
        self.clock[which] = 0
        self.changed[which] = False

    @property
    def changing(self) -> NDArray[np.bool_]:
        """(B, J) whether a change is under way."""
        return self.clock < 0

    @property
    def time_in_phase(self) -> NDArray[np.float64]:
        """(B, J) seconds of green so far; 0 while the change is under way."""
        return np.maximum(self.clock, 0) / self.steps_per_second

    def may_change(self) -> NDArray[np.bool_]:
        """(B, J) whether a change asked for now would begin."""
        return self.clock >= self._times[:, 1]

    def request(self, actions: NDArray[np.int64], n_steps: int) -> NDArray[np.int64]:
        """Take the actions (B, J) for the next `n_steps` sub-steps; returns `windows`.

        Raises
        ------
        ValueError
            An action names no phase.
        """
        if actions.shape != self.phase.shape or (actions < 0).any() or (actions >= self.n_phases).any():
            raise ValueError(
                f"actions must be phases of shape {self.phase.shape}, each below {self.n_phases.tolist()}; "
                f"got shape {actions.shape}, {actions.min(initial=0)} to {actions.max(initial=0)}."
            )
        _request(
            actions, self.phase, self.previous, self.clock, self.changed, self.green, self.n_phases, self.owner,
            self._times, n_steps, self.windows,
        )  # fmt: skip
        return self.windows

    def state_dict(self) -> dict[str, Any]:
        """The three numbers of each intersection that the next request depends on."""
        return {"phase": self.phase.copy(), "previous": self.previous.copy(), "clock": self.clock.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        for name in ("phase", "previous", "clock"):
            getattr(self, name)[...] = state[name]


@keep_on_disk
@njit(nogil=True)
def _request(actions, phase, previous, clock, changed, green, n_phases, owner, times, n_steps, windows):
    for b in range(phase.shape[0]):
        for j in range(phase.shape[1]):
            intergreen, min_green, max_green, loss = times[j, 0], times[j, 1], times[j, 2], times[j, 3]
            now, c, wanted = phase[b, j], clock[b, j], actions[b, j]
            if c < min_green:
                wanted = now
            elif wanted == now and c + n_steps > max_green:
                wanted = (now + 1) % n_phases[j]
            changed[b, j] = wanted != now
            if wanted != now:
                previous[b, j] = now
                phase[b, j] = wanted
                clock[b, j] = -intergreen
            elif c >= loss:
                previous[b, j] = now
        for s in range(owner.shape[0]):
            j = owner[s]
            windows[b, s, 0], windows[b, s, 1] = 0, n_steps
            if j >= 0:
                opens = green[j, phase[b, j], s]
                was_open = green[j, previous[b, j], s]
                c = clock[b, j]
                if opens and not was_open:
                    windows[b, s, 0] = min(n_steps, max(0, times[j, 3] - c))
                elif not opens:
                    left = times[j, 4] - times[j, 0] - c if was_open else 0
                    windows[b, s, 1] = min(n_steps, max(0, left))
        for j in range(phase.shape[1]):
            clock[b, j] += n_steps
