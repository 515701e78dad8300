"""Reads SUMO's network and demand files.

Formats: https://sumo.dlr.de/docs/Networks/SUMO_Road_Networks.html and
https://sumo.dlr.de/docs/Definition_of_Vehicles,_Vehicle_Types,_and_Routes.html.
"""

from __future__ import annotations

import gzip
import heapq
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

MOTORCYCLES = {"motorcycle", "moped"}
CARRIED = {"route", "routes", "flow", "vehicle", "trip", "vType", "routeDistribution", "vTypeDistribution"}
"""Elements of a demand file that are read; all others are counted."""


class SumoError(ValueError):
    """Raised when a file is not what SUMO writes, or asks for what cannot be read."""


@dataclass(frozen=True)
class Lane:
    """A lane that cars may use."""

    name: str
    length: float
    """[m]"""
    speed: float
    """[m/s]"""


@dataclass(frozen=True)
class Edge:
    """A one-way road between two junctions."""

    name: str
    start: str
    end: str
    lanes: dict[int, Lane]
    """By SUMO's index, which skips what cars may not use."""

    @property
    def seconds(self) -> float:
        """Travel time at the speed limit [s]."""
        lane = next(iter(self.lanes.values()))
        return lane.length / lane.speed


@dataclass(frozen=True)
class Connection:
    """A way from a lane to a lane over a junction."""

    start: tuple[str, int]
    end: tuple[str, int]
    signal: str | None
    link: int
    """Position in the states of the signal."""


@dataclass(frozen=True)
class Program:
    """The phases of a traffic light."""

    name: str
    phases: tuple[tuple[float, str, float | None, float | None], ...]
    """(duration [s], state, minDur, maxDur)."""


@dataclass
class RoadNetwork:
    """What is kept of a .net.xml."""

    edges: dict[str, Edge]
    connections: list[Connection]
    programs: dict[str, Program]
    left_out: Counter[str] = field(default_factory=Counter)
    """What was seen and not kept."""

    def route(self, start: str, end: str) -> tuple[str, ...]:
        """The fastest way at the speed limits, by edge.

        Raises
        ------
        SumoError
            There is none.
        """
        onward: dict[str, set[str]] = {}
        for connection in self.connections:
            onward.setdefault(connection.start[0], set()).add(connection.end[0])
        queue: list[tuple[float, str, tuple[str, ...]]] = [(0.0, start, (start,))]
        done: set[str] = set()
        while queue:
            seconds, edge, path = heapq.heappop(queue)
            if edge == end:
                return path
            if edge not in done:
                done.add(edge)
                for following in sorted(onward.get(edge, set()) - done):
                    heapq.heappush(queue, (seconds + self.edges[following].seconds, following, (*path, following)))
        raise SumoError(f"no way leads from edge {start!r} to edge {end!r}.")


@dataclass
class Trips:
    """Mean flows over a window of time."""

    begin: float
    end: float
    """[s]"""
    flows: dict[tuple[str, ...], float]
    """Route -> [veh/s]."""
    motorcycle_share: float
    left_out: Counter[str] = field(default_factory=Counter)


