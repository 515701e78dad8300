"""Scenarios: roads, junctions, signals, demand and episode as data, read from TOML.

Units stand in the names of the file's keys; in the program everything is SI. Unknown keys are refused.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from arz_model.control.demand import ONE, Demand, Profile, Range, Source
from arz_model.control.observations import KM_PER_H, ObservationPlan
from arz_model.control.signals import SignalPlan
from arz_model.network import Network, Node, Segment
from arz_model.parameters import ParameterError, Parameters

PER_HOUR = 1.0 / 3600.0
PER_KM = 1e-3
FOLDER = files("arz_model") / "scenarios"


class ScenarioError(ParameterError):
    """Raised when a scenario cannot be found, holds an unknown key or an impossible value."""


@dataclass(frozen=True)
class Scenario:
    """Everything that defines an episode but its seed."""

    name: str
    description: str
    parameters: Parameters
    network: Network
    intersections: tuple[SignalPlan, ...]
    sources: tuple[Source, ...]
    """Entrances, in the network's order."""
    motorcycle_share: Range
    profiles: Mapping[str, Profile]
    """Demand profiles by name."""
    profile: str
    """Name of the demand profile in use."""
    decision_interval: int
    """Seconds between two actions."""
    duration: int
    """Length of an episode [s]."""
    delay_scale: float
    """Mean delay per vehicle [s] at which the undiscounted return of an episode is -1."""
    observation: ObservationPlan = field(default_factory=ObservationPlan)
    fixed_time: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Known fixed-time plans by name: seconds of green of each phase of every intersection."""

    @property
    def demand(self) -> Demand:
        """What arrives, for the profile in use; whole decision intervals."""
        seconds = -(-self.duration // self.decision_interval) * self.decision_interval
        return Demand(self.sources, self.motorcycle_share, self.profiles[self.profile], seconds)

    @cached_property
    def expected_arrivals(self) -> float:
        """Vehicles expected in an episode, all entrances [veh]."""
        return float(self.demand.expected_rates().sum()) * self.demand.duration


def available() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in FOLDER.iterdir() if f.name.endswith(".toml")))


def load(scenario: str | Path) -> Scenario:
    """Read a scenario by name, or from a TOML file when `scenario` is a path or ends in `.toml`."""
    if isinstance(scenario, Path) or scenario.endswith(".toml"):
        path = Path(scenario)
        if not path.is_file():
            raise ScenarioError(f"no scenario file {str(path)!r}.")
        return parse(path.read_text(encoding="utf-8"), path.stem)
    if scenario not in available():
        raise ScenarioError(f"no scenario {scenario!r}; there are {', '.join(available())}, or a path ending in .toml.")
    return parse((FOLDER / f"{scenario}.toml").read_text(encoding="utf-8"), scenario)


def parse(text: str, name: str) -> Scenario:
    """A scenario from the text of its TOML file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"scenario {name!r} is not valid TOML: {error}") from error
    required = {"description", "traffic", "road", "intersection", "demand", "episode"}
    top = _table(document, f"scenario {name!r}", required, {"node", "observation", "fixed_time"})
    traffic = _table(
        top["traffic"],
        f"[traffic] of {name!r}",
        {
            "jam_density_veh_per_km", "car_weight_for_motorcycles", "relaxation_time_m_s", "relaxation_time_c_s",
            "motorcycle_share",
        },
    )  # fmt: skip
    roads = [_road(table, f"road {i + 1} of {name!r}") for i, table in enumerate(_tables(top, "road", name))]
    nodes = [_node(table, f"node {i + 1} of {name!r}") for i, table in enumerate(top.get("node", []))]
    try:
        network = Network(tuple(segment for segment, _ in roads), tuple(nodes))
    except ScenarioError:
        raise
    except ParameterError as error:
        raise ScenarioError(f"scenario {name!r}: {error}") from error
    intersections = tuple(
        _intersection(table, f"intersection {i + 1} of {name!r}", network)
        for i, table in enumerate(_tables(top, "intersection", name))
    )
    _check_signals(intersections, network, name)
    profiles = {key: _profile(key, table, name) for key, table in dict(top["demand"]).items()}
    episode = _table(
        top["episode"], f"[episode] of {name!r}", {"duration_s", "decision_interval_s", "demand", "delay_scale_s"}
    )
    share = _range(traffic, "motorcycle_share", f"[traffic] of {name!r}")
    if share[1] > 1.0:
        raise ScenarioError(f"[traffic] of {name!r}: motorcycle_share must be in [0, 1]; got {share[1]:g}.")
    scenario = Scenario(
        name=name,
        description=str(top["description"]),
        parameters=_parameters(traffic),
        network=network,
        intersections=intersections,
        sources=_sources(roads, network, name),
        motorcycle_share=share,
        profiles=profiles,
        profile=str(episode["demand"]),
        decision_interval=_whole(episode, "decision_interval_s", 1),
        duration=_whole(episode, "duration_s", 1),
        delay_scale=_positive(episode, "delay_scale_s", f"[episode] of {name!r}"),
        observation=_observation(top.get("observation", {}), f"[observation] of {name!r}"),
        fixed_time={
            key: _greens(greens, key, intersections, name) for key, greens in top.get("fixed_time", {}).items()
        },
    )
    return choose(scenario)


