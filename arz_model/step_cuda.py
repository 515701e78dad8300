"""The fused time loop on the GPU: one block a road, every sub-step of a decision interval in one launch.

The functions of cells, faces and road ends are those of the CPU; here a thread takes every blockDim-th of them. Loops
over all cells are parted by block barriers; nothing leaves the device between sub-steps.
"""

# mypy: disable-error-code="arg-type,call-arg,call-overload,index"
# (numba types its CUDA built-ins as plain functions)
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import cuda
from numba.core import config

from arz_model.cells import BEFORE, QUEUE_C, QUEUE_M, START_C, START_M, Kind, make_cells
from arz_model.ends import ARRIVING, N_SUMS, QUEUE, QUEUE_BEFORE, SUMS, make_ends
from arz_model.junction import make_junction
from arz_model.network import BEGIN
from arz_model.reconstruction import SCHEME
from arz_model.target import Target, fma_of_scalars

THREADS = 128
"""Threads of a block: of one road."""


def compile_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar function for the GPU."""
    return cuda.jit(device=True, inline="always")(function)


@compile_device
def fma(x, y, z):
    """x y + z, rounded once."""
    return cuda.fma(x, y, z)


TARGET = Target(compile_device, fma_of_scalars if config.ENABLE_CUDASIM else fma)  # type: ignore[attr-defined]
"""The GPU; numba's simulator of it rounds twice in its own `fma`."""