def read_network(path: Path) -> RoadNetwork:
    """Edges, connections and traffic lights of a `.net.xml` or `.net.xml.gz`.

    Raises
    ------
    SumoError
        It is no network.
    """
    root = _root(path, "net")
    left_out: Counter[str] = Counter()
    edges: dict[str, Edge] = {}
    for element in root.iter("edge"):
        if element.get("function", "normal") != "normal":
            continue
        lanes = {}
        for lane in element.iter("lane"):
            if _for_cars(lane):
                length, speed = (_number(lane, key, path) for key in ("length", "speed"))
                lanes[int(lane.get("index", 0))] = Lane(lane.get("id", ""), length, speed)
            else:
                left_out["lanes that cars may not use (footpaths, cycle and bus lanes)"] += 1
        if lanes:
            name = element.get("id", "")
            edges[name] = Edge(name, element.get("from", ""), element.get("to", ""), lanes)
    connections = []
    for element in root.iter("connection"):
        ends = [
            (element.get(key, ""), int(element.get(f"{key}Lane", 0)))
            for key in ("from", "to")
        ]  # fmt: skip
        if all(edge in edges and lane in edges[edge].lanes for edge, lane in ends):
            link = int(element.get("linkIndex", -1))
            connections.append(Connection(ends[0], ends[1], element.get("tl"), link))
    programs: dict[str, Program] = {}
    for element in root.iter("tlLogic"):
        phases = tuple(
            (
                _number(phase, "duration", path), phase.get("state", ""),
                _optional(phase, "minDur"), _optional(phase, "maxDur"),
            )
            for phase in element.iter("phase")
        )  # fmt: skip
        if element.get("id", "") in programs:
            left_out["second programs of a traffic light"] += 1
        else:
            programs[element.get("id", "")] = Program(element.get("id", ""), phases)
        if element.get("type", "static") != "static":
            left_out["switching rules of actuated traffic lights"] += 1
        if float(element.get("offset", 0.0)) != 0.0:
            left_out["offsets of traffic lights"] += 1
    for name, what in (("roundabout", "rules of roundabouts"), ("crossing", "pedestrian crossings")):
        left_out[what] += len(list(root.iter(name)))
    left_out["pedestrian crossings"] += sum(edge.get("function") == "crossing" for edge in root.iter("edge"))
    if not edges or not connections:
        raise SumoError(f"{path} has no edge that cars may use, or no connection between edges.")
    return RoadNetwork(edges, connections, programs, +left_out)


def read_trips(paths: list[Path], network: RoadNetwork, begin: float | None = None, end: float | None = None) -> Trips:
    """Mean flow by route over [begin, end): by default the hour that begins with the first departure.

    Raises
    ------
    SumoError
        A file is no demand, names an edge that the network lacks, or nothing departs in the window.
    """
    left_out: Counter[str] = Counter()
    routes: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
    types: dict[str, str] = {}
    departures: list[tuple[float, float, float, list[tuple[float, tuple[str, ...]]], str]] = []
    for path in paths:
        root = _root(path, "routes")
        for element in root:
            if element.tag == "vType":
                types[element.get("id", "")] = element.get("vClass", "passenger")
            elif element.tag in ("route", "routeDistribution"):
                routes[element.get("id", "")] = _choices(element, routes, network, path)
            elif element.tag not in CARRIED:
                left_out[f"<{element.tag}> elements of the demand"] += 1
        for element in root:
            if element.tag in ("flow", "vehicle", "trip"):
                first, last, number = _departures(element, path)
                choices = _ways(element, routes, network, path)
                departures.append((first, last, number, choices, element.get("type", "")))
                left_out["stops of vehicles"] += len(list(element.iter("stop")))
    if not departures:
        raise SumoError(f"{', '.join(map(str, paths))}: no flow, vehicle or trip.")
    start = min(first for first, *_ in departures) if begin is None else begin
    stop = start + 3600.0 if end is None else end
    if not stop > start:
        raise SumoError(f"the window of departures must end after it begins; got {start:g} s to {stop:g} s.")
    flows: dict[tuple[str, ...], float] = {}
    total = motorcycles = 0.0
    for first, last, number, choices, kind in departures:
        share = _overlap(first, last, start, stop)
        arriving = number * share / (stop - start)
        total += arriving
        vehicle_class = types.get(kind, "passenger")
        if vehicle_class in MOTORCYCLES:
            motorcycles += arriving
        elif vehicle_class != "passenger" and arriving > 0.0:
            left_out[f"vehicles of class {vehicle_class}: they count as cars; elements"] += 1
        if share < 1.0:
            left_out["departures outside the window, wholly or in part; elements"] += 1
        for probability, way in choices:
            if len(way) < 2:
                left_out["trips that begin and end on the same edge; elements"] += 1
            elif arriving > 0.0:
                flows[way] = flows.get(way, 0.0) + arriving * probability
    if not flows:
        raise SumoError(f"{', '.join(map(str, paths))}: nothing departs between {start:g} s and {stop:g} s.")
    return Trips(start, stop, flows, motorcycles / total, +left_out)


def _root(path: Path, tag: str) -> ElementTree.Element:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            root = ElementTree.parse(stream).getroot()
    except OSError as error:
        raise SumoError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ElementTree.ParseError as error:
        raise SumoError(f"{path} is not XML: {error}.") from error
    if root.tag not in (tag, "additional") or (tag == "net" and root.tag != "net"):
        raise SumoError(f"{path} should hold <{tag}>; its root is <{root.tag}>.")
    return root


