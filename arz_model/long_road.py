"""The fused time loop on the CPU for one road that no cache holds: each pass over its cells takes several sub-steps.

A strip of cells is advanced by all sub-steps of a pass before the next strip is fetched; each sub-step ends BEGIN cells
before the one that it follows, where the state that it needs ends. The entrance is then sub-steps ahead of the exit, so
that each has road ends of its own. The arithmetic is that of step_cpu, in the same order: so are the bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from arz_model.cells import N_STRIP_ROWS, Kind
from arz_model.ends import ARRIVING, IN, N_END_ROWS, QUEUE
from arz_model.kernel_cache import keep_on_disk
from arz_model.network import BEGIN
from arz_model.step_cpu import compile_loop, cpu_ends, make_end_loops, make_loops, make_measures

LONG = 8192
"""Cells of a road from which on passes pay: their rows no longer fit a second cache of 1 MiB."""
SUB_STEPS = 16
"""In each pass; at most as many as a strip has times BEGIN cells."""
END_SETS = 3
"""Of road ends: as the entrance sees them, as the exit does, and what entered in each sub-step of a pass."""


@cache
def make_long_advance(kind: Kind) -> Callable[..., None]:
    """The CPU kernel of a network of one long road; on its first call compiled, or read from disk."""
    return keep_on_disk(build_long_advance(kind))


def build_long_advance(kind: Kind) -> Callable[..., None]:
    """The same, always compiled: first order, joined to an entrance and an exit."""
    measure_start, measure_end = make_measures(kind)
    refresh, _, fluxes, _, _, _, renew, _, carry, _ = make_loops(kind)
    demands, admits, counts = make_end_loops(kind)
    look, put = cpu_ends(kind).look, cpu_ends(kind).put
    dtype = np.dtype(kind.dtype).type
    zero, one = dtype(0), dtype(1)
    origin, inside, entrance, exit_ = np.int64(0), np.int64(BEGIN), np.int64(0), np.int64(1)
    stride, strip_cells, width = kind.stride, kind.strip_stride - 2 * BEGIN, kind.width
    strip_size, ends_size = N_STRIP_ROWS[kind.scheme] * kind.strip_stride, N_END_ROWS * kind.width
    sub_steps, segment, n_segments = kind.sub_steps, np.uint64(0), np.int64(1)
    queue_m, queue_c, arriving_m, arriving_c = (k * width for k in (QUEUE, QUEUE + 1, ARRIVING, ARRIVING + 1))
    in_m, in_c = IN * width, (IN + 1) * width

    @compile_loop(kind)
    def flows(u, ends, k, n_steps, segments, arrivals, windows, dt, par):
        """What the ends of the road send and take in sub-step k; right for the end whose cells are there."""
        look(u, segment, k, ends, segments, windows)
        if segments[0, 2] >= 0:
            piece = k * arrivals.shape[0] // n_steps
            ends[arriving_m], ends[arriving_c] = arrivals[piece, 0, 0], arrivals[piece, 0, 1]
        demands(ends, n_segments, dt, par)
        admits(ends, n_segments, par)

    @compile_loop(kind)
    def advance(q, waiting, arrivals, signals, totals, u, strip, ends, layout, par_array, rates, n_steps, begin, end):
        """Advance roads begin .. end - 1 by n_steps sub-steps; arguments are those of step_cpu.

        strip : (sub_steps x rows x strip_stride,). ends : (END_SETS x rows x width,).
        """
        lengths, segments = layout[0], layout[1]
        par = (
            par_array[0], par_array[1], par_array[2], par_array[3], par_array[4], par_array[5], par_array[6],
        )  # fmt: skip
        dt, decay_m, decay_c, v_queue = rates[0], rates[1], rates[2], rates[5]
        n = q.shape[2]
        entering, leaving, entered = ends[:ends_size], ends[ends_size : 2 * ends_size], ends[2 * ends_size :]
        for road in range(begin, end):
            windows = signals[road]
            for k in range(4):
                for i in range(n):
                    u[k * stride + i] = q[road, k, i]
            measure_start(u, leaving, n, lengths, segments, n_steps)
            leaving[queue_m], leaving[queue_c] = waiting[road, 0, 0], waiting[road, 0, 1]
            for i in range(ends_size):
                entering[i] = leaving[i]
            refresh(u, origin, n, v_queue, par)
            for first_step in range(0, n_steps, sub_steps):
                n_pass = min(sub_steps, n_steps - first_step)
                for turn in range(-(-(n - inside + BEGIN * (n_pass - 1)) // strip_cells)):
                    for j in range(n_pass):
                        k, at = first_step + j, j * strip_size
                        behind = inside + turn * strip_cells - BEGIN * j
                        ahead = min(behind + strip_cells, n)
                        if behind >= n:
                            continue
                        shift, steps_left = behind - inside - at, dtype(n_steps - 1 - k)
                        fluxes(u, strip, max(inside, behind), ahead, shift)
                        if turn == 0:
                            flows(u, entering, k, n_steps, segments, arrivals[road], windows, dt, par)
                            put(strip, segment, entering, segments, entrance, shift)
                            entered[2 * j], entered[2 * j + 1] = entering[in_m], entering[in_c]
                            counts(entering, n_segments, dt, zero, one, steps_left)
                        if ahead == n:
                            flows(u, leaving, k, n_steps, segments, arrivals[road], windows, dt, par)
                            put(strip, segment, leaving, segments, exit_, shift)
                            leaving[in_m], leaving[in_c] = entered[2 * j], entered[2 * j + 1]
                            counts(leaving, n_segments, dt, zero, one, steps_left)
                        until = n if ahead == n else ahead - inside
                        slow = zero if k == n_steps - 1 else v_queue
                        renew(u, strip, max(inside, behind - inside), until, shift, zero, decay_m, decay_c, slow, par)
                        carry(strip, at)
            measure_end(u, leaving, lengths, segments, totals[road], dt)
            if segments[0, 2] >= 0:
                waiting[road, 0, 0], waiting[road, 0, 1] = leaving[queue_m], leaving[queue_c]
            for k in range(4):
                for i in range(n):
                    q[road, k, i] = u[k * stride + i]

    return advance
