"""A scenario from a SUMO network: each lane that a route uses becomes a road, routes become turning ratios."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from arz_model.sumo.files import Program, RoadNetwork, SumoError, Trips, read_network, read_trips

CELL_M = 10.0
JAM_DENSITY_VEH_PER_KM = 180.0
SATURATION_FLOW_VEH_PER_H = 1800.0
FREE_SPEED_SHARE = 0.9
"""Free speed of cars over that of motorcycles, which drive at the limit."""
MIN_GREEN_S, MAX_GREEN_S, YELLOW_S = 5, 120, 3
DECISION_INTERVAL_S = 5

LaneKey = tuple[str, int]

PERMISSIVE = "permissive greens (g): they count as green; states"
STUBS = "edges on which trips begin or end between others: a road of two cells was added; roads"

ALWAYS = (
    "Vehicles: lengths, accelerations, drivers' imperfections and lane changes on the way; a vehicle takes a lane "
    "that suits its next turn where it enters a road.",
    "Single routes: vehicles turn by the mean ratios of all routes; departures: Poisson arrivals with the mean flows "
    "of the window.",
    "Right of way: nobody yields, neither where there is no light nor on a permissive green; inside junctions there is "
    "no way and no time.",
    f"Lengths: rounded to cells of {CELL_M:g} m, two at least.",
    f"Densities: a lane holds {JAM_DENSITY_VEH_PER_KM:g} veh/km at a standstill (SUMO: 133), so that this model's "
    f"linear speed passes {SATURATION_FLOW_VEH_PER_H:g} veh/h over a stop line at 50 km/h, less at lower limits.",
)


@dataclass(frozen=True)
class Imported:
    """A scenario file, and what of the SUMO files it does not carry."""

    text: str
    """TOML, as `arz_model.control.scenarios.load` reads it."""
    not_carried_over: tuple[str, ...]


def import_sumo(
    network: Path, demand: list[Path], *, begin_s: float | None = None, end_s: float | None = None
) -> Imported:
    """Translate a `.net.xml` and its routes or trips, averaged over the departures in [begin_s, end_s).

    By default the window is the hour that begins with the first departure.

    Raises
    ------
    SumoError
        A file cannot be used, or no traffic light has two different green phases; the message says which and why.
    """
    roads = read_network(network)
    trips = read_trips(demand, roads, begin_s, end_s)
    flows = _Flows(roads, trips)
    signals, counted = _signals(roads, flows)
    if not signals:
        raise SumoError(f"{network} has no traffic light with at least two different green phases on routes in use.")
    left_out = roads.left_out + trips.left_out + counted + flows.counted
    notes = (*ALWAYS, *(f"{what}: {n}." for what, n in sorted(left_out.items())))
    source = f"{network.name}, {', '.join(path.name for path in demand)}"
    return Imported("\n".join(_lines(source, roads, trips, flows, signals, notes)) + "\n", notes)


class _Flows:
    """How much turns from where to where [veh/s]; an edge in the middle of which trips begin or end gets a stub."""

    def __init__(self, roads: RoadNetwork, trips: Trips) -> None:
        entered = {edge for way in trips.flows for edge in way[1:]}
        left = {edge for way in trips.flows for edge in way[:-1]}
        self.turns: defaultdict[tuple[str, str], float] = defaultdict(float)
        """(edge, edge) -> flow."""
        self.arriving: defaultdict[str, float] = defaultdict(float)
        """Edge that begins a way -> flow."""
        self.stubs: dict[str, str] = {}
        """Name of a stub -> its edge."""
        self.counted: Counter[str] = Counter()
        self._ways: dict[tuple[str, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for connection in roads.connections:
            (a, k), (b, m) = connection.start, connection.end
            self._ways[a, b][k].append(m)
        for way, flow in trips.flows.items():
            for a, b in pairwise(way):
                if not self._ways[a, b]:
                    raise SumoError(
                        f"a route goes from edge {a!r} to {b!r}, and no lane that cars may use leads there."
                    )
            path = list(way)
            if way[0] in entered:
                path.insert(0, f"{way[0]} start")
                self.stubs[path[0]] = way[0]
            if way[-1] in left:
                path.append(f"{way[-1]} end")
                self.stubs[path[-1]] = way[-1]
            self.arriving[path[0]] += flow
            for turn in pairwise(path):
                self.turns[turn] += flow
        self.counted[STUBS] = len(self.stubs)
        self.onward: dict[str, list[str]] = defaultdict(list)
        for a, b in self.turns:
            self.onward[a].append(b)
        self.lanes: dict[LaneKey, float] = {}
        """Lane -> flow, for lanes in use."""
        for (a, b), flow in self.turns.items():
            starts = self._starts(a, b, roads)
            for k in starts:
                self.lanes[a, k] = self.lanes.get((a, k), 0.0) + flow / len(starts)
            if b not in self.onward:
                ends = sorted({m for k in starts for m in self._ways[a, b].get(k, [0])}) if b not in self.stubs else [0]
                for m in ends:
                    self.lanes[b, m] = self.lanes.get((b, m), 0.0) + flow / len(ends)

    def _starts(self, a: str, b: str, roads: RoadNetwork) -> list[int]:
        """Lanes of a from which one turns into b."""
        if a in self.stubs:
            return [0]
        return sorted(roads.edges[a].lanes) if b in self.stubs else sorted(self._ways[a, b])

    def turning(self, a: str, k: int, roads: RoadNetwork) -> dict[LaneKey, float]:
        """Lane -> share of what leaves lane k of a; the shares' sum is 1."""
        shares: dict[LaneKey, float] = {}
        for b in self.onward[a]:
            starts = self._starts(a, b, roads)
            if k not in starts:
                continue
            flow = self.turns[a, b] / len(starts) / self.lanes[a, k]
            if b in self.onward or b in self.stubs:
                into = {(c, m): q for (c, m), q in self.lanes.items() if c == b}
            else:
                into = {(b, m): 1.0 for m in self._ways[a, b][k]}
            total = sum(into.values())
            for lane, q in into.items():
                shares[lane] = shares.get(lane, 0.0) + flow * q / total
        return shares

    def main_turn(self, a: str, k: int, roads: RoadNetwork) -> str | None:
        """The edge into which most of a lane turns; None for stubs and exits."""
        turns = {
            b: self.turns[a, b] / len(self._starts(a, b, roads))
            for b in self.onward.get(a, [])
            if b not in self.stubs and k in self._starts(a, b, roads)
        }
        return max(turns, key=turns.__getitem__) if turns else None