def _number(element: ElementTree.Element, key: str, path: Path) -> float:
    try:
        value = float(element.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SumoError(
            f"{path}: <{element.tag} id={element.get('id')!r}> needs a number {key}; got {element.get(key)!r}."
        )
    return value


def _optional(element: ElementTree.Element, key: str) -> float | None:
    value = element.get(key)
    return None if value is None else float(value)


def _for_cars(lane: ElementTree.Element) -> bool:
    allowed, forbidden = lane.get("allow", "all").split(), lane.get("disallow", "").split()
    return bool({"all", "passenger"} & set(allowed)) and not {"all", "passenger"} & set(forbidden)


def _departures(element: ElementTree.Element, path: Path) -> tuple[float, float, float]:
    """First and last time [s] and number of vehicles."""
    if element.tag != "flow":
        depart = _number(element, "depart", path)
        return depart, depart, 1.0
    first = _number(element, "begin", path) if "begin" in element.attrib else 0.0
    if "number" in element.attrib and "end" not in element.attrib:
        raise SumoError(f"{path}: flow {element.get('id')!r} has a number and no end.")
    last = _number(element, "end", path) if "end" in element.attrib else first + 86400.0
    seconds = last - first
    for key, per_second in (("vehsPerHour", 1.0 / 3600.0), ("perHour", 1.0 / 3600.0), ("probability", 1.0)):
        if key in element.attrib:
            return first, last, _number(element, key, path) * per_second * seconds
    if "number" in element.attrib:
        return first, last, _number(element, "number", path)
    if "period" in element.attrib:
        exponential = re.fullmatch(r"exp\((.+)\)", element.get("period", ""))
        rate = float(exponential[1]) if exponential else 1.0 / _number(element, "period", path)
        return first, last, rate * seconds
    raise SumoError(f"{path}: flow {element.get('id')!r} has no rate; give vehsPerHour, probability, period or number.")


def _overlap(first: float, last: float, start: float, stop: float) -> float:
    if last == first:
        return 1.0 if start <= first < stop else 0.0
    return max(0.0, min(last, stop) - max(first, start)) / (last - first)


def _ways(
    element: ElementTree.Element,
    routes: dict[str, list[tuple[float, tuple[str, ...]]]],
    network: RoadNetwork,
    path: Path,
) -> list[tuple[float, tuple[str, ...]]]:
    name = element.get("route")
    if name is not None:
        if name not in routes:
            raise SumoError(f"{path}: {element.tag} {element.get('id')!r} names route {name!r}, which is not there.")
        return routes[name]
    inner = element.find("route")
    if inner is None:
        inner = element.find("routeDistribution")
    if inner is not None:
        return _choices(inner, routes, network, path)
    ends = [element.get("from"), *element.get("via", "").split(), element.get("to")]
    known = [_known(edge, network, path) for edge in ends]
    way: tuple[str, ...] = (known[0],)
    for start, end in pairwise(known):
        way += network.route(start, end)[1:]
    return [(1.0, way)]


def _choices(
    element: ElementTree.Element,
    routes: dict[str, list[tuple[float, tuple[str, ...]]]],
    network: RoadNetwork,
    path: Path,
) -> list[tuple[float, tuple[str, ...]]]:
    """(probability, edges) of a route or a distribution of routes."""
    if element.tag == "route":
        return [(1.0, tuple(_known(edge, network, path) for edge in element.get("edges", "").split()))]
    weighted = []
    for route in element.iter("route"):
        weight = float(route.get("probability", 1.0))
        ways = routes[route.get("refId", "")] if "refId" in route.attrib else _choices(route, routes, network, path)
        weighted += [(weight * share, way) for share, way in ways]
    if "routes" in element.attrib:
        names = element.get("routes", "").split()
        weights = [float(x) for x in element.get("probabilities", "").split()] or [1.0] * len(names)
        for name, weight in zip(names, weights, strict=True):
            weighted += [(weight * share, way) for share, way in routes[name]]
    total = sum(weight for weight, _ in weighted)
    return [(weight / total, way) for weight, way in weighted]


def _known(edge: str | None, network: RoadNetwork, path: Path) -> str:
    if edge not in network.edges:
        raise SumoError(f"{path} names edge {edge!r}, which the network does not have or which cars may not use.")
    return edge
