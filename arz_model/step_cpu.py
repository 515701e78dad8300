"""The fused time loop on the CPU.

One call takes every sub-step of a decision interval for a range of roads. Roads are independent: the result of one does
not depend on which others share the call, nor on how many threads take part (each runs whole roads, without the GIL).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from arz_model.cells import (
    BEFORE,
    FLUX,
    QUEUE_C,
    QUEUE_M,
    RIGHT,
    START_C,
    START_M,
    STATE,
    Cells,
    Kind,
    make_cells,
)
from arz_model.ends import ARRIVING, N_SUMS, QUEUE, QUEUE_BEFORE, SUMS, Ends, make_ends
from arz_model.junction import make_junction
from arz_model.kernel_cache import keep_on_disk, named_for
from arz_model.network import BEGIN
from arz_model.reconstruction import SCHEME
from arz_model.target import Target, multiply_add, prefer_widest_vectors

VECTOR = 32
"""Bytes of the vectors that loops over road ends are padded to."""
FEW = 2
"""So few segments are taken one by one: a vector of what `look` stored number by number would wait for the cache."""


def compile_loop(kind: Kind, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for the CPU: IEEE arithmetic as written, division by zero gives inf, no GIL.

    Without reference counts of arrays, which the caller holds: numba leaves the counting in wherever a function
    branches, and two atomic additions an array and call were most of the time that road ends took.
    """

    def compile_function(function: Callable[..., Any]) -> Any:
        function = named_for(function, kind)
        return njit(error_model="numpy", nogil=True, _nrt=False, **options)(function)  # type: ignore[call-overload]

    return compile_function


def target_cpu(kind: Kind) -> Target:
    """The same for what a loop calls; always inlined, or LLVM leaves calls in long bodies and they stay scalar."""
    return Target(compile_loop(kind, forceinline=True), multiply_add)


@cache
def cpu_cells(kind: Kind) -> Cells:
    """The functions of one cell, compiled for the CPU; offsets are unsigned, or every access would test for a sign."""
    return make_cells(kind, target_cpu(kind), np.uint64)


@cache
def cpu_ends(kind: Kind) -> Ends:
    """The functions of the ends of one segment, likewise."""
    return make_ends(kind, target_cpu(kind), np.uint64)


@cache
def make_advance(kind: Kind) -> Callable[..., None]:
    """The CPU kernel of one kind; on its first call compiled, or read from disk."""
    return keep_on_disk(build_advance(kind))