@dataclass(frozen=True)
class _Signal:
    name: str
    phases: tuple[tuple[int, frozenset[LaneKey]], ...]
    """(seconds of green, lanes) of each."""
    yellow: int
    all_red: int
    min_green: int
    max_green: int


def _signals(roads: RoadNetwork, flows: _Flows) -> tuple[list[_Signal], Counter[str]]:
    counted: Counter[str] = Counter()
    links: dict[str, dict[LaneKey, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for connection in roads.connections:
        if connection.signal is not None and connection.start in flows.lanes:
            links[connection.signal][connection.start].setdefault(connection.end[0], connection.link)
    signals = []
    for name, program in roads.programs.items():
        main = {
            lane: by_edge[turn]
            for lane, by_edge in links[name].items()
            if (turn := flows.main_turn(*lane, roads)) is not None and turn in by_edge
        }
        greens = [(duration, state) for duration, state, *_ in program.phases if _is_green(state)]
        for lane, by_edge in links[name].items():
            used = [link for edge, link in by_edge.items() if flows.turns.get((lane[0], edge), 0.0) > 0.0]
            counted[PERMISSIVE] += sum(state[link] == "g" for _, state in greens for link in used)
            if any(len({state[link] in "Gg" for link in used}) > 1 for _, state in greens):
                counted["lanes whose turns have different greens: green with the larger turn; lanes"] += 1
        signal = _signal(program, main, greens)
        if signal is None:
            counted["traffic lights without two different green phases: always green; lights"] += 1
        else:
            signals.append(signal)
    return signals, +counted


def _is_green(state: str) -> bool:
    return "y" not in state.lower() and any(light in "Gg" for light in state)


def _signal(program: Program, main: dict[LaneKey, int], greens: list[tuple[float, str]]) -> _Signal | None:
    open_in = [frozenset(lane for lane, link in main.items() if state[link] in "Gg") for _, state in greens]
    always = frozenset.intersection(*open_in) if open_in else frozenset()
    phases: dict[frozenset[LaneKey], int] = {}
    for lanes, (duration, _) in zip(open_in, greens, strict=True):
        if lanes - always:
            phases[lanes - always] = phases.get(lanes - always, 0) + round(duration)
    if len(phases) < 2 or any(lanes == frozenset().union(*phases) for lanes in phases):
        return None
    yellow = [duration for duration, state, *_ in program.phases if "y" in state.lower()]
    all_red = [duration for duration, state, *_ in program.phases if not set(state.lower()) & {"g", "y"}]
    shortest = [least for *_, least, _ in program.phases if least is not None]
    longest = [most for *_, most in program.phases if most is not None]
    min_green = round(min(shortest, default=MIN_GREEN_S))
    return _Signal(
        program.name,
        tuple((seconds, lanes) for lanes, seconds in phases.items()),
        yellow=round(median(yellow)) if yellow else YELLOW_S,
        all_red=round(median(all_red)) if all_red else 0,
        min_green=min_green,
        max_green=max(round(max(longest, default=MAX_GREEN_S)), min_green, DECISION_INTERVAL_S),
    )


def _lines(
    source: str, roads: RoadNetwork, trips: Trips, flows: _Flows, signals: list[_Signal], notes: tuple[str, ...]
) -> list[str]:
    seconds = round(trips.end - trips.begin)
    lines = [f"# Imported from {source}. Not carried over:", *(f"# - {note}" for note in notes)]
    lines += [f"description = {_quoted(f'Imported from SUMO: {source}.')}", "", "[traffic]"]
    lines += [f"jam_density_veh_per_km = {JAM_DENSITY_VEH_PER_KM}", "car_weight_for_motorcycles = 0.4"]
    lines += ["relaxation_time_m_s = 5.0", "relaxation_time_c_s = 10.0"]
    lines += [f"motorcycle_share = {trips.motorcycle_share:.4g}"]
    controlled = {lane for signal in signals for _, lanes in signal.phases for lane in lanes}
    for lane, flow in flows.lanes.items():
        lines += ["", *_road(lane, flow, roads, flows, lane in controlled)]
    lines += _nodes(roads, flows)
    for signal in signals:
        lines += ["", "[[intersection]]", f"name = {_quoted(signal.name)}", f"yellow_s = {signal.yellow}"]
        lines += [f"all_red_s = {signal.all_red}", f"min_green_s = {signal.min_green}"]
        lines += [f"max_green_s = {signal.max_green}"]
        for i, (_, lanes) in enumerate(signal.phases):
            green = ", ".join(_quoted(_name(lane, roads)) for lane in sorted(lanes))
            lines += ["", "[[intersection.phase]]", f'name = "phase {i + 1}"', f"green = [{green}]"]
    window = f"mean flows of the departures between {trips.begin:g} s and {trips.end:g} s"
    lines += ["", "[demand.imported]", f"description = {_quoted(window)}", "level = 1.0"]
    lines += ["", "[episode]", f"duration_s = {seconds}", f"decision_interval_s = {DECISION_INTERVAL_S}"]
    lines += ['demand = "imported"', "delay_scale_s = 30.0"]
    if len(signals) == 1 and all(green > 0 for green, _ in signals[0].phases):
        lines += ["", "[fixed_time]", f"sumo = {[green for green, _ in signals[0].phases]}"]
    return lines


def _road(lane: LaneKey, flow: float, roads: RoadNetwork, flows: _Flows, controlled: bool) -> list[str]:
    edge, index = lane
    own = roads.edges[flows.stubs.get(edge, edge)].lanes
    sumo_lane = own[index] if edge not in flows.stubs else next(iter(own.values()))
    n_cells = 2 if edge in flows.stubs else max(2, round(sumo_lane.length / CELL_M))
    speed = sumo_lane.speed * 3.6
    lines = ["[[road]]", f"name = {_quoted(_name(lane, roads))}", f"length_m = {n_cells * CELL_M}"]
    lines += [f"cell_length_m = {CELL_M}", f"free_speed_m_km_per_h = {speed:.6g}"]
    lines += [f"free_speed_c_km_per_h = {speed * FREE_SPEED_SHARE:.6g}"]
    if controlled:
        capacity = 0.25 * JAM_DENSITY_VEH_PER_KM * speed * FREE_SPEED_SHARE  # of a speed that falls linearly
        lines += [f"saturation_flow_veh_per_h = {min(SATURATION_FLOW_VEH_PER_H, 0.9 * capacity):.6g}"]
    if edge in flows.arriving:
        share = flow / sum(q for (other, _), q in flows.lanes.items() if other == edge)
        lines += [f"demand_veh_per_h = {flows.arriving[edge] * share * 3600.0:.6g}"]
    return lines


def _nodes(roads: RoadNetwork, flows: _Flows) -> list[str]:
    inlets: dict[str, list[LaneKey]] = defaultdict(list)
    for lane in flows.lanes:
        edge = lane[0]
        if edge in flows.onward:
            begins = edge in flows.stubs
            inlets[roads.edges[flows.stubs[edge]].start if begins else roads.edges[edge].end].append(lane)
    lines = []
    for lanes in inlets.values():
        rows = [flows.turning(*lane, roads) for lane in lanes]
        outlets = sorted({outlet for row in rows for outlet in row})
        turning = [[row.get(outlet, 0.0) for outlet in outlets] for row in rows]
        lines += ["", "[[node]]"]
        lines += [f"inlets = [{', '.join(_quoted(_name(lane, roads)) for lane in lanes)}]"]
        lines += [f"outlets = [{', '.join(_quoted(_name(lane, roads)) for lane in outlets)}]"]
        lines += ["turning = [", *(f"    {[round(x, 12) for x in row]}," for row in turning), "]"]
    return lines


def _name(lane: LaneKey, roads: RoadNetwork) -> str:
    edge, index = lane
    return roads.edges[edge].lanes[index].name if edge in roads.edges else edge


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