def choose(
    scenario: Scenario,
    demand: str | None = None,
    decision_interval: int | None = None,
    duration: int | None = None,
) -> Scenario:
    """The same scenario with another demand profile, decision interval or episode length [s], where given."""
    profile = scenario.profile if demand is None else demand
    interval = scenario.decision_interval if decision_interval is None else decision_interval
    length = scenario.duration if duration is None else duration
    if profile not in scenario.profiles:
        known = ", ".join(scenario.profiles)
        raise ScenarioError(f"scenario {scenario.name!r} has no demand {profile!r}; there are {known}.")
    checked = {"decision_interval_s": interval, "duration_s": length}
    interval, length = _whole(checked, "decision_interval_s", 1), _whole(checked, "duration_s", 1)
    longest = min(plan.max_green for plan in scenario.intersections)
    if longest < interval:
        raise ScenarioError(f"decision_interval_s must be at most max_green_s = {longest}; got {interval}.")
    return replace(scenario, profile=profile, decision_interval=interval, duration=length)


def _sources(roads: Sequence[tuple[Segment, Source | None]], network: Network, name: str) -> tuple[Source, ...]:
    fed = {outlet for node in network.nodes for outlet in node.outlets}
    sources = []
    for segment, source in roads:
        if source is None:
            if segment.name not in fed:
                raise ScenarioError(f"scenario {name!r}: road {segment.name!r} is an entrance; give demand_veh_per_h.")
        elif segment.name in fed:
            raise ScenarioError(f"scenario {name!r}: road {segment.name!r} begins at a node; it takes no demand.")
        else:
            sources.append(source)
    return tuple(sources)


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