def build_advance(kind: Kind) -> Callable[..., None]:
    """The same, always compiled."""
    measure_start, measure_end = make_measures(kind)
    loops, cells = make_loops(kind), cpu_cells(kind)
    refresh, faces, fluxes, update, relax, clamp, renew, renew_stage, carry, remember = loops
    demands, admits, counts = make_end_loops(kind)
    dtype = np.dtype(kind.dtype).type
    look, put = cpu_ends(kind).look, cpu_ends(kind).put
    mix, join, press = make_junction(kind.width, dtype, target_cpu(kind), np.uint64)
    fill = cells.fill
    zero = dtype(0)
    origin, inside = np.int64(0), np.int64(BEGIN)  # of a type: loops are compiled again for each literal number
    stride, scheme, strip_cells = kind.stride, SCHEME[kind.scheme], kind.strip_stride - 2 * BEGIN
    first_order, clamped, has_nodes = kind.scheme == "hll", kind.clamp, kind.nodes
    has_ends = kind.joined
    n_stages = len(scheme.keep)
    keeps = tuple(dtype(x) for x in scheme.keep)
    flux_weights = tuple(dtype(x) for x in scheme.flux_weight)
    width, lanes = kind.width, VECTOR // np.dtype(kind.dtype).itemsize
    queue_m, queue_c, arriving_m, arriving_c = (k * width for k in (QUEUE, QUEUE + 1, ARRIVING, ARRIVING + 1))
    queue_before = (QUEUE_BEFORE - QUEUE) * width

    @compile_loop(kind)
    def advance(q, waiting, arrivals, signals, totals, u, strip, ends, layout, par_array, rates, n_steps, begin, end):
        """Advance roads begin .. end - 1 by n_steps sub-steps.

        q : (B, 4, n) — rho_m, y_m, rho_c, y_c; modified in place.
        waiting : (B, E, 2) — vehicles in the entrance queues [veh]; modified in place.
        arrivals : (B, P, E, 2) — flow that joins them in each of P equal pieces of the call [veh/s].
        signals : (B, S, 2) int64 — the stop line is open in sub-steps signals[0] <= k < signals[1].
        totals : (B, S, 16) — observables, set by this call.
        u : (rows x stride,), strip : (rows x strip_stride,), ends : (rows x width,) — work space of this thread (see
        cells, ends).
        layout : (lengths, segments, ghosts, nodes, inlets, outlets, ratios, priorities) of network.Layout.
        par_array : physics.parameter_vector. rates : dt [s], decays over dt and dt/2 of m and c [-], v_queue [m/s].
        """
        lengths, segments, ghosts, nodes, inlets, outlets, ratios, priorities = layout
        par = (
            par_array[0], par_array[1], par_array[2], par_array[3], par_array[4], par_array[5], par_array[6],
        )  # fmt: skip
        dt, v_queue = rates[0], rates[5]
        n, n_pieces, n_segments = q.shape[2], arrivals.shape[1], segments.shape[0]
        whole = n_segments if n_segments <= FEW else -(-n_segments // lanes) * lanes
        for road in range(begin, end):
            total, windows = totals[road], signals[road]
            for k in range(4):
                for i in range(n):
                    u[k * stride + i] = q[road, k, i]
            measure_start(u, ends, n, lengths, segments, n_steps)
            for s in range(n_segments):
                e = segments[s, 2]
                if e >= 0:
                    ends[queue_m + s], ends[queue_c + s] = waiting[road, e, 0], waiting[road, e, 1]
            piece = -1
            if not first_order:
                relax(u, n, rates[3], rates[4], par)
            refresh(u, origin, n, v_queue, par)
            for g in range(ghosts.shape[0]):
                fill(u, ghosts, g)
            for k in range(n_steps):
                if has_ends and piece != k * n_pieces // n_steps:
                    piece = k * n_pieces // n_steps
                    for s in range(n_segments):
                        e = segments[s, 2]
                        if e >= 0:
                            ends[arriving_m + s] = arrivals[road, piece, e, 0]
                            ends[arriving_c + s] = arrivals[road, piece, e, 1]
                last_step = k == n_steps - 1
                if not first_order:
                    remember(u, n)
                    for i in range(queue_m, queue_m + 2 * width):
                        ends[queue_before + i] = ends[i]
                for stage in range(n_stages):
                    keep, weight = keeps[stage], flux_weights[stage]
                    last_stage = stage == n_stages - 1
                    half = last_step and not first_order
                    decay_m, decay_c = rates[3 if half else 1], rates[4 if half else 2]
                    slow = zero if last_step else v_queue
                    if has_ends:
                        for s in range(np.uint64(n_segments)):
                            look(u, s, k, ends, segments, windows)
                        demands(ends, whole, dt, par)
                        if has_nodes:
                            for node in range(np.uint64(nodes.shape[0])):
                                for c in range(np.uint64(2)):
                                    mix(node, c, ends, nodes, inlets, outlets, ratios)
                    renewed, behind, end_face = inside, inside, 0
                    while renewed < n:
                        ahead, shift = min(behind + strip_cells, n), behind - inside
                        if not first_order:
                            faces(u, strip, behind, ahead, shift, par)
                        fluxes(u, strip, behind, ahead, shift)
                        if has_ends and behind == inside:  # not before fluxes: the processor works on both at once
                            admits(ends, whole, par)
                            if has_nodes:
                                for node in range(np.uint64(nodes.shape[0])):
                                    for c in range(np.uint64(2)):
                                        join(node, c, ends, nodes, inlets, outlets, ratios, priorities)
                        if has_ends:
                            while end_face < 2 * n_segments:
                                s, downstream = end_face // 2, end_face % 2
                                if segments[s, downstream] + downstream >= ahead:
                                    break
                                end_face += 1
                                if segments[s, 3] == 1:
                                    put(strip, s, ends, segments, downstream, shift)
                        until = n if ahead == n else ahead - inside
                        if clamped:
                            update(u, strip, renewed, until, shift, keep)
                        elif first_order or last_stage:  # known to the compiler: it then leaves the other loop out
                            renew(u, strip, renewed, until, shift, keep, decay_m, decay_c, slow, par)
                        else:
                            renew_stage(u, strip, renewed, until, shift, keep, par)
                        if ahead < n:
                            carry(strip, origin)
                        renewed, behind = until, ahead
                    if clamped:
                        clamp(u, n, segments, par)
                        if last_stage:
                            relax(u, n, decay_m, decay_c, par)
                        refresh(u, inside, n, slow if last_stage else zero, par)
                    for g in range(ghosts.shape[0]):
                        fill(u, ghosts, g)
                    if has_ends:
                        counts(ends, whole, dt, keep, weight, dtype(n_steps - 1 - k))
            measure_end(u, ends, lengths, segments, total, dt)
            for s in range(n_segments):
                e = segments[s, 2]
                if e >= 0:
                    waiting[road, e, 0], waiting[road, e, 1] = ends[queue_m + s], ends[queue_c + s]
            if has_nodes:
                for node in range(np.uint64(nodes.shape[0])):
                    press(node, total, nodes, inlets, outlets, ratios)
            for k in range(4):
                for i in range(n):
                    q[road, k, i] = u[k * stride + i]

    return advance


def make_loops(kind: Kind) -> tuple[Callable[..., None], ...]:
    """The loops over cells or faces: what must vectorise.

    (refresh, faces, fluxes, update, relax, clamp, renew, renew_stage, carry, remember). Cell i lies at i - shift of a
    strip.
    """
    cells = cpu_cells(kind)
    refresh_cell, ends_of_cell, flux, update_cell = cells.refresh, cells.ends_of_cell, cells.flux, cells.update
    relax_cell, clamp_cell, renew_cell, renew_stage_cell = cells.relax, cells.clamp, cells.renew, cells.renew_stage
    one, first, first_order = np.uint64(1), np.uint64(BEGIN), kind.scheme == "hll"
    cells_of_strip = np.uint64(kind.strip_stride - 2 * BEGIN)
    flux_rows, right_rows = (tuple(np.uint64((k + j) * kind.strip_stride) for j in range(8)) for k in (FLUX, RIGHT))
    state_rows, before_rows = (tuple(np.uint64((k + j) * kind.stride) for j in range(4)) for k in (STATE, BEFORE))

    @compile_loop(kind)
    def refresh(u, begin, end, v_queue, par):
        """Speeds, eigenvalue bounds and queue sums of cells."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            refresh_cell(u, i, v_queue, par)

    @compile_loop(kind)
    def faces(u, strip, begin, end, shift, par):
        """States and waves at both ends of cells."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            ends_of_cell(u, strip, i, i - np.uint64(shift), par)

    @compile_loop(kind)
    def fluxes(u, strip, begin, end, shift):
        """Fluxes through the left faces of cells."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            flux(u, strip, i, i - np.uint64(shift))

    @compile_loop(kind)
    def update(u, strip, begin, end, shift, keep):
        """One Runge-Kutta stage of cells."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            update_cell(u, strip, i, i - np.uint64(shift), keep)

    @compile_loop(kind)
    def relax(u, n, decay_m, decay_c, par):
        """Exact relaxation of all cells."""
        prefer_widest_vectors()
        for i in range(first, np.uint64(n)):
            relax_cell(u, i, decay_m, decay_c, par)

    @compile_loop(kind)
    def clamp(u, n, segments, par):
        """Hold speeds at contacts in all cells but those at joined ends, where traffic is stopped or let go."""
        prefer_widest_vectors()
        for s in range(segments.shape[0]):
            inner = np.uint64(segments[s, 3])
            for i in range(np.uint64(segments[s, 0]) + inner, np.uint64(segments[s, 1]) + one - inner):
                clamp_cell(u, i, par)

    @compile_loop(kind)
    def renew(u, strip, begin, end, shift, keep, decay_m, decay_c, v_queue, par):
        """Update, relaxation and refresh of cells, in one pass over memory."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            renew_cell(u, strip, i, i - np.uint64(shift), keep, decay_m, decay_c, v_queue, par)

    @compile_loop(kind)
    def renew_stage(u, strip, begin, end, shift, keep, par):
        """Update and refresh of cells, in one pass over memory."""
        prefer_widest_vectors()
        for i in range(np.uint64(begin), np.uint64(end)):
            renew_stage_cell(u, strip, i, i - np.uint64(shift), keep, par)

    @compile_loop(kind)
    def carry(strip, begin):
        """What the next strip needs of a full one that lies from `begin`, its last cells, moves before its first."""
        prefer_widest_vectors()
        for k in range(4):
            for j in range(np.uint64(begin), np.uint64(begin) + first):
                strip[flux_rows[k] + j] = strip[flux_rows[k] + cells_of_strip + j]
        if not first_order:
            for k in range(8):
                last = right_rows[k] + np.uint64(begin) + first - one
                strip[last] = strip[last + cells_of_strip]

    @compile_loop(kind)
    def remember(u, n):
        """The state at the start of a sub-step."""
        prefer_widest_vectors()
        for k in range(4):
            for i in range(np.uint64(n)):
                u[before_rows[k] + i] = u[state_rows[k] + i]

    return refresh, faces, fluxes, update, relax, clamp, renew, renew_stage, carry, remember


def make_end_loops(kind: Kind) -> tuple[Callable[..., None], ...]:
    """The loops over the ends of segments, in whole vectors. (demands, admits, counts)."""
    demand, admit, count = cpu_ends(kind).demand, cpu_ends(kind).admit, cpu_ends(kind).count

    @compile_loop(kind)
    def demands(ends, n, dt, par):
        """What segments 0 .. n - 1 can send, and what waits before them."""
        for s in range(np.uint64(n)):
            demand(ends, s, dt, par)

    @compile_loop(kind)
    def admits(ends, n, par):
        """What they can take, and what enters."""
        for s in range(np.uint64(n)):
            admit(ends, s, par)

    @compile_loop(kind)
    def counts(ends, n, dt, keep, weight, steps_left):
        """Entrance queues and observables."""
        for s in range(np.uint64(n)):
            count(ends, s, dt, keep, weight, steps_left)

    return demands, admits, counts


def make_measures(kind: Kind) -> tuple[Callable[..., None], Callable[..., None]]:
    """What is measured before and after the sub-steps of a call."""
    dtype = np.dtype(kind.dtype).type
    zero, two = dtype(0), dtype(2)
    stride = kind.stride
    rho_m, rho_c = np.int64(0), np.int64(2 * stride)
    start_m, start_c, queue_m, queue_c = (np.int64(k * stride) for k in (START_M, START_C, QUEUE_M, QUEUE_C))
    width, n_sums = kind.width, N_SUMS
    vehicles_m, vehicles_c = SUMS * width, (SUMS + 1) * width

    @compile_loop(kind)
    def distance(u, rho, start, entered, dx, begin, end):
        """Vehicle metres travelled in cells begin .. end - 1 [veh m], from what entered and how densities changed.

        What crossed face i + 1 is what crossed face i less what stayed in cell i: exact, with no work inside the time
        loop. A vehicle that crosses a face travels half of the cell on each side.
        """
        crossed = entered
        total = zero
        for i in range(begin, end):
            before = crossed
            crossed = crossed - dx * (u[rho + i] - u[start + i])
            total += before + crossed
        return total * dx / two

    @compile_loop(kind)
    def measure_start(u, ends, n, lengths, segments, n_steps):
        """Note the densities, clear the sums, count the vehicles."""
        for i in range(n):
            u[start_m + i], u[start_c + i] = u[i], u[rho_c + i]
            u[queue_m + i], u[queue_c + i] = zero, zero
        for s in range(segments.shape[0]):
            for k in range(n_sums):
                ends[vehicles_m + k * width + s] = zero
            for i in range(segments[s, 0], segments[s, 1] + 1):
                ends[vehicles_m + s] += u[i]
                ends[vehicles_c + s] += u[rho_c + i]
            ends[vehicles_m + s] *= lengths[0, s] * dtype(n_steps)
            ends[vehicles_c + s] *= lengths[0, s] * dtype(n_steps)

    @compile_loop(kind)
    def measure_end(u, ends, lengths, segments, total, dt):
        """Sums over sub-steps to integrals; delay = time spent - metres travelled / free speed."""
        for s in range(segments.shape[0]):
            dx, i, j = lengths[0, s], segments[s, 0], segments[s, 1] + 1
            for column in range(4):
                total[s, column] = zero
            for k in range(n_sums):
                total[s, 4 + k] = ends[vehicles_m + k * width + s]
            for cell in range(i, j):
                total[s, 2] += u[queue_m + cell]
                total[s, 3] += u[queue_c + cell]
            total[s, 2] *= dx
            total[s, 3] *= dx
            for column in range(2, 14):
                total[s, column] *= dt
            total[s, 14], total[s, 15] = total[s, 4], total[s, 5]
            if segments[s, 3] == 1:
                total[s, 0] = total[s, 4] - lengths[1, s] * distance(u, rho_m, start_m, total[s, 6], dx, i, j)
                total[s, 1] = total[s, 5] - lengths[2, s] * distance(u, rho_c, start_c, total[s, 7], dx, i, j)

    return measure_start, measure_end
