"""The solver: a batch of identical networks, advanced by whole decision intervals."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arz_model.cells import FREE_C, FREE_M, LAMBDA, N_ROWS, N_STRIP_ROWS, Kind, stride_for, strip_stride_for
from arz_model.ends import FREE, N_END_ROWS, SATURATION, width_for
from arz_model.long_road import END_SETS, LONG, SUB_STEPS, make_long_advance
from arz_model.network import Network, lay_out
from arz_model.parameters import CLASSES, ParameterError, Parameters
from arz_model.physics import closure_key, make_closure, parameter_vector
from arz_model.reconstruction import SCHEME, SCHEMES
from arz_model.state import N_TOTALS, Observables, copy_into
from arz_model.step_cpu import make_advance
from arz_model.target import PLAIN

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float64", "float32")
AUTO_CUDA_FROM = 64
CACHE_LINE = 64
"""[bytes]"""
SERIAL_BELOW = 8
"""Batches smaller than this run on the calling thread whatever `n_threads` says."""


class Solver:
    """`n_roads` copies of one network with their own states, demands and signals.

    The time step is fixed before the first step from a bound of all wave speeds that can occur (`wave_max`):
    the longest that makes one second a whole number of sub-steps.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters | None = None,
        *,
        n_roads: int = 1,
        dtype: str = "float64",
        device: str = "auto",
        n_threads: int = 1,
        scheme: str = "hll",
        clamp: bool = False,
        cfl: float = 0.9,
        w_max: float | None = None,
        wave_max: float | None = None,
        dt: float | None = None,
        v_queue: float = 1.4,
    ) -> None:
        if dtype not in DTYPES:
            raise ParameterError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
        if device not in DEVICES:
            raise ParameterError(f"device must be one of {', '.join(DEVICES)}; got {device!r}.")
        if n_roads < 1 or n_threads < 1:
            raise ParameterError(f"n_roads and n_threads must be at least 1; got {n_roads} and {n_threads}.")
        if not 0.0 < cfl <= 1.0:
            raise ParameterError(f"cfl must be in (0, 1]; got {cfl!r}.")
        if scheme not in SCHEMES:
            raise ParameterError(f"scheme must be one of {', '.join(SCHEMES)}; got {scheme!r}.")
        self.network = network
        self.parameters = parameters or Parameters()
        self.n_roads = n_roads
        self.device = choose_device(device, n_roads)
        """cpu or cuda."""
        self.dtype = np.dtype(dtype)
        self.w_max = network.v_free_max if w_max is None else max(w_max, network.v_free_max)
        """Largest w that any state may hold [m/s]."""
        self.wave_max = self.parameters.fastest_wave(self.w_max) if wave_max is None else wave_max
        """Bound of all wave speeds [m/s]; given only where a sharper one than that of the parameters is known."""
        longest = SCHEME[scheme].cfl * network.dx_min / self.wave_max
        self.dt = _divide_a_second(cfl * longest) if dt is None else dt
        """Length of a sub-step [s]."""
        if not 0.0 < self.dt <= longest * (1.0 + 1e-12):
            raise ParameterError(
                f"dt = {self.dt!r} s lets waves of {self.wave_max:g} m/s cross more of a cell of {network.dx_min:g} m "
                f"than scheme {scheme!r} allows; at most {longest:.6g} s."
            )
        _report(self.parameters, network)
        self.layout = lay_out(network, self.dtype, SCHEME[scheme].n_ghost, clamp or scheme != "hll")
        self.time = 0.0
        """Seconds advanced since the start."""
        n_segments, n_entrances = len(network.segments), max(1, len(self.layout.entrances))
        self._q = np.zeros((n_roads, 4, self.layout.n), self.dtype)
        self._waiting = np.zeros((n_roads, n_entrances, 2), self.dtype)
        self._totals = np.zeros((n_roads, n_segments, N_TOTALS), self.dtype)
        self._n_threads = n_threads if n_roads >= SERIAL_BELOW else 1
        self._pool = ThreadPoolExecutor(self._n_threads - 1) if self._n_threads > 1 else None
        layout = self.layout
        self._layout = (
            layout.lengths, layout.segments, layout.ghosts, layout.nodes,
            layout.inlets, layout.outlets, layout.ratios, layout.priorities,
        )  # fmt: skip
        self._par = np.array(parameter_vector(self.parameters, self.w_max), self.dtype)
        p = self.parameters
        decays = [math.exp(-self.dt * part / tau) for part in (1.0, 0.5) for tau in (p.tau_m, p.tau_c)]
        self._rates = np.array([self.dt, *decays, v_queue], self.dtype)
        self._always = np.zeros((n_roads, n_segments, 2), np.int64)
        self._no_arrivals = np.zeros((n_roads, 1, n_entrances, 2), self.dtype)
        joined = any(segment.ends == "joined" for segment in network.segments)
        stride = stride_for(layout.n)
        whole = clamp or self.device == "cuda"
        is_long = scheme == "hll" and n_segments == 1 and joined and layout.n > LONG
        self.kind = Kind(
            closure_key(p), self.dtype.name, scheme, clamp, joined, bool(network.nodes),
            stride, stride if whole else strip_stride_for(scheme, self.dtype.name), width_for(n_segments),
            SUB_STEPS if is_long and not whole else 1,
        )  # fmt: skip
        self._work = [self._work_space() for _ in range(self._n_threads)]
        self._gpu: Any = None
        if self.device == "cuda":
            constant = (*self._layout, self._par, self._rates)
            self._gpu = open_device(self.kind, (self._q, self._waiting), self._totals, self._work[0], constant)
        else:
            self._advance = make_advance(self.kind) if self.kind.sub_steps == 1 else make_long_advance(self.kind)

    def _work_space(self) -> tuple[NDArray[Any], ...]:
        """Flat rows of cells, of a strip for each sub-step of a pass and of road ends, the constant ones filled in."""
        rows = _cache_aligned((N_ROWS[self.kind.scheme], self.kind.stride), self.dtype)
        n = self.layout.n
        rows[LAMBDA, :n] = self.layout.cells[0] * self.dtype.type(self.dt)
        rows[FREE_M, :n], rows[FREE_C, :n] = self.layout.cells[1], self.layout.cells[2]
        sub_steps = self.kind.sub_steps
        ends = _cache_aligned((1 if sub_steps == 1 else END_SETS, N_END_ROWS, self.kind.width), self.dtype)
        ends[:, FREE : FREE + 2] = 1.0
        ends[:, FREE : SATURATION + 1, : len(self.network.segments)] = self.layout.limits
        strip = _cache_aligned((sub_steps, N_STRIP_ROWS[self.kind.scheme], self.kind.strip_stride), self.dtype)
        return rows.reshape(-1), strip.reshape(-1), ends.reshape(-1)

    def n_steps(self, duration: float) -> int:
        """Sub-steps in `duration` seconds, which must be a whole number of them."""
        n = round(duration / self.dt)
        if n < 1 or abs(n * self.dt - duration) > 1e-9 * max(1.0, duration):
            raise ParameterError(f"{duration!r} s is not a whole number of sub-steps of {self.dt!r} s.")
        return n

    def advance(
        self,
        n_steps: int,
        arrivals: NDArray[np.floating] | None = None,
        signals: NDArray[np.int64] | None = None,
    ) -> Observables:
        """Advance every road by `n_steps` sub-steps and measure.

        Parameters
        ----------
        arrivals : (B, P, E, 2), optional
            Flow of m and c that joins each entrance queue in each of P equal pieces of the interval [veh/s]; none
            without it. Entrances are in the order of `layout.entrances`.
        signals : (B, S, 2) int64, optional
            The stop line of each segment is open in sub-steps signals[..., 0] <= k < signals[..., 1]; always open
            without it. A closed stop line has zero flux of all four components.
        """
        if arrivals is None:
            arrivals = self._no_arrivals
        if signals is None:
            signals = self._always
            signals[:, :, 1] = n_steps
        expected = (self.n_roads, arrivals.shape[1] if arrivals.ndim == 4 else 1, *self._waiting.shape[1:])
        if arrivals.shape != expected or arrivals.dtype != self.dtype or arrivals.shape[1] < 1:
            raise ParameterError(f"arrivals must be {self.dtype} of shape (B, P, E, 2) = {expected}.")
        if signals.shape != self._always.shape or signals.dtype != np.int64:
            raise ParameterError(f"signals must be int64 of shape (B, S, 2) = {self._always.shape}.")
        if self._gpu is not None:
            self._gpu.advance(arrivals, signals, n_steps)
        elif self._pool is None:
            self._run(0, 0, self.n_roads, arrivals, signals, n_steps)
        else:
            bounds = [self.n_roads * t // self._n_threads for t in range(self._n_threads + 1)]
            jobs = [
                self._pool.submit(self._run, t, bounds[t], bounds[t + 1], arrivals, signals, n_steps)
                for t in range(1, self._n_threads)
            ]
            self._run(0, bounds[0], bounds[1], arrivals, signals, n_steps)
            for job in jobs:
                job.result()
        self.time += n_steps * self.dt
        return self.measured

    def _run(
        self, thread: int, begin: int, end: int, arrivals: NDArray[Any], signals: NDArray[Any], n_steps: int
    ) -> None:
        self._advance(
            self._q, self._waiting, arrivals, signals, self._totals, *self._work[thread], self._layout,
            self._par, self._rates, n_steps, begin, end,
        )  # fmt: skip

    @property
    def _state(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The state (q, waiting) on the host, brought there if it is on a GPU; then views that cannot be written."""
        if self._gpu is None:
            return self._q, self._waiting
        self._gpu.read()
        q, waiting = self._q.view(), self._waiting.view()
        q.flags.writeable = waiting.flags.writeable = False
        return q, waiting

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """While the state is changed on the host."""
        if self._gpu is not None:
            self._gpu.read()
        yield
        if self._gpu is not None:
            self._gpu.written()

    def density(self, segment: str | int = 0) -> NDArray[np.floating]:
        """Densities (B, 2, n_cells) of m and c on a segment [veh/m]; a view."""
        return self._state[0][:, 0::2, self.layout.real_cells(self._number(segment))]

    def momentum(self, segment: str | int = 0) -> NDArray[np.floating]:
        """y_i = rho_i w_i, (B, 2, n_cells), on a segment [veh/s]; a view."""
        return self._state[0][:, 1::2, self.layout.real_cells(self._number(segment))]

    def driver_property(self, segment: str | int = 0) -> NDArray[np.floating]:
        """w_i = y_i / rho_i, (B, 2, n_cells) [m/s]; the free speed where a class is absent."""
        s = self._number(segment)
        rho, y = self.density(s), self.momentum(s)
        road = self.network.segments[s]
        free = np.array([road.v_free_m, road.v_free_c], self.dtype)[None, :, None]
        absent = rho <= 1e-12
        return np.where(absent, free, y / np.where(absent, 1.0, rho))

    def speed(self, segment: str | int = 0) -> NDArray[np.floating]:
        """v_i, (B, 2, n_cells) [m/s], evaluated cell by cell: for looking, not for loops."""
        rho, w = self.density(segment), self.driver_property(segment)
        closure = make_closure(closure_key(self.parameters), np.float64, PLAIN)
        par = tuple(float(x) for x in self._par)
        numbers = np.frompyfunc(lambda m, c, p, q: closure.speeds(m, c, p, q, par), 4, 2)
        v_m, v_c = numbers(rho[:, 0], rho[:, 1], w[:, 0], w[:, 1])
        return np.stack([v_m, v_c], axis=1).astype(self.dtype)

    def total_density(self) -> NDArray[np.floating]:
        """rho_m + rho_c (B, n) of every cell of the layout, ghost cells included [veh/m]."""
        q, _ = self._state
        return q[:, 0] + q[:, 2]

    @property
    def measured(self) -> Observables:
        """What the last `advance` measured; zeros before the first."""
        return Observables(self._totals.copy())

    @property
    def waiting(self) -> NDArray[np.floating]:
        """Vehicles in the entrance queues, (B, E, 2) [veh]; a view."""
        return self._state[1]

    def vehicles(self) -> NDArray[np.floating]:
        """Vehicles on the roads of each network, entrance queues apart, (B, 2) [veh]."""
        dx = self.layout.lengths[0].astype(np.float64)
        return sum(self.density(s).sum(axis=2, dtype=np.float64) * dx[s] for s in range(len(dx)))

    def set_density(self, segment: str | int, rho_m: ArrayLike, rho_c: ArrayLike, w: ArrayLike | None = None) -> None:
        """Set densities [veh/m] of all roads on a segment; `w` (2,) or (2, n_cells) [m/s], free speeds without it."""
        s = self._number(segment)
        road = self.network.segments[s]
        target = np.empty(self.density(s).shape, self.dtype)
        target[:, 0], target[:, 1] = np.asarray(rho_m), np.asarray(rho_c)
        properties = np.asarray([road.v_free_m, road.v_free_c] if w is None else w, self.dtype)
        if properties.ndim == 1:
            properties = properties[:, None]
        if target.min() < 0.0 or properties.min() < 0.0 or properties.max() > self.w_max * (1.0 + 1e-9):
            raise ParameterError(
                f"densities must not be negative and w must be within 0 and w_max = {self.w_max:g} m/s; "
                f"got density {target.min():g}, w {properties.min():g} to {properties.max():g}."
            )
        cells = self.layout.real_cells(s)
        with self._writing():
            self._q[:, 0::2, cells], self._q[:, 1::2, cells] = target, target * properties

    def clear(self, which: ArrayLike | None = None) -> None:
        """Empty roads and queues; of the networks `which` only, where given. Time zero when all are cleared."""
        networks = np.arange(self.n_roads) if which is None else np.arange(self.n_roads)[np.asarray(which)]
        self._totals[networks] = 0
        if self._gpu is not None and self._gpu.is_current:
            self._gpu.clear(networks)
        else:
            with self._writing():
                self._q[networks] = 0
                self._waiting[networks] = 0
        if which is None:
            self.time = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything that the next sub-step depends on; arrays and numbers only."""
        q, waiting = self._state
        return {"q": q.copy(), "waiting": waiting.copy(), "time": self.time}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state` bit for bit; shapes and types must be those of this solver."""
        with self._writing():
            copy_into({"q": self._q, "waiting": self._waiting}, dict(state))
        self.time = float(state["time"])

    def _number(self, segment: str | int) -> int:
        if isinstance(segment, int):
            return segment
        if segment not in self.network.index:
            raise ParameterError(f"no segment {segment!r}; there are {', '.join(self.network.index)}.")
        return self.network.index[segment]


def _report(parameters: Parameters, network: Network) -> None:
    """Say where the sub-characteristic condition fails, and which jams would be denser than rho_jam."""
    if parameters.closure != "arz":
        return
    free = max(s.v_free_m for s in network.segments), max(s.v_free_c for s in network.segments)
    log.info(
        "closure arz: uniform flow is unstable below occupancies %.2f (m), %.2f (c)", *parameters.stable_from(*free)
    )
    alone = parameters.rho_jam / parameters.a_mm, parameters.rho_jam / parameters.a_cc
    for name, jam, bound in zip(CLASSES, parameters.jam_densities(*free), alone, strict=True):
        if jam > bound * (1.0 + 1e-12):
            log.warning(
                "closure arz: class %s stands at %.3g veh/m, above its jam density of %.3g; give k_%s the free speed",
                name, jam, bound, name,
            )  # fmt: skip


def choose_device(device: str, n_roads: int) -> str:
    """`cpu` or `cuda`; an error if cuda is asked for and there is none.

    `auto` takes the GPU for batches of AUTO_CUDA_FROM roads or more: a launch and its copies cost more than one core
    needs for a few roads.
    """
    if device == "cpu" or (device == "auto" and n_roads < AUTO_CUDA_FROM):
        return "cpu"
    found = cuda_works()
    if device == "cuda" and not found:
        raise ParameterError("device 'cuda' is not available here; ask for 'auto' or 'cpu'.")
    return "cuda" if found else "cpu"


def cuda_works() -> bool:
    """Whether numba finds a CUDA device (or its simulator)."""
    from numba import cuda  # loads the driver: only when a device is asked for

    return bool(cuda.is_available())


def open_device(kind: Kind, *arrays: Any) -> Any:
    """The kernels and arrays of the GPU; their module needs numba's CUDA target."""
    from arz_model.step_cuda import Device

    return Device(kind, *arrays)


def _divide_a_second(limit: float) -> float:
    """The longest step of at most `limit` seconds of which a whole number makes one second (or a whole multiple)."""
    return 1.0 / math.ceil(1.0 / limit * (1.0 - 1e-12))


def _cache_aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros in cache lines of their own: vectors of 64 bytes lie in one, and what another thread writes does not."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + 2 * CACHE_LINE, np.uint8)
    begin = -raw.ctypes.data % CACHE_LINE
    return raw[begin : begin + size].view(dtype).reshape(shape)