def make_kernel(kind: Kind) -> Callable[..., None]:
    """The Python function of the kernel of one kind, for `cuda.jit` or for `cuda.compile_ptx`."""
    dtype = np.dtype(kind.dtype).type
    cells = make_cells(kind, TARGET, np.uint64)
    refresh, ends_of_cell, flux, update = cells.refresh, cells.ends_of_cell, cells.flux, cells.update
    relax, clamp, renew, renew_stage = cells.relax, cells.clamp, cells.renew, cells.renew_stage
    fill = cells.fill
    look, demand, admit, put, count = make_ends(kind, TARGET, np.uint64)
    mix, join, press = make_junction(kind.width, dtype, TARGET, np.uint64)
    zero, two = dtype(0), dtype(2)
    stride, scheme = kind.stride, SCHEME[kind.scheme]
    first_order, clamped = kind.scheme == "hll", kind.clamp
    has_ends, has_nodes = kind.joined, kind.nodes
    n_stages, inner, n_sums, n_classes = len(scheme.keep), np.uint64(BEGIN), N_SUMS, np.uint64(2)
    keeps = tuple(dtype(x) for x in scheme.keep)
    flux_weights = tuple(dtype(x) for x in scheme.flux_weight)
    before_0 = np.uint64(BEFORE * stride)
    start_m, start_c, queue_m, queue_c = (np.uint64(k * stride) for k in (START_M, START_C, QUEUE_M, QUEUE_C))
    rho_c, state_size = np.uint64(2 * stride), np.uint64(4 * stride)
    state_rows = tuple(np.uint64(k * stride) for k in range(4))
    width, vehicles_m, vehicles_c, inflow_m, inflow_c = (
        np.uint64(k * kind.width) for k in (1, SUMS, SUMS + 1, SUMS + 2, SUMS + 3)
    )
    waiting_m, waiting_c, arriving_m, arriving_c, before_m, before_c = (
        np.uint64((k + c) * kind.width) for k in (QUEUE, ARRIVING, QUEUE_BEFORE) for c in range(2)
    )

    @compile_device
    def measure_segment(u, s, end_rows, lengths, segments, total, dt):
        """Sums over sub-steps to integrals, one segment; the same sums in the same order as on the CPU."""
        dx, begin, end = lengths[0, s], segments[s, 0], segments[s, 1] + 1
        crossed_m = end_rows[inflow_m + s] * dt
        crossed_c = end_rows[inflow_c + s] * dt
        far_m = far_c = zero
        for column in range(4):
            total[s, column] = zero
        for k in range(n_sums):
            total[s, 4 + k] = end_rows[vehicles_m + np.uint64(k) * width + s]
        for i in range(np.uint64(begin), np.uint64(end)):
            total[s, 2] += u[queue_m + i]
            total[s, 3] += u[queue_c + i]
            before_m, before_c = crossed_m, crossed_c
            crossed_m = crossed_m - dx * (u[i] - u[start_m + i])
            crossed_c = crossed_c - dx * (u[rho_c + i] - u[start_c + i])
            far_m += before_m + crossed_m
            far_c += before_c + crossed_c
        total[s, 2] *= dx
        total[s, 3] *= dx
        for column in range(2, 14):
            total[s, column] *= dt
        total[s, 14], total[s, 15] = total[s, 4], total[s, 5]
        if segments[s, 3] == 1:
            total[s, 0] = total[s, 4] - lengths[1, s] * (far_m * dx / two)
            total[s, 1] = total[s, 5] - lengths[2, s] * (far_c * dx / two)

    def advance(
        q, waiting, arrivals, signals, totals, rows, strips, ends, lengths, segments, ghosts, nodes, inlets, outlets,
        ratios, priorities, par_array, rates, n_steps,
    ):  # fmt: skip
        """Advance road blockIdx.x by n_steps sub-steps; arguments as for step_cpu, work space with a leading B.

        rows : (B, rows x stride). strips : (B, rows x stride); a strip holds all cells. ends : (B, rows x width).
        One block a road, any number of threads.
        """
        road, lane, lanes = np.uint64(cuda.blockIdx.x), np.uint64(cuda.threadIdx.x), np.uint64(cuda.blockDim.x)
        par = (
            par_array[0], par_array[1], par_array[2], par_array[3], par_array[4], par_array[5], par_array[6],
        )  # fmt: skip
        n, n_segments = np.uint64(q.shape[2]), np.uint64(segments.shape[0])
        n_ghosts, n_nodes, n_pieces = np.uint64(ghosts.shape[0]), np.uint64(nodes.shape[0]), arrivals.shape[1]
        two_nodes = n_classes * n_nodes
        u, strip, end_rows, total, windows = rows[road], strips[road], ends[road], totals[road], signals[road]
        for i in range(lane, n, lanes):
            for k in range(4):
                u[state_rows[k] + i] = q[road, k, i]
            u[start_m + i], u[start_c + i] = u[i], u[rho_c + i]
            u[queue_m + i] = zero
            u[queue_c + i] = zero
            if not first_order:
                relax(u, i, rates[3], rates[4], par)
            refresh(u, i, rates[5], par)
        cuda.syncthreads()
        for s in range(lane, n_segments, lanes):
            for k in range(n_sums):
                end_rows[vehicles_m + np.uint64(k) * width + s] = zero
            for i in range(np.uint64(segments[s, 0]), np.uint64(segments[s, 1] + 1)):
                end_rows[vehicles_m + s] += u[start_m + i]
                end_rows[vehicles_c + s] += u[start_c + i]
            end_rows[vehicles_m + s] *= lengths[0, s] * dtype(n_steps)
            end_rows[vehicles_c + s] *= lengths[0, s] * dtype(n_steps)
            e = segments[s, 2]
            if e >= 0:
                end_rows[waiting_m + s], end_rows[waiting_c + s] = waiting[road, e, 0], waiting[road, e, 1]
        for g in range(lane, n_ghosts, lanes):
            fill(u, ghosts, g)
        cuda.syncthreads()
        for k in range(n_steps):
            piece = k * n_pieces // n_steps
            if not first_order:
                for i in range(lane, state_size, lanes):
                    u[before_0 + i] = u[i]
                for s in range(lane, n_segments, lanes):
                    end_rows[before_m + s], end_rows[before_c + s] = end_rows[waiting_m + s], end_rows[waiting_c + s]
                cuda.syncthreads()
            for stage in range(n_stages):
                keep, weight = keeps[stage], flux_weights[stage]
                last_stage = stage == n_stages - 1
                if has_ends:
                    for s in range(lane, n_segments, lanes):
                        e = segments[s, 2]
                        if e >= 0:
                            end_rows[arriving_m + s] = arrivals[road, piece, e, 0]
                            end_rows[arriving_c + s] = arrivals[road, piece, e, 1]
                        look(u, s, k, end_rows, segments, windows)
                        demand(end_rows, s, rates[0], par)
                    if has_nodes:
                        cuda.syncthreads()
                        for item in range(lane, two_nodes, lanes):
                            node, c = item // n_classes, item % n_classes
                            mix(node, c, end_rows, nodes, inlets, outlets, ratios)
                        cuda.syncthreads()
                    for s in range(lane, n_segments, lanes):
                        admit(end_rows, s, par)
                    if has_nodes:
                        cuda.syncthreads()
                        for item in range(lane, two_nodes, lanes):
                            node, c = item // n_classes, item % n_classes
                            join(node, c, end_rows, nodes, inlets, outlets, ratios, priorities)
                if not first_order:
                    for i in range(lane + inner, n, lanes):
                        ends_of_cell(u, strip, i, i, par)
                    cuda.syncthreads()
                for i in range(lane + inner, n, lanes):
                    flux(u, strip, i, i)
                cuda.syncthreads()
                if has_ends:
                    for s in range(lane, n_segments, lanes):
                        if segments[s, 3] == 1:
                            for downstream in range(2):
                                put(strip, s, end_rows, segments, downstream, 0)
                        count(end_rows, s, rates[0], keep, weight, dtype(n_steps - 1 - k))
                    cuda.syncthreads()
                if clamped:
                    for i in range(lane + inner, n, lanes):
                        update(u, strip, i, i, keep)
                    cuda.syncthreads()
                    for s in range(lane, n_segments, lanes):
                        apart = segments[s, 3]
                        for i in range(np.uint64(segments[s, 0] + apart), np.uint64(segments[s, 1] + 1 - apart)):
                            clamp(u, i, par)
                    cuda.syncthreads()
                last_step = k == n_steps - 1
                half = last_step and not first_order
                decay_m, decay_c = rates[3 if half else 1], rates[4 if half else 2]
                slow = zero if last_step else rates[5]
                for i in range(lane + inner, n, lanes):
                    if clamped:
                        if last_stage:
                            relax(u, i, decay_m, decay_c, par)
                        refresh(u, i, slow if last_stage else zero, par)
                    elif last_stage:
                        renew(u, strip, i, i, keep, decay_m, decay_c, slow, par)
                    else:
                        renew_stage(u, strip, i, i, keep, par)
                cuda.syncthreads()
                for g in range(lane, n_ghosts, lanes):
                    fill(u, ghosts, g)
                cuda.syncthreads()
        for s in range(lane, n_segments, lanes):
            measure_segment(u, s, end_rows, lengths, segments, total, rates[0])
            e = segments[s, 2]
            if e >= 0:
                waiting[road, e, 0], waiting[road, e, 1] = end_rows[waiting_m + s], end_rows[waiting_c + s]
        if has_nodes:
            cuda.syncthreads()
            for node in range(lane, n_nodes, lanes):
                press(node, total, nodes, inlets, outlets, ratios)
        for i in range(lane, n, lanes):
            for k in range(4):
                q[road, k, i] = u[state_rows[k] + i]

    return advance


