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
class Network:
    """Segments in the order of all results; those that no node feeds have an entrance with a point queue."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        names = [segment.name for segment in self.segments]
        if not names:
            raise ParameterError("a network needs at least one segment.")
        if len(set(names)) != len(names):
            raise ParameterError(f"segment names must differ; got {', '.join(names)}.")

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

    Interface i is the left face of cell i. Cells of segment s are first[s] .. last[s]; its boundary interfaces are
    first[s] and last[s] + 1. Ghost cells have inv_dx = 0: they never change by fluxes.
    """

    n: int
    n_ghost: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    cells: NDArray[np.floating]
    """(3, n): 1/dx [1/m] (0 in ghost cells), free speed of m and of c [m/s]."""
    lengths: NDArray[np.floating]
    """(3, S): dx [m], 1/v_free_m, 1/v_free_c [s/m] by segment."""
    segments: NDArray[np.int64]
    """(S, 5): first, last, entrance index or -1, has stop line (0/1), index of the segment."""
    saturation: NDArray[np.floating]
    """(S,): saturation flow [veh/s]."""
    ghosts: NDArray[np.int64]
    """(G, 2): cell to fill, cell to copy."""
    entrances: tuple[int, ...]
    """Segments that have an entrance, in the order of demand arrays."""

    def real_cells(self, segment: int) -> slice:
        """Where the cells of a segment lie in a row."""
        return slice(int(self.first[segment]), int(self.last[segment]) + 1)


def lay_out(network: Network, dtype: np.dtype, n_ghost: int, multiple: int = 8) -> Layout:
    """Flat arrays of a network, each segment between `n_ghost` ghost cells; the row padded to `multiple` cells."""
    first: list[int] = []
    last: list[int] = []
    position = 0
    for segment in network.segments:
        first.append(position + n_ghost)
        last.append(position + n_ghost + segment.n_cells - 1)
        position += segment.n_cells + 2 * n_ghost
    n = -(-position // multiple) * multiple
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
        periodic = segment.ends == "periodic"
        for k in range(1, n_ghost + 1):
            ghosts.append((a - k, b + 1 - k if periodic else a))
            ghosts.append((b + k, a - 1 + k if periodic else b))
        joined = segment.ends == "joined"
        rows.append((a, b, len(entrances) if joined else -1, int(joined), i))
        if joined:
            entrances.append(i)
    return Layout(
        n=n,
        n_ghost=n_ghost,
        first=np.array(first),
        last=np.array(last),
        cells=cells,
        lengths=_segment_rows(network.segments, dtype),
        segments=np.array(rows, np.int64),
        saturation=np.array([s.saturation_flow for s in network.segments], dtype),
        ghosts=np.array(ghosts, np.int64),
        entrances=tuple(entrances),
    )


def _segment_rows(segments: Sequence[Segment], dtype: np.dtype) -> NDArray[np.floating]:
    return np.array(
        [[s.dx for s in segments], [1 / s.v_free_m for s in segments], [1 / s.v_free_c for s in segments]], dtype
    )
