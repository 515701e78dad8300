"""The fused time loop on the CPU.

One call takes every sub-step of a decision interval for a range of roads. Roads are independent: the result of one does
not depend on which others share the call, nor on how many threads take part (each runs whole roads, without the GIL).

The loops over cells are split so that each touches few arrays; LLVM vectorises them only then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from arz_model.junction import make_junction
from arz_model.physics import make_closure
from arz_model.riemann import make_riemann

N_SCRATCH = 15


def compile_scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar function for the CPU: IEEE arithmetic, division by zero gives inf."""
    return njit(error_model="numpy", nogil=True)(function)


@cache
def make_advance(closure_name: str, dtype_name: str) -> Callable[..., None]:
    """The CPU kernel for one closure and floating-point type; compiled on its first call."""
    dtype = np.dtype(dtype_name).type
    closure = make_closure(closure_name, dtype, compile_scalar)
    riemann = make_riemann(dtype, compile_scalar)
    junction = make_junction(closure, dtype, compile_scalar)
    speeds, wave_bounds, equilibrium_w = closure.speeds, closure.wave_bounds, closure.equilibrium_w
    driver_property, hll_weights, hll_flux = riemann.driver_property, riemann.hll_weights, riemann.hll_flux
    demand, supply = junction.demand, junction.supply
    zero, one, two = dtype(0), dtype(1), dtype(2)

    @compile_scalar
    def primitives(rho_m, y_m, rho_c, y_c, free_m, free_c, par, v_m, v_c, s_l, s_r):
        """Speeds and eigenvalue bounds of every cell; arrays (n,), the last four written."""
        for i in range(rho_m.size):
            w_m = driver_property(rho_m[i], y_m[i], free_m[i])
            w_c = driver_property(rho_c[i], y_c[i], free_c[i])
            u_m, u_c = speeds(rho_m[i], rho_c[i], w_m, w_c, par)
            s_l[i], s_r[i] = wave_bounds(rho_m[i], rho_c[i], w_m, w_c, u_m, u_c, par)
            v_m[i], v_c[i] = u_m, u_c

    @compile_scalar
    def weights(s_l, s_r, a, b, d):
        """HLL weights of interface i + 1 from cells i and i + 1; arrays (n,)."""
        left_l, right_l, left_r, right_r = s_l[:-1], s_l[1:], s_r[:-1], s_r[1:]
        for i in range(left_l.size):
            lower = left_l[i] if left_l[i] < right_l[i] else right_l[i]
            upper = left_r[i] if left_r[i] > right_r[i] else right_r[i]
            a[i], b[i], d[i] = hll_weights(lower, upper)

    @compile_scalar
    def fluxes(rho, y, v, a, b, d, flux_rho, flux_y):
        """HLL fluxes of one class at every inner interface; arrays (n,)."""
        rho_l, rho_r, y_l, y_r, v_l, v_r = rho[:-1], rho[1:], y[:-1], y[1:], v[:-1], v[1:]
        out_rho, out_y = flux_rho[1:], flux_y[1:]
        for i in range(rho_l.size):
            out_rho[i] = hll_flux(rho_l[i], v_l[i], rho_r[i], v_r[i], a[i], b[i], d[i])
            out_y[i] = hll_flux(y_l[i], v_l[i], y_r[i], v_r[i], a[i], b[i], d[i])

    @compile_scalar
    def divergence(q, flux, inv_dx, dt):
        """q <- q - dt/dx (F_right - F_left); arrays (n,)."""
        left, right = flux[:-1], flux[1:]
        for i in range(left.size):
            q[i] -= dt * inv_dx[i] * (right[i] - left[i])

    @compile_scalar
    def relax(rho_m, y_m, rho_c, y_c, free_m, free_c, par, decay_m, decay_c):
        """Exact solution of dy/dt = rho (w_eq - w) / tau at fixed rho: y <- rho w_eq + (y - rho w_eq) decay."""
        rest_m, rest_c = one - decay_m, one - decay_c
        for i in range(rho_m.size):
            w_m, w_c = equilibrium_w(rho_m[i], rho_c[i], free_m[i], free_c[i], par)
            y_m[i] = decay_m * y_m[i] + rest_m * (rho_m[i] * w_m)
            y_c[i] = decay_c * y_c[i] + rest_c * (rho_c[i] * w_c)

    @compile_scalar
    def accumulate(rho, v, v_queue, queue):
        """Add this sub-step's rho 1[v < v_queue] of every cell; arrays (n,)."""
        for i in range(rho.size):
            queue[i] += rho[i] if v[i] < v_queue else zero

    @compile_scalar
    def distance(rho, start, entered, dx, begin, end):
        """Vehicle metres travelled in cells begin .. end - 1 [veh m], from what entered and how densities changed.

        What crossed interface i + 1 is what crossed interface i less what stayed in cell i: exact, with no work inside
        the time loop. A vehicle that crosses an interface travels half of the cell on each side.
        """
        crossed = entered
        total = zero
        for i in range(begin, end):
            before = crossed
            crossed = crossed - dx * (rho[i] - start[i])
            total += before + crossed
        return total * dx / two

    @compile_scalar
    def enter(v_m, v_c, free_m, free_c, waiting, arrivals, dt, par):
        """Flows into a road from its point queue: by class min(waiting / dt + arrivals, supply)."""
        sent_m = waiting[0] / dt + arrivals[0]
        sent_c = waiting[1] / dt + arrivals[1]
        r_m, r_c = sent_m / free_m, sent_c / free_c
        r = r_m + r_c
        if not r > zero:
            return zero, zero
        room_m, room_c = supply(r_m / r, r_c / r, free_m, free_c, v_m, v_c, par)
        return (sent_m if sent_m < room_m else room_m), (sent_c if sent_c < room_c else room_c)

    @njit(error_model="numpy", nogil=True)
    def advance(q, waiting, arrivals, signals, totals, scratch, layout, par_array, rates, n_steps, begin, end):
        """Advance roads begin .. end - 1 by n_steps sub-steps.

        q : (B, 4, n) — rho_m, y_m, rho_c, y_c; modified in place.
        waiting : (B, E, 2) — vehicles in the entrance queues [veh]; modified in place.
        arrivals : (B, P, E, 2) — flow that joins them in each of P equal pieces of the call [veh/s].
        signals : (B, S, 2) int64 — the stop line is open in sub-steps signals[0] <= k < signals[1].
        totals : (B, S, 14) — observables, set by this call.
        scratch : (15, n) — work space of this thread.
        layout : (cells, lengths, segments, saturation, ghosts) of network.Layout.
        par_array : physics.parameter_vector. rates : dt [s], decay_m, decay_c [-], v_queue [m/s].
        """
        cells, lengths, segments, saturation, ghosts = layout
        inv_dx, free_m, free_c = cells[0], cells[1], cells[2]
        par = (par_array[0], par_array[1], par_array[2], par_array[3], par_array[4], par_array[5])
        dt, decay_m, decay_c, v_queue = rates[0], rates[1], rates[2], rates[3]
        v_m, v_c, s_l, s_r = scratch[0], scratch[1], scratch[2], scratch[3]
        a, b, d = scratch[4], scratch[5], scratch[6]
        f_rho_m, f_y_m, f_rho_c, f_y_c = scratch[7], scratch[8], scratch[9], scratch[10]
        start_m, start_c, queue_m, queue_c = scratch[11], scratch[12], scratch[13], scratch[14]
        n_pieces = arrivals.shape[1]
        for road in range(begin, end):
            rho_m, y_m, rho_c, y_c = q[road, 0], q[road, 1], q[road, 2], q[road, 3]
            scratch[7:] = zero
            start_m[:] = rho_m
            start_c[:] = rho_c
            total = totals[road]
            total[:] = zero
            for s in range(segments.shape[0]):
                for i in range(segments[s, 0], segments[s, 1] + 1):
                    total[s, 4] += rho_m[i]
                    total[s, 5] += rho_c[i]
                total[s, 4] *= lengths[0, s] * n_steps
                total[s, 5] *= lengths[0, s] * n_steps
            for k in range(n_steps):
                piece = k * n_pieces // n_steps
                for g in range(ghosts.shape[0]):
                    to, source = ghosts[g, 0], ghosts[g, 1]
                    rho_m[to], y_m[to], rho_c[to], y_c[to] = rho_m[source], y_m[source], rho_c[source], y_c[source]
                primitives(rho_m, y_m, rho_c, y_c, free_m, free_c, par, v_m, v_c, s_l, s_r)
                accumulate(rho_m, v_m, v_queue, queue_m)
                accumulate(rho_c, v_c, v_queue, queue_c)
                weights(s_l, s_r, a, b, d)
                fluxes(rho_m, y_m, v_m, a, b, d, f_rho_m, f_y_m)
                fluxes(rho_c, y_c, v_c, a, b, d, f_rho_c, f_y_c)
                for s in range(segments.shape[0]):
                    if segments[s, 3] == 0:
                        continue
                    i, j, entrance = segments[s, 0], segments[s, 1], segments[s, 2]
                    count = total[s]
                    queue, joining = waiting[road, entrance], arrivals[road, piece, entrance]
                    in_m, in_c = enter(v_m[i], v_c[i], free_m[i], free_c[i], queue, joining, dt, par)
                    f_rho_m[i], f_y_m[i], f_rho_c[i], f_y_c[i] = in_m, in_m * free_m[i], in_c, in_c * free_c[i]
                    count[10] += queue[0]
                    count[11] += queue[1]
                    left_m = queue[0] + dt * (joining[0] - in_m)
                    left_c = queue[1] + dt * (joining[1] - in_c)
                    queue[0] = left_m if left_m > zero else zero
                    queue[1] = left_c if left_c > zero else zero
                    w_m = driver_property(rho_m[j], y_m[j], free_m[j])
                    w_c = driver_property(rho_c[j], y_c[j], free_c[j])
                    out_m, out_c = demand(rho_m[j], rho_c[j], w_m, w_c, par)
                    open_line = signals[road, s, 0] <= k and k < signals[road, s, 1]
                    capacity = saturation[s] if open_line else zero
                    wanted = out_m + out_c
                    passed = capacity / wanted if wanted > capacity else one
                    out_m, out_c = passed * out_m, passed * out_c
                    f_rho_m[j + 1], f_y_m[j + 1] = out_m, out_m * w_m
                    f_rho_c[j + 1], f_y_c[j + 1] = out_c, out_c * w_c
                    count[6] += in_m
                    count[7] += in_c
                    count[8] += out_m
                    count[9] += out_c
                    steps_to_stay = dt * (n_steps - 1 - k)
                    count[4] += steps_to_stay * (in_m - out_m)
                    count[5] += steps_to_stay * (in_c - out_c)
                    count[12] += joining[0]
                    count[13] += joining[1]
                divergence(rho_m, f_rho_m, inv_dx, dt)
                divergence(y_m, f_y_m, inv_dx, dt)
                divergence(rho_c, f_rho_c, inv_dx, dt)
                divergence(y_c, f_y_c, inv_dx, dt)
                relax(rho_m, y_m, rho_c, y_c, free_m, free_c, par, decay_m, decay_c)
            for s in range(segments.shape[0]):
                dx, i, j = lengths[0, s], segments[s, 0], segments[s, 1] + 1
                count = total[s]
                for column in range(4, 14):
                    count[column] *= dt
                for cell in range(i, j):
                    count[2] += queue_m[cell]
                    count[3] += queue_c[cell]
                count[2] *= dx * dt
                count[3] *= dx * dt
                if segments[s, 3] == 1:
                    count[0] = count[4] - lengths[1, s] * distance(rho_m, start_m, count[6], dx, i, j)
                    count[1] = count[5] - lengths[2, s] * distance(rho_c, start_c, count[7], dx, i, j)

    return advance
