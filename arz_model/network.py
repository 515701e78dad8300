"""Roads and how they join: what is described, and the flat arrays that kernels read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from arz_model.parameters import ParameterError

ENDS = ("joined", "transmissive", "periodic")
BEGIN = 16
"""First cell that is not a ghost beyond the reach of every loop: 16 numbers of either type are whole vectors."""


@dataclass(frozen=True)
class Segment:
    """A one-way road of constant free speeds."""

    name: str
    """Names it in nodes, signals and results."""
    length: float
    """[m]"""
    n_cells: int
    """Number of cells of equal length."""
    v_free_m: float = 13.9
    """Free speed of motorcycles [m/s]."""
    v_free_c: float = 12.5
    """Free speed of cars [m/s]."""
    saturation_flow: float = math.inf
    """Largest flow over the stop line at its downstream end [veh/s, both classes together]."""
    ends: str = "joined"
    """joined: entrance queue, nodes, stop line, exit; transmissive and periodic serve validation."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.length) and self.length > 0.0 and self.n_cells >= 2):
            raise ParameterError(
                f"segment {self.name!r} needs a positive length and at least 2 cells; "
                f"got length {self.length!r}, n_cells {self.n_cells!r}."
            )
        for name in ("v_free_m", "v_free_c"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ParameterError(f"segment {self.name!r} needs a positive {name}; got {value!r}.")
        if not self.saturation_flow >= 0.0:
            raise ParameterError(f"segment {self.name!r}: saturation_flow is {self.saturation_flow!r}.")
        if self.ends not in ENDS:
            raise ParameterError(f"segment {self.name!r}: ends must be one of {', '.join(ENDS)}; got {self.ends!r}.")

    @property
    def dx(self) -> float:
        """Cell length [m]."""
        return self.length / self.n_cells


@dataclass(frozen=True)
class Node:
    """Where segments join: vehicles of each inlet turn into the outlets by fixed ratios."""

    inlets: tuple[str, ...]
    """Segments that end here."""
    outlets: tuple[str, ...]
    """Segments that begin here."""
    turning: tuple[tuple[float, ...], ...] = ()
    """Part of each inlet's vehicles that turn into each outlet; each row sums to 1. Even shares when not given."""
    priorities: tuple[float, ...] = ()
    """Weights by which inlets share a supply that is too small for all; equal when not given."""

    def __post_init__(self) -> None:
        where = f"node {' + '.join(self.inlets)} -> {' + '.join(self.outlets)}"
        if not self.inlets or not self.outlets:
            raise ParameterError(f"{where} needs at least one inlet and one outlet.")
        for row in self.turning_ratios:
            if len(row) != len(self.outlets) or min(row) < 0.0 or abs(sum(row) - 1.0) > 1e-9:
                raise ParameterError(
                    f"{where}: each row of turning must be {len(self.outlets)} shares of sum 1; got {row}."
                )
        if len(self.turning_ratios) != len(self.inlets):
            raise ParameterError(f"{where}: turning needs {len(self.inlets)} rows; got {len(self.turning_ratios)}.")
        weights = self.inlet_priorities
        if len(weights) != len(self.inlets) or min(weights) <= 0.0 or not math.isfinite(sum(weights)):
            raise ParameterError(f"{where}: priorities must be {len(self.inlets)} positive numbers; got {weights}.")

    @property
    def turning_ratios(self) -> tuple[tuple[float, ...], ...]:
        """The turning ratios, even shares if none were given."""
        return self.turning or ((1.0 / len(self.outlets),) * len(self.outlets),) * len(self.inlets)

    @property
    def inlet_priorities(self) -> tuple[float, ...]:
        """The priorities, equal if none were given."""
        return self.priorities or (1.0,) * len(self.inlets)


@dataclass(frozen=True)
class Network:
    """Segments in the order of all results, and the nodes that join them.

    A segment that no node feeds has an entrance with a point queue; one that feeds no node has a free exit.
    """

    segments: tuple[Segment, ...]
    nodes: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        names = [segment.name for segment in self.segments]
        if not names:
            raise ParameterError("a network needs at least one segment.")
        if len(set(names)) != len(names):
            raise ParameterError(f"segment names must differ; got {', '.join(names)}.")
        for role in ("inlets", "outlets"):
            used: set[str] = set()
            for name in (name for node in self.nodes for name in getattr(node, role)):
                if name not in self.index:
                    raise ParameterError(f"a node names segment {name!r}; there are {', '.join(names)}.")
                if name in used:
                    raise ParameterError(f"segment {name!r} is among the {role} of two nodes.")
                if self.segments[self.index[name]].ends != "joined":
                    raise ParameterError(f"segment {name!r} is joined by a node but its ends are not 'joined'.")
                used.add(name)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each segment by name."""
        return {segment.name: i for i, segment in enumerate(self.segments)}

    @property
    def v_free_max(self) -> float:
        """Largest free speed [m/s]."""
        return max(max(s.v_free_m, s.v_free_c) for s in self.segments)

    @property
    def dx_min(self) -> float:
        """Shortest cell [m]."""
        return min(s.dx for s in self.segments)


@dataclass(frozen=True)
class Layout:
    """A network as flat arrays; all segments lie in one row of `n` cells, each between ghost cells.

    Loops go over cells BEGIN .. n - 1, a multiple of BEGIN: vectors are whole and begin where a cache line does.
    Interface i is the left face of cell i. Cells of segment s are first[s] .. last[s]; its boundary interfaces are
    first[s] and last[s] + 1. Ghost cells have inv_dx = 0: fluxes never change them.
    """

    n: int
    n_ghost: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    cells: NDArray[np.floating]
    """(3, n): 1/dx [1/m] (0 in ghost cells), free speed of m and of c [m/s]."""
    lengths: NDArray[np.floating]
    """(3, S): dx [m], 1/v_free_m, 1/v_free_c [s/m] by segment."""
    limits: NDArray[np.floating]
    """(3, S): v_free_m, v_free_c [m/s], saturation flow [veh/s], 0 where the ends are not joined."""
    segments: NDArray[np.int64]
    """(S, 5): first, last, entrance index or -1, ends joined (0/1), leaves by an exit (0/1)."""
    ghosts: NDArray[np.int64]
    """(G, 2): cell to fill, cell to copy."""
    nodes: NDArray[np.int64]
    """(K, 4): first of inlets, first of outlets, number of outlets, first of ratios."""
    inlets: NDArray[np.int64]
    outlets: NDArray[np.int64]
    """Segments, node by node; -1 ends each node's."""
    ratios: NDArray[np.floating]
    """By node, inlet and outlet."""
    priorities: NDArray[np.floating]
    """Of each of `inlets`."""
    entrances: tuple[int, ...]
    """Segments that have an entrance, in the order of demand arrays."""

    def real_cells(self, segment: int) -> slice:
        """Where the cells of a segment lie in a row."""
        return slice(int(self.first[segment]), int(self.last[segment]) + 1)


def lay_out(network: Network, dtype: np.dtype, n_ghost: int, fill_all: bool) -> Layout:
    """Flat arrays of a network, each segment between `n_ghost` ghost cells, all but the outermost after BEGIN.

    fill_all : whether ghost cells of joined segments are filled too; first order never looks at them.
    """
    first: list[int] = []
    last: list[int] = []
    position = BEGIN - 1
    for segment in network.segments:
        first.append(position + n_ghost)
        last.append(position + n_ghost + segment.n_cells - 1)
        position += segment.n_cells + 2 * n_ghost
    n = -(-position // BEGIN) * BEGIN
    fed = {name for node in network.nodes for name in node.outlets}
    feeding = {name for node in network.nodes for name in node.inlets}
    cells = np.zeros((3, n), dtype)
    cells[1:] = 1.0
    ghosts: list[tuple[int, int]] = []
    rows: list[tuple[int, int, int, int, int]] = []
    entrances: list[int] = []
    for i, segment in enumerate(network.segments):
        a, b = first[i], last[i]
        cells[0, a : b + 1] = 1.0 / segment.dx
        cells[1, a - n_ghost : b + 1 + n_ghost] = segment.v_free_m
        cells[2, a - n_ghost : b + 1 + n_ghost] = segment.v_free_c
        joined = segment.ends == "joined"
        periodic = segment.ends == "periodic"
        if fill_all or not joined:
            for k in range(1, n_ghost + 1):
                ghosts.append((a - k, b + 1 - k if periodic else a))
                ghosts.append((b + k, a - 1 + k if periodic else b))
        has_entrance = joined and segment.name not in fed
        rows.append(
            (a, b, len(entrances) if has_entrance else -1, int(joined), int(joined and segment.name not in feeding))
        )
        if has_entrance:
            entrances.append(i)
    nodes, inlets, outlets, ratios, priorities = _join(network)
    return Layout(
        n=n,
        n_ghost=n_ghost,
        first=np.array(first),
        last=np.array(last),
        cells=cells,
        lengths=_columns([(s.dx, 1 / s.v_free_m, 1 / s.v_free_c) for s in network.segments], dtype),
        limits=_columns(
            [(s.v_free_m, s.v_free_c, s.saturation_flow if s.ends == "joined" else 0.0) for s in network.segments],
            dtype,
        ),
        segments=np.array(rows, np.int64),
        ghosts=np.array(ghosts, np.int64).reshape(-1, 2),
        nodes=np.array(nodes, np.int64).reshape(-1, 4),
        inlets=np.array(inlets, np.int64),
        outlets=np.array(outlets, np.int64),
        ratios=np.array(ratios, dtype),
        priorities=np.array(priorities, dtype),
        entrances=tuple(entrances),
    )


def _columns(rows: Sequence[tuple[float, ...]], dtype: np.dtype) -> NDArray[np.floating]:
    return np.ascontiguousarray(np.array(rows, dtype).T)


def _join(network: Network) -> tuple[list[tuple[int, ...]], list[int], list[int], list[float], list[float]]:
    nodes: list[tuple[int, ...]] = []
    inlets: list[int] = []
    outlets: list[int] = []
    ratios: list[float] = []
    priorities: list[float] = []
    for node in network.nodes:
        nodes.append((len(inlets), len(outlets), len(node.outlets), len(ratios)))
        inlets += [*(network.index[name] for name in node.inlets), -1]
        outlets += [*(network.index[name] for name in node.outlets), -1]
        ratios += [ratio for row in node.turning_ratios for ratio in row]
        priorities += [*node.inlet_priorities, 0.0]
    return nodes, inlets, outlets, ratios, priorities
