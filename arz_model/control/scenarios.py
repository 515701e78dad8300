"""Scenarios: roads, signal, demand and episode as data, read from TOML.

Units stand in the names of the file's keys; in the program everything is SI. Unknown keys are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arz_model.network import Network, Segment
from arz_model.parameters import ParameterError, Parameters

PER_HOUR = 1.0 / 3600.0
KM_PER_H = 1.0 / 3.6
PER_KM = 1e-3


class ScenarioError(ParameterError):
    """Raised when a scenario cannot be found, holds an unknown key or an impossible value."""


@dataclass(frozen=True)
class Approach:
    """One road towards the signal."""

    segment: Segment
    demand: tuple[tuple[float, float], ...]
    """(time [s], flow [veh/s]) corners of the demand profile; linear between, constant outside."""
    motorcycle_share: float
    """Part of the arrivals that are motorcycles [-]."""

    def flows(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean arrivals (n, 2) of m and c at `times` [veh/s]."""
        corners = np.array(self.demand)
        flow = np.interp(times, corners[:, 0], corners[:, 1])
        return np.stack([flow * self.motorcycle_share, flow * (1.0 - self.motorcycle_share)], axis=1)


@dataclass(frozen=True)
class SignalPlan:
    """Phases and the times that hold for every change, whole seconds."""

    phases: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, segments that are green)."""
    decision_interval: int = 5
    yellow: int = 3
    all_red: int = 2
    min_green: int = 5
    max_green: int = 90


@dataclass(frozen=True)
class ObservationPlan:
    """What an observation resolves."""

    n_bins: int = 10
    bin_length: float = 30.0
    queue_speed: float = 5.0 * KM_PER_H
    entrance_scale: float = 20.0


@dataclass(frozen=True)
class Scenario:
    """Everything that defines an episode but its seed."""

    name: str
    description: str
    parameters: Parameters
    approaches: tuple[Approach, ...]
    signal: SignalPlan
    duration: int
    """Length of an episode [s]."""
    demand_spread: float
    """Each approach's demand is multiplied by a uniform number in 1 -+ this, drawn at reset."""
    delay_scale: float
    """Mean delay per vehicle [s] at which the undiscounted return of an episode is -1."""
    observation: ObservationPlan = field(default_factory=ObservationPlan)

    @property
    def network(self) -> Network:
        """The approaches as a network."""
        return Network(tuple(a.segment for a in self.approaches))

    @cached_property
    def flows_by_second(self) -> NDArray[np.float64]:
        """Mean arrivals (seconds, E, 2) of m and c in each second of an episode, whole intervals of it [veh/s]."""
        seconds = -(-self.duration // self.signal.decision_interval) * self.signal.decision_interval
        return np.stack([a.flows(np.arange(seconds, dtype=np.float64) + 0.5) for a in self.approaches], axis=1)

    def expected_arrivals(self) -> float:
        """Vehicles expected in an episode, all approaches [veh]."""
        return float(self.flows_by_second.sum())


def available() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    folder = files("arz_model") / "scenarios"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load(scenario: str | Path) -> Scenario:
    """Read a scenario by name, or from a TOML file when `scenario` is a path or ends in `.toml`."""
    if isinstance(scenario, Path) or scenario.endswith(".toml"):
        path = Path(scenario)
        if not path.is_file():
            raise ScenarioError(f"no scenario file {str(path)!r}.")
        return parse(path.read_text(encoding="utf-8"), path.stem)
    if scenario not in available():
        raise ScenarioError(f"no scenario {scenario!r}; there are {', '.join(available())}, or a path ending in .toml.")
    return parse((files("arz_model") / "scenarios" / f"{scenario}.toml").read_text(encoding="utf-8"), scenario)


def parse(text: str, name: str) -> Scenario:
    """A scenario from the text of its TOML file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"scenario {name!r} is not valid TOML: {error}") from error
    top = _table(
        document,
        f"scenario {name!r}",
        {"description", "traffic", "approach", "phase", "signal", "episode"},
        {"observation"},
    )
    approaches = tuple(_approach(a, f"approach {i + 1} of {name!r}") for i, a in enumerate(top["approach"]))
    episode = _table(top["episode"], f"[episode] of {name!r}", {"duration_s", "demand_spread", "delay_scale_s"})
    scenario = Scenario(
        name=name,
        description=str(top["description"]),
        parameters=_parameters(top["traffic"], f"[traffic] of {name!r}"),
        approaches=approaches,
        signal=_signal(top["signal"], top["phase"], {a.segment.name for a in approaches}, name),
        duration=_whole(episode, "duration_s", 1),
        demand_spread=float(episode["demand_spread"]),
        delay_scale=float(episode["delay_scale_s"]),
        observation=_observation(top.get("observation", {}), f"[observation] of {name!r}"),
    )
    if not 0.0 <= scenario.demand_spread < 1.0 or not scenario.delay_scale > 0.0:
        raise ScenarioError(f"[episode] of {name!r}: demand_spread must be in [0, 1) and delay_scale_s positive.")
    for a in approaches:
        if a.segment.length < scenario.observation.bin_length:
            raise ScenarioError(f"approach {a.segment.name!r} of {name!r} is shorter than one observation bin.")
    return scenario


def with_times(scenario: Scenario, decision_interval: int | None, duration: int | None) -> Scenario:
    """The same scenario with another decision interval or episode length [s], where given."""
    interval = scenario.signal.decision_interval if decision_interval is None else decision_interval
    length = scenario.duration if duration is None else duration
    checked = {"decision_interval_s": interval, "duration_s": length}
    signal = replace(scenario.signal, decision_interval=_whole(checked, "decision_interval_s", 1))
    if signal.max_green < signal.decision_interval:
        raise ScenarioError(f"decision_interval_s must be at most max_green_s = {signal.max_green}; got {interval}.")
    return replace(scenario, signal=signal, duration=_whole(checked, "duration_s", 1))


def _table(value: Any, where: str, required: Set[str], optional: Set[str] = frozenset()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ScenarioError(f"{where} must be a table; got {value!r}.")
    valid = required | optional
    unknown = sorted(set(value) - valid)
    if unknown:
        raise ScenarioError(f"{where}: unknown key {', '.join(unknown)}; valid keys are {', '.join(sorted(valid))}.")
    missing = sorted(required - set(value))
    if missing:
        raise ScenarioError(f"{where}: missing key {', '.join(missing)}.")
    return value


def _whole(table: Mapping[str, Any], key: str, least: int) -> int:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < least:
        raise ScenarioError(f"{key} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def _parameters(table: Any, where: str) -> Parameters:
    required = {"jam_density_veh_per_km", "car_weight_for_motorcycles", "relaxation_time_m_s", "relaxation_time_c_s"}
    t = _table(table, where, required)
    return Parameters(
        rho_jam=t["jam_density_veh_per_km"] * PER_KM,
        a_mc=float(t["car_weight_for_motorcycles"]),
        tau_m=float(t["relaxation_time_m_s"]),
        tau_c=float(t["relaxation_time_c_s"]),
    )


def _approach(table: Any, where: str) -> Approach:
    required = {
        "name", "length_m", "cell_length_m", "free_speed_m_km_per_h", "free_speed_c_km_per_h",
        "saturation_flow_veh_per_h", "demand_veh_per_h", "motorcycle_share",
    }  # fmt: skip
    t = _table(table, where, required)
    n_cells = t["length_m"] / t["cell_length_m"]
    if abs(n_cells - round(n_cells)) > 1e-9:
        raise ScenarioError(f"{where}: length_m must be a whole number of cell_length_m; got {n_cells:g} cells.")
    corners = t["demand_veh_per_h"]
    if isinstance(corners, (int, float)):
        corners = [[0.0, corners]]
    demand = tuple((float(time), float(flow) * PER_HOUR) for time, flow in corners)
    times = [time for time, _ in demand]
    if not demand or any(flow < 0.0 for _, flow in demand) or times != sorted(set(times)):
        raise ScenarioError(f"{where}: demand_veh_per_h must be a flow, or [time_s, flow] pairs in order of time.")
    if not 0.0 <= t["motorcycle_share"] <= 1.0:
        raise ScenarioError(f"{where}: motorcycle_share must be in [0, 1]; got {t['motorcycle_share']!r}.")
    segment = Segment(
        name=t["name"],
        length=float(t["length_m"]),
        n_cells=round(n_cells),
        v_free_m=t["free_speed_m_km_per_h"] * KM_PER_H,
        v_free_c=t["free_speed_c_km_per_h"] * KM_PER_H,
        saturation_flow=t["saturation_flow_veh_per_h"] * PER_HOUR,
    )
    return Approach(segment, demand, float(t["motorcycle_share"]))


def _signal(table: Any, phases: Any, roads: set[str], name: str) -> SignalPlan:
    keys = {"decision_interval_s", "yellow_s", "all_red_s", "min_green_s", "max_green_s"}
    t = _table(table, f"[signal] of {name!r}", keys)
    plan = SignalPlan(
        phases=tuple(_phase(p, f"phase {i + 1} of {name!r}", roads) for i, p in enumerate(phases)),
        decision_interval=_whole(t, "decision_interval_s", 1),
        yellow=_whole(t, "yellow_s", 0),
        all_red=_whole(t, "all_red_s", 0),
        min_green=_whole(t, "min_green_s", 0),
        max_green=_whole(t, "max_green_s", 1),
    )
    if len(plan.phases) < 2:
        raise ScenarioError(f"scenario {name!r} needs at least two phases; got {len(plan.phases)}.")
    if plan.max_green < max(plan.min_green, plan.decision_interval):
        raise ScenarioError(f"[signal] of {name!r}: max_green_s must be at least min_green_s and decision_interval_s.")
    never = sorted(roads - {road for _, green in plan.phases for road in green})
    if never:
        raise ScenarioError(f"scenario {name!r}: no phase gives green to {', '.join(never)}.")
    return plan


def _phase(table: Any, where: str, roads: set[str]) -> tuple[str, tuple[str, ...]]:
    t = _table(table, where, {"name", "green"})
    unknown = sorted(set(t["green"]) - roads)
    if unknown or not t["green"]:
        raise ScenarioError(
            f"{where}: green must name approaches ({', '.join(sorted(roads))}); got {', '.join(unknown) or 'none'}."
        )
    return str(t["name"]), tuple(t["green"])


def _observation(table: Any, where: str) -> ObservationPlan:
    t = _table(table, where, set(), {"n_bins", "bin_length_m", "queue_speed_km_per_h", "entrance_scale_veh"})
    default = ObservationPlan()
    plan = ObservationPlan(
        n_bins=_whole({"n_bins": default.n_bins, **t}, "n_bins", 1),
        bin_length=float(t.get("bin_length_m", default.bin_length)),
        queue_speed=float(t["queue_speed_km_per_h"]) * KM_PER_H if "queue_speed_km_per_h" in t else default.queue_speed,
        entrance_scale=float(t.get("entrance_scale_veh", default.entrance_scale)),
    )
    if not (plan.bin_length > 0.0 and plan.queue_speed > 0.0 and plan.entrance_scale > 0.0):
        raise ScenarioError(f"{where}: lengths, speeds and scales must be positive.")
    return plan