def _tables(top: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = top[key]
    if not isinstance(value, list) or not value:
        raise ScenarioError(f"scenario {name!r} needs at least one [[{key}]].")
    return value


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ScenarioError(f"{where}: {key} must be a number; got {value!r}.")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, least: int) -> int:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < least:
        raise ScenarioError(f"{key} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def _positive(table: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = _number(table.get(key, default), key, where)
    if not value > 0.0:
        raise ScenarioError(f"{where}: {key} must be positive; got {value!r}.")
    return value


def _range(table: Mapping[str, Any], key: str, where: str, default: Range = ONE) -> Range:
    value = table.get(key, default)
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2:
        raise ScenarioError(f"{where}: {key} must be a number or [least, largest]; got {value!r}.")
    low, high = (_number(x, key, where) for x in pair)
    if not 0.0 <= low <= high:
        raise ScenarioError(f"{where}: {key} must be 0 <= least <= largest; got {value!r}.")
    return low, high


def _parameters(t: Mapping[str, Any]) -> Parameters:
    return Parameters(
        rho_jam=t["jam_density_veh_per_km"] * PER_KM,
        a_mc=float(t["car_weight_for_motorcycles"]),
        tau_m=float(t["relaxation_time_m_s"]),
        tau_c=float(t["relaxation_time_c_s"]),
    )


def _road(table: Any, where: str) -> tuple[Segment, Source | None]:
    required = {"name", "length_m", "cell_length_m", "free_speed_m_km_per_h", "free_speed_c_km_per_h"}
    optional = {"saturation_flow_veh_per_h", "demand_veh_per_h", "demand_factor", "group"}
    t = _table(table, where, required, optional)
    length = _positive(t, "length_m", where)
    n_cells = length / _positive(t, "cell_length_m", where)
    if abs(n_cells - round(n_cells)) > 1e-9:
        raise ScenarioError(f"{where}: length_m must be a whole number of cell_length_m; got {n_cells:g} cells.")
    saturation = t.get("saturation_flow_veh_per_h")
    segment = Segment(
        name=str(t["name"]),
        length=length,
        n_cells=round(n_cells),
        v_free_m=_positive(t, "free_speed_m_km_per_h", where) * KM_PER_H,
        v_free_c=_positive(t, "free_speed_c_km_per_h", where) * KM_PER_H,
        saturation_flow=math.inf if saturation is None else _positive(t, "saturation_flow_veh_per_h", where) * PER_HOUR,
    )
    if "demand_veh_per_h" not in t:
        if "demand_factor" in t or "group" in t:
            raise ScenarioError(f"{where}: demand_factor and group need demand_veh_per_h.")
        return segment, None
    flow = _number(t["demand_veh_per_h"], "demand_veh_per_h", where)
    if flow < 0.0:
        raise ScenarioError(f"{where}: demand_veh_per_h must not be negative; got {flow!r}.")
    source = Source(
        flow * PER_HOUR, _range(t, "demand_factor", where), _whole({"group": t.get("group", 0)}, "group", 0)
    )
    return segment, source


def _node(table: Any, where: str) -> Node:
    t = _table(table, where, {"inlets", "outlets"}, {"turning", "priorities"})
    try:
        return Node(
            inlets=tuple(t["inlets"]),
            outlets=tuple(t["outlets"]),
            turning=tuple(tuple(float(x) for x in row) for row in t.get("turning", ())),
            priorities=tuple(float(x) for x in t.get("priorities", ())),
        )
    except ParameterError as error:
        raise ScenarioError(f"{where}: {error}") from error


def _intersection(table: Any, where: str, network: Network) -> SignalPlan:
    required = {"name", "phase", "yellow_s", "all_red_s", "min_green_s", "max_green_s"}
    t = _table(table, where, required, {"start_up_loss_s", "yellow_use_s"})
    phases = []
    for i, value in enumerate(t["phase"]):
        p = _table(value, f"phase {i + 1} of {where}", {"name", "green"})
        unknown = sorted(set(p["green"]) - set(network.index))
        if unknown or not p["green"]:
            known = ", ".join(network.index)
            raise ScenarioError(
                f"phase {i + 1} of {where}: green must name roads ({known}); got {', '.join(unknown) or 'none'}."
            )
        phases.append((str(p["name"]), tuple(p["green"])))
    plan = SignalPlan(
        name=str(t["name"]),
        phases=tuple(phases),
        yellow=_whole(t, "yellow_s", 0),
        all_red=_whole(t, "all_red_s", 0),
        min_green=_whole(t, "min_green_s", 0),
        max_green=_whole(t, "max_green_s", 1),
        start_up_loss=_number(t.get("start_up_loss_s", 0.0), "start_up_loss_s", where),
        yellow_use=_number(t.get("yellow_use_s", 0.0), "yellow_use_s", where),
    )
    if len(plan.phases) < 2:
        raise ScenarioError(f"{where} needs at least two phases; got {len(plan.phases)}.")
    if plan.max_green < plan.min_green:
        raise ScenarioError(f"{where}: max_green_s must be at least min_green_s.")
    if not (0.0 <= plan.start_up_loss <= plan.min_green and 0.0 <= plan.yellow_use <= plan.intergreen):
        raise ScenarioError(
            f"{where}: start_up_loss_s must be at most min_green_s, and yellow_use_s at most yellow_s + all_red_s."
        )
    return plan


def _check_signals(intersections: Sequence[SignalPlan], network: Network, name: str) -> None:
    """Each controlled road belongs to one intersection; no phase of an intersection opens all of its roads."""
    owners: dict[str, str] = {}
    for plan in intersections:
        roads = {road for _, green in plan.phases for road in green}
        for road in sorted(roads):
            if road in owners:
                raise ScenarioError(
                    f"scenario {name!r}: road {road!r} has signals of both {owners[road]!r} and {plan.name!r}."
                )
            owners[road] = plan.name
            if math.isinf(network.segments[network.index[road]].saturation_flow):
                raise ScenarioError(f"scenario {name!r}: road {road!r} has a signal; give saturation_flow_veh_per_h.")
        for phase, green in plan.phases:
            if set(green) == roads:
                raise ScenarioError(
                    f"scenario {name!r}: phase {phase!r} of {plan.name!r} gives green to every road at once."
                )


def _greens(value: Any, key: str, intersections: Sequence[SignalPlan], name: str) -> tuple[int, ...]:
    where = f"[fixed_time] of {name!r}"
    counts = {len(plan.phases) for plan in intersections}
    if not isinstance(value, list) or counts != {len(value)}:
        raise ScenarioError(f"{where}: {key} must be seconds of green, one for each phase; got {value!r}.")
    return tuple(_whole({key: seconds}, key, 1) for seconds in value)


def _profile(key: str, table: Any, name: str) -> Profile:
    where = f"[demand.{key}] of {name!r}"
    t = _table(
        table, where, {"level"},
        {
            "description", "peak_level", "peak_time_s", "peak_width_s", "swing", "swing_period_s", "wobble",
            "wobble_period_s", "surge_level", "surge_time_s", "surge_duration_s",
        },
    )  # fmt: skip
    swing, wobble = (_number(t.get(k, 0.0), k, where) for k in ("swing", "wobble"))
    if not (0.0 <= swing <= 1.0 and 0.0 <= wobble <= 1.0):
        raise ScenarioError(f"{where}: swing and wobble must be in [0, 1].")
    return Profile(
        name=key,
        description=str(t.get("description", "")),
        level=_range(t, "level", where),
        peak_level=_range(t, "peak_level", where) if "peak_level" in t else None,
        peak_time=_range(t, "peak_time_s", where, (0.0, 0.0)),
        peak_width=_positive(t, "peak_width_s", where, 600.0),
        swing=swing,
        swing_period=_positive(t, "swing_period_s", where, 3600.0),
        wobble=wobble,
        wobble_period=_positive(t, "wobble_period_s", where, 900.0),
        surge_level=_range(t, "surge_level", where) if "surge_level" in t else None,
        surge_time=_range(t, "surge_time_s", where, (0.0, 0.0)),
        surge_duration=_number(t.get("surge_duration_s", 0.0), "surge_duration_s", where),
    )


def _observation(table: Any, where: str) -> ObservationPlan:
    t = _table(table, where, set(), {"n_bins", "bin_length_m", "queue_speed_km_per_h", "entrance_scale_veh"})
    default = ObservationPlan()
    return ObservationPlan(
        n_bins=_whole({"n_bins": default.n_bins, **t}, "n_bins", 1),
        bin_length=_positive(t, "bin_length_m", where, default.bin_length),
        queue_speed=_positive(t, "queue_speed_km_per_h", where, default.queue_speed / KM_PER_H) * KM_PER_H,
        entrance_scale=_positive(t, "entrance_scale_veh", where, default.entrance_scale),
    )