@cache
def make_advance(kind: Kind) -> Callable[..., None]:
    """The compiled kernel of one kind; launch it as advance[n_roads, threads]."""
    most = max_registers(kind, compute_capability())
    return cuda.jit(make_kernel(kind), **({"max_registers": most} if most else {}))


def max_registers(kind: Kind, arch: tuple[int, int]) -> int | None:
    """Registers a thread that the assembler is held to: only where it then spills nothing (see benchmarks.ptx).

    None for what is older than the P100, as numba's simulator says it is, and there with nodes.
    """
    if arch < (6, 0) or (arch < (7, 0) and kind.nodes):
        return None
    return 64 if kind.dtype == "float32" else 96


def compute_capability() -> tuple[int, int]:
    """That of the first GPU; all of one machine are alike."""
    major, minor = cuda.gpus[0].compute_capability
    return int(major), int(minor)


def signature(kind: Kind) -> Any:
    """Types of the kernel's arguments, all arrays C-contiguous."""
    from numba import float32, float64, int64, void

    f = float32 if kind.dtype == "float32" else float64
    one, two, three, four = f[::1], f[:, ::1], f[:, :, ::1], f[:, :, :, ::1]
    i1, i2, i3 = int64[::1], int64[:, ::1], int64[:, :, ::1]
    return void(
        three, three, four, i3, three, two, two, two, two, i2, i2, i2, i1, i1, one, one, one, one, int64
    )  # fmt: skip


