"""A batch of episodes of one scenario, all advanced by one call of the solver.

What single and vectorised environments share: each of the `n` episodes has its own demand, signals, clock and random
generator, and its results do not depend on how many others share the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from arz_model.control import scenarios
from arz_model.control.observations import Observer
from arz_model.control.rewards import REWARDS, Interval, Reward, lost_time, pressure_weights, queued_time
from arz_model.control.signals import Signals
from arz_model.kernel_cache import keep_on_disk
from arz_model.solver import Solver
from arz_model.state import Observables

GENERATOR_WORDS = 6
"""64-bit words that hold a PCG64 generator."""


@dataclass(frozen=True)
class Transition:
    """What one decision interval brought; arrays (B, ...)."""

    obs: NDArray[np.float32]
    rewards: NDArray[np.float64]
    over: NDArray[np.bool_]
    """Episodes that end with this interval."""
    measured: Observables
    """Integrals over the interval."""


class TrafficBatch:
    """`n` episodes of one scenario in lockstep.

    Parameters
    ----------
    reward : name in REWARDS, or a function of an Interval that gives (B,) vehicle seconds.
    random_start : the first episode of each begins, with empty roads, at a random second of its demand, so that the
        episodes of a batch do not end together.
    view : absolute, or relative: see RelativeView.
    change_step_s : seconds between the moments of an interval at which a change of phase may begin; a whole part of the
        decision interval. When not given, a change begins with the interval or not at all.
    """

    def __init__(
        self,
        scenario: str | Path | scenarios.Scenario = "quick",
        n: int = 1,
        *,
        device: str = "auto",
        reward: str | Reward = "delay",
        demand: str | None = None,
        decision_interval_s: int | None = None,
        duration_s: int | None = None,
        random_start: bool = False,
        view: str = "absolute",
        change_step_s: int | None = None,
        n_threads: int = 1,
    ) -> None:
        if isinstance(reward, str) and reward not in REWARDS:
            raise scenarios.ScenarioError(f"no reward {reward!r}; there are {', '.join(REWARDS)}.")
        loaded = scenario if isinstance(scenario, scenarios.Scenario) else scenarios.load(scenario)
        self.scenario = scenarios.choose(loaded, demand, decision_interval_s, duration_s)
        network, self.n = self.scenario.network, n
        self.solver = Solver(
            network,
            self.scenario.parameters,
            n_roads=n,
            device=device,
            n_threads=n_threads,
            v_queue=self.scenario.observation.queue_speed,
        )
        self.interval = self.scenario.decision_interval
        step = self.interval if change_step_s is None else change_step_s
        parts = [part for part in range(1, self.interval + 1) if self.interval % part == 0]
        if step not in parts:
            raise scenarios.ScenarioError(
                f"change_step_s must be a whole part of the decision interval of {self.interval} s, "
                f"one of {', '.join(map(str, parts))}; got {step!r}."
            )
        steps_per_second = round(1.0 / self.solver.dt)
        moments = range(0, self.interval * steps_per_second, int(step) * steps_per_second)
        self.signals = Signals(self.scenario.intersections, network, n, steps_per_second, moments)
        self.observer = Observer(
            self.scenario.observation, network, self.solver, self.signals, self.interval, view
        )  # fmt: skip
        self.demand = self.scenario.demand
        self.seconds = np.zeros(n, np.int64)
        """(B,) second of the demand at which each episode stands."""
        self.random_start = random_start
        self._started = np.zeros(n, bool)
        self._n_steps = self.solver.n_steps(self.interval)
        self.reward: Reward = REWARDS[reward] if isinstance(reward, str) else reward
        """What an interval is worth [veh s]."""
        self._scale = 1.0 / (self.scenario.expected_arrivals * self.scenario.delay_scale)
        self._weights = pressure_weights(network, self.signals.owner >= 0)
        feeding = {name for node in network.nodes for name in node.inlets}
        self.exits = np.array([s for s, road in enumerate(network.segments) if road.name not in feeding])
        """Segments whose end leaves the network."""
        self.arrivals = np.zeros((n, self.demand.duration, len(self.demand.sources), 2), np.uint8)
        """(B, seconds, E, 2) vehicles of m and c that arrive in each second of the episodes under way."""
        self._drawn_from = np.zeros((n, GENERATOR_WORDS), np.uint64)
        self._arriving = np.zeros((n, self.interval, len(self.demand.sources), 2))
        self._before = np.zeros(n)

    def reset(self, which: Sequence[int] | NDArray[np.integer[Any]], generators: Sequence[np.random.Generator]) -> None:
        """Begin new episodes in the places `which`, each drawn from its own generator."""
        places = np.asarray(which, np.int64)
        for place, generator in zip(places, generators, strict=True):
            self._drawn_from[place] = pack_generator(generator)
            self._draw(int(place), generator)
        self.signals.reset(places)
        self.solver.clear(places)
        self._before[places] = 0.0
        self._started[places] = True

    def observe(self) -> NDArray[np.float32]:
        """Observations of all episodes, float32 (B, size)."""
        return self.observer.observe(self.solver, self.solver.measured, self.signals)

    @property
    def n_actions(self) -> NDArray[np.int64]:
        """(J,) actions of each intersection: its phases at once, and each other phase at each later moment."""
        signals = self.signals
        return signals.n_phases + (signals.n_phases - 1) * (len(signals.moments) - 1)

    def requests(self, actions: Any) -> NDArray[np.int64]:
        """An agent's actions (B, J) as `Signals` takes them.

        Actions below the number of phases P name the phase, or in the relative view count on from the present one.
        P + (k - 1) (P - 1) + s - 1 asks at moment k for the phase that is s on from the present one.

        Raises
        ------
        ValueError
            An action that there is not.
        """
        n, n_actions, present = self.signals.n_phases, self.n_actions, self.signals.phase
        wanted = np.asarray(actions, np.int64).reshape(present.shape)
        if (wanted < 0).any() or (wanted >= n_actions).any():
            raise ValueError(
                f"actions must be below {n_actions.tolist()}, one for each intersection, and not negative; "
                f"got {wanted.min()} to {wanted.max()}."
            )
        at_once, later = wanted < n, wanted - n
        on = np.where(at_once, wanted if self.observer.view else wanted - present, later % (n - 1) + 1)
        moment = np.where(at_once, 0, later // (n - 1) + 1)
        return np.asarray((present + on) % n + n * moment, np.int64)

    def action_masks(self) -> NDArray[np.bool_]:
        """(B, n) actions that would not be held, by intersection: the present phase, and others once they may begin."""
        free = self.signals.may_change()
        parts = []
        for j, n in enumerate(self.signals.n_phases):
            present = self.signals.phase[:, j, None] if self.observer.view is None else 0
            at_once = (present == np.arange(n)) | free[:, j, :1]
            parts += [at_once, np.repeat(free[:, j, 1:], n - 1, axis=1)]
        return np.concatenate(parts, axis=1)

    def step(self, requests: NDArray[np.int64], each_second: Callable[[Observables], None] | None = None) -> Transition:
        """One decision interval with the `requests` (B, J); `each_second` sees what each second of it brought."""
        windows = self.signals.request(requests, self._n_steps)
        _gather(self.arrivals, self.seconds, self._arriving)
        if each_second is None:
            measured = self.solver.advance(self._n_steps, self._arriving, windows)
        else:
            measured = self._advance_by_seconds(windows, each_second)
        self.seconds += self.interval
        obs = self.observer.observe(self.solver, measured, self.signals)
        interval = Interval(measured, self._before, self._weights, self.exits, self.scenario.delay_scale)
        rewards = self.reward(interval) * self._scale
        self._before = queued_time(measured)
        return Transition(obs, rewards, self.seconds >= self.scenario.duration, measured)

    def _advance_by_seconds(
        self, windows: NDArray[np.int64], each_second: Callable[[Observables], None]
    ) -> Observables:
        n = self.signals.steps_per_second
        parts = []
        for second in range(self.interval):
            piece = np.ascontiguousarray(self._arriving[:, second : second + 1])
            parts.append(self.solver.advance(n, piece, np.clip(windows - second * n, 0, n)))
            each_second(parts[-1])
        return Observables(np.sum([part.totals for part in parts], axis=0))

    def queued(self, measured: Observables) -> NDArray[np.float64]:
        """(B,) mean number of queued vehicles on the roads in the interval."""
        return measured.queue.sum(axis=(1, 2)) / self.interval

    def figures(self, measured: Observables, place: int = 0) -> dict[str, Any]:
        """What one episode's interval brought, by name: for an environment's info."""
        phase = self.signals.phase[place]
        return {
            "delay": float(lost_time(measured)[place]),
            "queue": float(self.queued(measured)[place]),
            "entrance_queue": float(self.solver.waiting[place].sum()),
            "throughput": float(measured.outflow[place, self.exits].sum()),
            "arrivals": float(measured.arrivals[place].sum()),
            "phase": int(phase[0]) if len(phase) == 1 else phase.copy(),
            "changed": int(self.signals.changed[place].sum()),
        }

    def reward_specification(self) -> str:
        """What the reward is, for the record of a run."""
        return (
            f"{getattr(self.reward, '__name__', self.reward)} of {self.scenario.name}, demand {self.scenario.profile}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the episodes depends on: arrays and plain values; not the caller's generators.

        Demand is kept as the generators that it was drawn from.
        """
        return {
            **{f"solver.{name}": value for name, value in self.solver.state_dict().items()},
            **{f"signals.{name}": value for name, value in self.signals.state_dict().items()},
            "seconds": self.seconds.copy(),
            "started": self._started.copy(),
            "before": self._before.copy(),
            "drawn_from": self._drawn_from.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a batch of the same scenario and size, bit for bit."""
        drawn_from = np.asarray(state["drawn_from"], np.uint64)
        if drawn_from.shape != self._drawn_from.shape:
            raise ValueError(f"the saved batch has {len(drawn_from)} episodes; this one has {self.n}.")
        self._drawn_from[...] = drawn_from
        self._started[...] = False
        for place in range(self.n):
            if drawn_from[place].any():
                self._draw(place, unpack_generator(drawn_from[place]))
        self.solver.load_state_dict(_part(state, "solver."))
        self.signals.load_state_dict(_part(state, "signals."))
        self.seconds[...] = state["seconds"]
        self._started[...] = state["started"]
        self._before[...] = state["before"]

    def _draw(self, place: int, generator: np.random.Generator) -> None:
        self.arrivals[place] = self.demand.arrivals(generator)
        late = self.random_start and not self._started[place]
        n_intervals = self.demand.duration // self.interval
        self.seconds[place] = self.interval * int(generator.integers(n_intervals)) if late else 0


def pack_generator(generator: np.random.Generator) -> NDArray[np.uint64]:
    """A PCG64 generator as 6 words: state, increment (low word first), and its spare half word.

    Raises
    ------
    ValueError
        Another kind of generator.
    """
    state = generator.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"only PCG64 generators can be saved; this is {state['bit_generator']}.")
    low = (1 << 64) - 1
    numbers = [part for key in ("state", "inc") for part in (state["state"][key] & low, state["state"][key] >> 64)]
    return np.array([*numbers, state["has_uint32"], state["uinteger"]], np.uint64)


def unpack_generator(words: NDArray[np.uint64]) -> np.random.Generator:
    """The generator that `pack_generator` wrote."""
    generator = np.random.Generator(np.random.PCG64(0))
    set_generator(generator, words)
    return generator


def set_generator(generator: np.random.Generator, words: NDArray[np.uint64]) -> None:
    """Put a PCG64 generator where `pack_generator` found another."""
    n = [int(word) for word in words]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": n[0] | n[1] << 64, "inc": n[2] | n[3] << 64},
        "has_uint32": n[4],
        "uinteger": n[5],
    }


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@keep_on_disk
@njit(nogil=True)
def _gather(arrivals, seconds, arriving):
    """Arrivals (B, P, E, 2) of the next interval [veh/s], from each episode's own second on."""
    for b in range(arriving.shape[0]):
        for t in range(arriving.shape[1]):
            for e in range(arriving.shape[2]):
                for c in range(2):
                    arriving[b, t, e, c] = arrivals[b, seconds[b] + t, e, c]
