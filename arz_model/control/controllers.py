"""Signal controllers to compare an agent with: fixed time, Webster, actuated, max-pressure, longest queue, random.

A controller decides for a whole batch: `begin` once the episodes have begun, then `act` before every interval. It
states the decision interval that it needs. It reads the exact traffic state, as a perfect detector would see it. Where
a parameter is a Setting it may differ by episode, so that a whole grid of parameters is driven side by side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arz_model.control.batch import TrafficBatch
from arz_model.parameters import ParameterError

Actions = NDArray[np.int64]
Setting = float | NDArray[Any]
"""One number for all episodes, or (B,)."""
INTERFACE = ("view", "change_step_s")
"""Arguments of TrafficBatch that decide what observations and actions mean."""
DEFAULT_INTERFACE: Mapping[str, Any] = MappingProxyType({})
MAX_PHASES = 16


class Controller(Protocol):
    """Chooses what to ask of each intersection of each episode."""

    name: str
    interval: int | None
    """Decision interval that it needs [s]; None takes the scenario's."""
    interface: Mapping[str, Any]
    """How it sees and acts: arguments of TrafficBatch, see INTERFACE."""

    def begin(self, batch: TrafficBatch) -> None:
        """New episodes have begun."""

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        """What to ask for (B, J): see Signals; a number below that of the phases asks for a phase at once."""