@cuda.jit
def clear_roads(roads, q, waiting, totals):
    """Zero the roads listed in `roads`; block b clears road roads[b]."""
    road, lane, lanes = roads[cuda.blockIdx.x], cuda.threadIdx.x, cuda.blockDim.x
    for i in range(lane, q.shape[2], lanes):
        for k in range(4):
            q[road, k, i] = 0
    for i in range(lane, waiting.shape[1], lanes):
        waiting[road, i, 0] = waiting[road, i, 1] = 0
    for s in range(lane, totals.shape[1], lanes):
        for column in range(totals.shape[2]):
            totals[road, s, column] = 0


class Device:
    """The arrays of a batch on the GPU; what `Solver` calls in place of the CPU kernel.

    The state lives on the device. It is copied up before a launch only after the host changed it (`written`), and down
    only when the host asks (`read`); a call of `advance` takes arrivals and signals up and the observables down.
    """

    def __init__(
        self, kind: Kind, state: tuple[Any, Any], totals: Any, work: tuple[Any, ...], constant: tuple[Any, ...]
    ) -> None:
        """`state` (q, waiting) and `totals` of the host are kept as the other side of every copy."""
        self._kernel, self._threads, self._n_roads = make_advance(kind), THREADS, state[0].shape[0]
        self._host, self._totals_host = state, totals
        self._state = tuple(cuda.to_device(a) for a in state)
        self._totals = cuda.to_device(totals)
        self._constant = tuple(cuda.to_device(a) for a in constant)
        self._work = tuple(
            cuda.to_device(np.ascontiguousarray(np.broadcast_to(a, (self._n_roads, *a.shape)))) for a in work
        )
        self._inputs: tuple[Any, ...] = ()
        self._host_is_newer = self._device_is_newer = False

    def advance(self, arrivals: Any, signals: Any, n_steps: int) -> None:
        """One launch for the whole batch; then the observables are those of the host's `totals`."""
        if self._host_is_newer:
            for on_device, on_host in zip(self._state, self._host, strict=True):
                on_device.copy_to_device(on_host)
            self._host_is_newer = False
        if self._inputs and self._inputs[0].shape == arrivals.shape:
            self._inputs[0].copy_to_device(np.ascontiguousarray(arrivals))
            self._inputs[1].copy_to_device(np.ascontiguousarray(signals))
        else:
            self._inputs = tuple(cuda.to_device(np.ascontiguousarray(a)) for a in (arrivals, signals))
        self._kernel[self._n_roads, self._threads](
            *self._state, *self._inputs, self._totals, *self._work, *self._constant, n_steps
        )
        self._device_is_newer = True
        self._totals.copy_to_host(self._totals_host)

    def clear(self, roads: Any) -> None:
        """Empty some roads where they are, on the device; the host's copy is then older."""
        if self._host_is_newer:
            raise RuntimeError("the state on the host is newer: clear it there.")
        if len(roads):
            clear_roads[len(roads), self._threads](cuda.to_device(roads), *self._state, self._totals)
            self._device_is_newer = True

    @property
    def is_current(self) -> bool:
        """Whether the device holds the latest state."""
        return not self._host_is_newer

    def read(self) -> None:
        """Bring the host's state up to date."""
        if self._device_is_newer:
            for on_device, on_host in zip(self._state, self._host, strict=True):
                on_device.copy_to_host(on_host)
            self._device_is_newer = False

    def written(self) -> None:
        """The host has changed its state, which was up to date: copy it up before the next launch."""
        self._host_is_newer = True


def available() -> bool:
    """Whether a CUDA device (or the simulator) can be used."""
    return bool(cuda.is_available())
