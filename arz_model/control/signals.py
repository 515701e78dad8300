"""The signals of a batch of networks: which stop lines are open in which sub-steps.

Rules, all held whatever the controller asks for:

* a request names the phase that should be green next, and at which of the interval's `moments` the change to it
  begins: phase + number of phases x number of the moment; asking for the phase that is green keeps it;
* a change begins only once the green has lasted `min_green`; asked for a moment before that, or during a change, it is
  held;
* a green that could not last through the next interval without exceeding `max_green` is changed to the next phase at
  once, one that should end after `max_green` ends at it;
* a change takes `yellow` + `all_red` seconds; stop lines that lose their green pass traffic in the first `yellow_use`
  of them, those that gain it open `start_up_loss` seconds after the change; those green in both phases stay open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """State of all intersections of `n` networks in whole sub-steps; each starts with phase 0 open.

    moments : sub-steps of an interval at which a change may begin, the first of them 0.
    """

    def __init__(
        self,
        plans: tuple[SignalPlan, ...],
        network: Network,
        n: int,
        steps_per_second: int,
        moments: Sequence[int] = (0,),
    ) -> None:
        self.plans = plans
        self.moments = np.array(moments, np.int64)
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
        """(B, J) sub-steps since the phase turned green; negative, those to come, while the change is under way."""
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
        """(B, J, moments) whether a change asked for at each moment of the next interval would begin."""
        late_enough = self.clock[..., None] + self.moments >= self._times[:, 1, None]
        return late_enough & (self.clock >= 0)[..., None]

    def request(self, requests: NDArray[np.int64], n_steps: int) -> NDArray[np.int64]:
        """Take the requests (B, J) for the next `n_steps` sub-steps; returns `windows`.

        Raises
        ------
        ValueError
            A request names no phase or no moment.
        """
        limits = self.n_phases * len(self.moments)
        if requests.shape != self.phase.shape or (requests < 0).any() or (requests >= limits).any():
            raise ValueError(
                f"requests must be whole numbers of shape {self.phase.shape}, each below {limits.tolist()}; "
                f"got shape {requests.shape}, {requests.min(initial=0)} to {requests.max(initial=0)}."
            )
        _request(
            requests, self.moments, self.phase, self.previous, self.clock, self.changed, self.green, self.n_phases,
            self.owner, self._times, n_steps, self.windows,
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
def _request(requests, moments, phase, previous, clock, changed, green, n_phases, owner, times, n_steps, windows):
    for b in range(phase.shape[0]):
        for s in range(owner.shape[0]):
            windows[b, s, 0], windows[b, s, 1] = 0, n_steps
        for j in range(phase.shape[1]):
            intergreen, min_green, max_green, loss, yellow_use = times[j]
            now, before, c = phase[b, j], previous[b, j], clock[b, j]
            wanted, begin = requests[b, j] % n_phases[j], moments[requests[b, j] // n_phases[j]]
            if c < 0 or c + begin < min_green:
                wanted = now
            if wanted == now and c >= min_green and c + n_steps > max_green:
                wanted, begin = (now + 1) % n_phases[j], 0
            begin = min(begin, max(0, max_green - c))
            for s in range(owner.shape[0]):
                if owner[s] != j:
                    continue
                if green[j, now, s]:
                    if not green[j, before, s]:
                        windows[b, s, 0] = min(n_steps, max(0, loss - c))
                    if not green[j, wanted, s]:
                        windows[b, s, 1] = min(n_steps, begin + yellow_use)
                elif wanted != now and green[j, wanted, s]:
                    windows[b, s, 0] = min(n_steps, begin + intergreen + loss)
                else:
                    left = yellow_use - intergreen - c if green[j, before, s] else 0
                    windows[b, s, 1] = min(n_steps, max(0, left))
            changed[b, j] = wanted != now
            if wanted != now:
                previous[b, j], phase[b, j] = now, wanted
                clock[b, j] = -intergreen - begin
            elif c >= loss:
                previous[b, j] = now
            clock[b, j] += n_steps