class FixedTime:
    """Greens of fixed length in a fixed order.

    greens : seconds of green of each phase, the same at every intersection, (P,); or (J, P); or (B, 1, J, P); more than
        there are phases may be given.
    offsets : seconds by which each intersection lags, J Settings.
    """

    interval: int | None = 1
    interface = DEFAULT_INTERFACE

    def __init__(
        self, greens: Sequence[float] | NDArray[Any], offsets: Sequence[Setting] = (), name: str = "fixed time"
    ) -> None:
        self.name = name
        self._greens = np.asarray(greens, np.float64)
        self._offsets = offsets

    def begin(self, batch: TrafficBatch) -> None:
        n, n_intersections = batch.signals.phase.shape
        if self._greens.shape[-1] < batch.signals.n_phases.max():
            raise ParameterError(
                f"{self.name} gives {self._greens.shape[-1]} greens; "
                f"scenario {batch.scenario.name!r} has {batch.signals.n_phases.max()} phases."
            )
        self.plan(np.broadcast_to(self._greens, (n, 1, n_intersections, self._greens.shape[-1])), batch)

    def plan(self, greens: NDArray[np.float64], batch: TrafficBatch) -> None:
        """Follow `greens` (B, periods, J, P) from the beginning; the episode is cut into equal periods."""
        signals = batch.signals
        self.greens = greens
        self._phase = np.zeros_like(signals.phase)
        intergreen = np.array([plan.intergreen for plan in batch.scenario.intersections], np.float64)
        self._spans = greens + intergreen[:, None]
        self._period = -(-batch.scenario.duration // greens.shape[1])
        self._elapsed = np.broadcast_to(intergreen, signals.phase.shape).copy()
        for j, offset in enumerate(self._offsets):
            self._elapsed[:, j] -= offset

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        n, n_intersections = self._phase.shape
        period = np.minimum(batch.seconds // self._period, self.greens.shape[1] - 1)
        spans = self._spans[np.arange(n)[:, None], period[:, None], np.arange(n_intersections), self._phase]
        over = self._elapsed >= spans - 1e-9
        self._phase = np.where(over, (self._phase + 1) % batch.signals.n_phases, self._phase)
        self._elapsed = np.where(over, 0.0, self._elapsed) + batch.interval
        return self._phase


class Webster(FixedTime):
    """Webster's cycle and splits for the flows that each episode really brings, which no plan can know beforehand.

    C = (1.5 L + 5) / (1 - Y), at most `max_cycle_s`; greens in proportion to critical flow ratios. L is the lost time
    of a cycle, Y the sum of the phases' largest flow ratios. With `n_periods` above 1 the plan changes with the time of
    day. With `offset_s` each intersection lags so much behind the one before (a green wave), and all share the longest
    of their cycles.

    Webster (1958), Traffic signal settings, Road Research Technical Paper 39.
    """

    def __init__(
        self, n_periods: int = 1, max_cycle_s: Setting = 180.0, offset_s: Setting = 0.0, name: str = "Webster"
    ) -> None:
        super().__init__(())
        self.name, self._n_periods, self._offset = name, n_periods, offset_s
        self._max_cycle = np.reshape(max_cycle_s, (-1, 1))

    def begin(self, batch: TrafficBatch) -> None:
        plans = batch.scenario.intersections
        flows = road_flows(batch, self._n_periods)
        saturation = np.array([segment.saturation_flow for segment in batch.scenario.network.segments])
        ratios = flows / saturation
        n, n_phases = len(ratios), int(batch.signals.n_phases.max())
        greens = np.zeros((n, self._n_periods, len(plans), n_phases))
        cycles = np.zeros((n, self._n_periods, len(plans)))
        shares = np.zeros_like(greens)
        for j, plan in enumerate(plans):
            for p in range(len(plan.phases)):
                critical = ratios[:, :, batch.signals.green[j, p]].max(axis=2)
                shares[:, :, j, p] = np.maximum(critical, 0.01)
            total = shares[:, :, j].sum(axis=2)
            lost = plan.lost_time * len(plan.phases)
            cycle = (1.5 * lost + 5.0) / np.maximum(1.0 - total, 1e-3)
            shortest = plan.intergreen * len(plan.phases) + len(plan.phases) * max(plan.min_green, 1)
            cycles[:, :, j] = np.clip(cycle, shortest, self._max_cycle)
        together = np.reshape(self._offset, (-1, 1, 1)) != 0.0
        cycles = np.where(together, cycles.max(axis=2, keepdims=True), cycles)
        for j, plan in enumerate(plans):
            available = cycles[:, :, j] - plan.intergreen * len(plan.phases)
            share = shares[:, :, j] / shares[:, :, j].sum(axis=2, keepdims=True)
            greens[:, :, j] = np.clip(np.rint(share * available[:, :, None]), plan.min_green, plan.max_green)
        self._offsets = [self._offset * j for j in range(len(plans))]
        self.plan(greens, batch)


class Actuated:
    """Gap-out: a green ends when fewer than `gap_veh` are within `detector_m` of its stop lines, or at `max_green_s`.

    The next phase in order with a vehicle before its stop lines follows; where nobody waits elsewhere the green stays.
    """

    interface = DEFAULT_INTERFACE

    def __init__(
        self,
        detector_m: Setting = 40.0,
        gap_veh: Setting = 0.6,
        max_green_s: Setting = 60.0,
        interval: int | None = 1,
        name: str = "actuated",
    ) -> None:
        self.name, self.interval = name, interval
        self._detector, self._gap, self._max_green = detector_m, gap_veh, max_green_s

    def begin(self, batch: TrafficBatch) -> None:
        detector = np.broadcast_to(self._detector, batch.n)
        self._near = [(detector == distance, near_matrix(batch, distance)) for distance in np.unique(detector)]

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        signals = batch.signals
        density = batch.solver.total_density()
        near = np.empty((batch.n, len(batch.scenario.network.segments)))
        for episodes, matrix in self._near:
            near[episodes] = density[episodes] @ matrix
        wanted = signals.phase.copy()
        for j, n_phases in enumerate(signals.n_phases):
            at_lines = np.stack([near[:, signals.green[j, p]].max(axis=1) for p in range(n_phases)], axis=1)
            present = signals.phase[:, j]
            gap = at_lines[np.arange(batch.n), present] < self._gap
            ends = gap | (signals.time_in_phase[:, j] >= self._max_green)
            following = present.copy()
            for step in range(n_phases - 1, 0, -1):
                candidate = (present + step) % n_phases
                waits = at_lines[np.arange(batch.n), candidate] > 0.1
                following = np.where(waits, candidate, following)
            wanted[:, j] = np.where(ends, following, present)
        return wanted


class LongestQueue:
    """Every `slot_s` seconds the phase with most vehicles before its stop lines, if it leads by `hysteresis_veh`.

    Counted are the vehicles on the road and those waiting to enter it; with `pressure`, less those downstream by
    turning ratio (max-pressure: Varaiya (2013), Transp. Res. C 36:177-195).
    """

    interval: int | None = 1
    interface = DEFAULT_INTERFACE

    def __init__(
        self, slot_s: Setting = 20, hysteresis_veh: Setting = 6.0, pressure: bool = False, name: str = "longest queue"
    ) -> None:
        self.name = name
        self._slot, self._hysteresis, self._pressure = slot_s, hysteresis_veh, pressure

    def begin(self, batch: TrafficBatch) -> None:
        self._count = near_matrix(batch, np.inf)
        network, signals = batch.scenario.network, batch.signals
        n = len(network.segments)
        self._upstream = np.eye(n)
        if self._pressure:
            for node in network.nodes:
                for row, inlet in zip(node.turning_ratios, node.inlets, strict=True):
                    for ratio, outlet in zip(row, node.outlets, strict=True):
                        self._upstream[network.index[outlet], network.index[inlet]] -= ratio
        self._entrances = np.zeros((len(batch.solver.layout.entrances), n))
        self._entrances[np.arange(len(self._entrances)), list(batch.solver.layout.entrances)] = 1.0
        self._since = np.broadcast_to(np.reshape(self._slot, (-1, 1)), signals.phase.shape).copy()

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        signals = batch.signals
        vehicles = batch.solver.total_density() @ self._count + batch.solver.waiting.sum(axis=2) @ self._entrances
        pressure = vehicles @ self._upstream
        wanted = signals.phase.copy()
        rows = np.arange(batch.n)
        for j, n_phases in enumerate(signals.n_phases):
            by_phase = np.stack([pressure[:, signals.green[j, p]].sum(axis=1) for p in range(n_phases)], axis=1)
            best, present = by_phase.argmax(axis=1), signals.phase[:, j]
            leads = by_phase[rows, best] > by_phase[rows, present] + self._hysteresis
            due = (self._since[:, j] >= self._slot) & ~signals.changing[:, j]
            change = leads & due
            wanted[:, j] = np.where(change, best, present)
            self._since[:, j] = np.where(change, 0, self._since[:, j]) + batch.interval
        return wanted


class RandomPhase:
    """A phase at random at every decision."""

    interval: int | None = None
    interface = DEFAULT_INTERFACE

    def __init__(self, seed: int = 0, name: str = "random") -> None:
        self.name, self._seed = name, seed

    def begin(self, batch: TrafficBatch) -> None:
        self._generator = np.random.default_rng(self._seed)

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        return self._generator.integers(0, batch.signals.n_phases, batch.signals.phase.shape)


class Policy:
    """A stable-baselines3 model, acting deterministically, with its memory and the masks that it wants.

    env_kwargs : arguments of the environment that it was trained in; of these the view and the change step count.
    shuffled : give it another episode's observation instead of its own: a control that must fail.
    """

    def __init__(
        self,
        model: Any,
        name: str = "agent",
        interval: int | None = None,
        env_kwargs: Mapping[str, Any] = MappingProxyType({}),
        shuffled: bool = False,
    ) -> None:
        self.name, self.interval, self._model, self._shuffled = name, interval, model, shuffled
        self.interface: Mapping[str, Any] = {key: env_kwargs[key] for key in INTERFACE if key in env_kwargs}
        self._masked = "action_masks" in inspect.signature(model.predict).parameters

    def begin(self, batch: TrafficBatch) -> None:
        self._generator = np.random.default_rng(0)
        self._memory: Any = None
        self._begins = np.ones(len(batch.arrivals), bool)

    def act(self, batch: TrafficBatch, obs: NDArray[np.float32]) -> Actions:
        if self._shuffled:
            obs = self._generator.permuted(obs, axis=1)
        masks = {"action_masks": batch.action_masks()} if self._masked else {}
        actions, self._memory = self._model.predict(obs, self._memory, self._begins, deterministic=True, **masks)
        self._begins = np.zeros_like(self._begins)
        return batch.requests(actions)


def near_matrix(batch: TrafficBatch, distance: float) -> NDArray[np.float64]:
    """(n, S): cell densities to vehicles within `distance` metres of the end of each segment."""
    layout, segments = batch.solver.layout, batch.scenario.network.segments
    matrix = np.zeros((layout.n, len(segments)))
    for s, segment in enumerate(segments):
        edges = segment.length - segment.dx * np.arange(segment.n_cells + 1)
        within = np.clip(np.minimum(edges[:-1], distance) - edges[1:], 0.0, None)
        matrix[layout.real_cells(s), s] = within
    return matrix


def road_flows(batch: TrafficBatch, n_periods: int = 1) -> NDArray[np.float64]:
    """(B, periods, S) flow that each segment has to carry [veh/s]: arrivals of the episodes, carried on by turning."""
    network = batch.scenario.network
    n, seconds = batch.arrivals.shape[:2]
    length = -(-seconds // n_periods)
    flows = np.zeros((n, n_periods, len(network.segments)))
    for period in range(n_periods):
        part = batch.arrivals[:, period * length : (period + 1) * length]
        flows[:, period, list(batch.solver.layout.entrances)] = part.sum(axis=(1, 3)) / part.shape[1]
    turning = np.zeros((len(network.segments), len(network.segments)))
    for node in network.nodes:
        for row, inlet in zip(node.turning_ratios, node.inlets, strict=True):
            for ratio, outlet in zip(row, node.outlets, strict=True):
                turning[network.index[inlet], network.index[outlet]] = ratio
    carried: NDArray[np.float64] = flows @ np.linalg.inv(np.eye(len(turning)) - turning)
    return carried


def _green_wave(**parameters: Any) -> Controller:
    return Webster(**{"offset_s": 24.0, "name": "green wave", **parameters})


CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "fixed": lambda green_s=30, **p: FixedTime(np.full(MAX_PHASES, green_s), **{"name": f"fixed {green_s:g} s", **p}),
    "webster": Webster,
    "webster-15min": lambda **p: Webster(**{"n_periods": 4, "name": "Webster, 15 min", **p}),
    "green-wave": _green_wave,
    "actuated": Actuated,
    "max-pressure": lambda **p: LongestQueue(**{"pressure": True, "name": "max-pressure", **p}),
    "longest-queue": LongestQueue,
    "random": RandomPhase,
}
"""Controllers by name; each takes the keyword arguments of its class."""


def _parameters(name: str) -> list[str]:
    """What controller `name` can be given: numbers, each with a value of its own without."""
    factory = CONTROLLERS[name]
    taken = {**inspect.signature(type(factory()).__init__).parameters, **inspect.signature(factory).parameters}
    return [key for key, one in taken.items() if key != "name" and one.default is not one.empty]


def by_name(text: str) -> Controller:
    """A controller from `name` or `name:key=number,...`.

    Raises
    ------
    ParameterError
        No such controller, or a parameter that it does not take; the message lists the valid ones.
    """
    name, _, given = text.partition(":")
    if name not in CONTROLLERS:
        raise ParameterError(f"no controller {name!r}; there are {', '.join(CONTROLLERS)}.")
    parameters: dict[str, float] = {}
    for pair in filter(None, given.split(",")):
        key, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise ParameterError(f"parameters of a controller are written key=number; got {pair!r}.") from None
        parameters[key] = int(number) if number.is_integer() else number
    try:
        controller = CONTROLLERS[name](**parameters)
    except TypeError as error:
        known = _parameters(name)
        if unknown := [key for key in parameters if key not in known]:
            taken = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ParameterError(f"controller {name!r} has no parameter {unknown[0]!r}; {taken}.") from error
        raise ParameterError(f"controller {name!r} does not take {given}: {error}.") from error
    if parameters:
        controller.name = text
    return controller
