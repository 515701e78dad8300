"""The two ends of every road: entrance queue and first cell, last cell and stop line, and the flows through both.

All numbers of the ends of a network lie in one flat array `ends` of rows of `width` elements, one for each segment, as
those of cells do (see cells): the CPU loops over segments in vectors, on the GPU a thread takes some. A stage of a
sub-step calls `look`, `demand`, then `mix` of every node, `admit`, then `join` of every node, `put` and `count`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.cells import CENTRE, FLUX, STATE, Kind
from arz_model.physics import make_closure
from arz_model.riemann import make_riemann
from arz_model.stream import TINY, make_stream
from arz_model.target import Target

FREE, SATURATION = 0, 2
"""Free speeds m, c [m/s] and saturation flow, 0 unless the ends are joined [veh/s]; never written by the kernels."""
LAST, SPEED, CAPACITY = 3, 7, 9
"""State of the last cell; v_m, v_c of the first [m/s]; what the stop line lets through now [veh/s]."""
QUEUE, QUEUE_BEFORE, ARRIVING = 10, 12, 14
"""Vehicles in the entrance queue, now and at the start of the sub-step, and the flow that joins it [veh], [veh/s]."""
SENT, DEMAND, PROPERTY = 16, 18, 20
"""What the last cell can send: density [veh/m], flow [veh/s], and its w [m/s]."""
WANTED, MIXED, MIXED_W = 22, 24, 26
"""What wants to enter: flow out of the entrance queue [veh/s]; density [veh/m] and w [m/s] of the mixture."""
ROOM, OUT, IN, IN_Y = 28, 30, 32, 34
"""Supply of the first cell; flow out and flow in [veh/s]; flow in of y [veh m/s**2]."""
SUMS, N_SUMS = 36, 10
"""Sums over sub-steps of vehicles, inflow, outflow, entrance and arrivals (see state.OBSERVABLES)."""
N_END_ROWS = SUMS + N_SUMS
"""Rows; all but SATURATION and CAPACITY are for m, and the next one for c."""


class Ends(NamedTuple):
    """Functions of the ends of segment s; see each."""

    look: Callable[..., Any]
    demand: Callable[..., Any]
    admit: Callable[..., Any]
    put: Callable[..., Any]
    count: Callable[..., Any]


def width_for(n_segments: int) -> int:
    """Row length for so many segments: few values, so that few kernels are compiled; whole vectors of either type."""
    width = 8
    while width < n_segments:
        width *= 2
    return width


def make_ends(kind: Kind, target: Target, index: type[np.integer[Any]]) -> Ends:
    """The functions for one kind of kernel, compiled for `target`; `index` is the type of subscripts."""
    jit = target.jit
    dtype = np.dtype(kind.dtype).type
    stream = make_stream(make_closure(kind.closure, dtype, target), dtype, target)
    send, supply, driver_properties = stream.send, stream.supply, make_riemann(dtype, target).driver_properties
    zero, one, tiny = dtype(0), dtype(1), dtype(TINY)
    first_order, width = kind.scheme == "hll", index(kind.width)

    def cells(k: int) -> Any:
        return index(k * kind.stride)

    def strip_row(k: int) -> Any:
        return index(k * kind.strip_stride)

    def row(k: int) -> Any:
        return index(k * kind.width)

    rho_m, y_m, rho_c, y_c = (cells(STATE + k) for k in range(4))
    flux_rho_m, flux_y_m, flux_rho_c, flux_y_c = (strip_row(FLUX + k) for k in range(4))
    v_m, v_c = cells(CENTRE), cells(CENTRE + 1)
    free_m, free_c, saturation, capacity = row(FREE), row(FREE + 1), row(SATURATION), row(CAPACITY)
    last_rho_m, last_y_m, last_rho_c, last_y_c = (row(LAST + k) for k in range(4))
    speed_m, speed_c = row(SPEED), row(SPEED + 1)
    queue_m, queue_c, arriving_m, arriving_c = row(QUEUE), row(QUEUE + 1), row(ARRIVING), row(ARRIVING + 1)
    sent_m, sent_c, demand_m, demand_c = row(SENT), row(SENT + 1), row(DEMAND), row(DEMAND + 1)
    property_m, property_c, wanted_m, wanted_c = row(PROPERTY), row(PROPERTY + 1), row(WANTED), row(WANTED + 1)
    mixed_m, mixed_c, mixed_w_m, mixed_w_c = row(MIXED), row(MIXED + 1), row(MIXED_W), row(MIXED_W + 1)
    room_m, room_c, out_m, out_c = row(ROOM), row(ROOM + 1), row(OUT), row(OUT + 1)
    in_m, in_c, in_y_m, in_y_c = row(IN), row(IN + 1), row(IN_Y), row(IN_Y + 1)
    queue_0, before_0, arriving_0, in_0, out_0 = row(QUEUE), row(QUEUE_BEFORE), row(ARRIVING), row(IN), row(OUT)
    vehicles, inflow, outflow, entrance, arrivals = (row(SUMS + k) for k in range(0, N_SUMS, 2))

    @jit
    def look(u, s, k, ends, segments, windows):
        """Copy what the ends of segment s are about to depend on out of its cells, in sub-step k of the call."""
        i, j = index(segments[s, 0]), index(segments[s, 1])
        ends[last_rho_m + s], ends[last_y_m + s] = u[rho_m + j], u[y_m + j]
        ends[last_rho_c + s], ends[last_y_c + s] = u[rho_c + j], u[y_c + j]
        ends[speed_m + s], ends[speed_c + s] = u[v_m + i], u[v_c + i]
        ends[capacity + s] = ends[saturation + s] if windows[s, 0] <= k and k < windows[s, 1] else zero

    @jit
    def demand(ends, s, dt, par):
        """What the last cell can send, which leaves unless a node says otherwise; what waits before the entrance."""
        w_m, w_c = driver_properties(
            ends[last_rho_m + s], ends[last_y_m + s], ends[last_rho_c + s], ends[last_y_c + s],
            ends[free_m + s], ends[free_c + s],
        )  # fmt: skip
        r_m, r_c, d_m, d_c = send(ends[last_rho_m + s], ends[last_rho_c + s], w_m, w_c, ends[capacity + s], par)
        ends[sent_m + s], ends[sent_c + s] = r_m, r_c
        ends[demand_m + s], ends[demand_c + s] = d_m, d_c
        ends[property_m + s], ends[property_c + s] = w_m, w_c
        ends[out_m + s], ends[out_c + s] = d_m, d_c
        flow_m = ends[queue_m + s] / dt + ends[arriving_m + s]
        flow_c = ends[queue_c + s] / dt + ends[arriving_c + s]
        ends[wanted_m + s], ends[wanted_c + s] = flow_m, flow_c
        ends[mixed_m + s], ends[mixed_c + s] = flow_m / ends[free_m + s], flow_c / ends[free_c + s]
        ends[mixed_w_m + s], ends[mixed_w_c + s] = ends[free_m + s], ends[free_c + s]

    @jit
    def admit(ends, s, par):
        """Supply for the mixture that wants to enter; by class, the entrance lets in at most that [veh/s]."""
        r_m, r_c = ends[mixed_m + s], ends[mixed_c + s]
        r = r_m + r_c
        a_m = a_c = zero
        if r > tiny:
            a_m, a_c = supply(
                r_m / r, r_c / r, ends[mixed_w_m + s], ends[mixed_w_c + s], ends[speed_m + s], ends[speed_c + s], par
            )
        ends[room_m + s], ends[room_c + s] = a_m, a_c
        q_m = ends[wanted_m + s] if ends[wanted_m + s] < a_m else a_m
        q_c = ends[wanted_c + s] if ends[wanted_c + s] < a_c else a_c
        ends[in_m + s], ends[in_c + s] = q_m, q_c
        ends[in_y_m + s], ends[in_y_c + s] = q_m * ends[free_m + s], q_c * ends[free_c + s]

    @jit
    def put(strip, s, ends, segments, downstream, shift):
        """Set the flux of the state through the upstream (0) or the downstream end (1) of segment s, in its strip."""
        i = index(segments[s, downstream]) + index(downstream) - index(shift)
        if downstream:
            strip[flux_rho_m + i], strip[flux_rho_c + i] = ends[out_m + s], ends[out_c + s]
            strip[flux_y_m + i] = ends[out_m + s] * ends[property_m + s]
            strip[flux_y_c + i] = ends[out_c + s] * ends[property_c + s]
        else:
            strip[flux_rho_m + i], strip[flux_rho_c + i] = ends[in_m + s], ends[in_c + s]
            strip[flux_y_m + i], strip[flux_y_c + i] = ends[in_y_m + s], ends[in_y_c + s]

    @jit
    def count(ends, s, dt, keep, weight, steps_left):
        """Move the entrance queue of segment s, add to its observables.

        weight : part of this stage in the whole sub-step. steps_left : sub-steps that follow it in this call.
        """
        for c in range(index(2)):
            at = c * width + s
            queue, joining, q_in, q_out = ends[queue_0 + at], ends[arriving_0 + at], ends[in_0 + at], ends[out_0 + at]
            left = queue + dt * (joining - q_in)
            left = left if left > zero else zero
            ends[queue_0 + at] = left if first_order else keep * ends[before_0 + at] + (one - keep) * left
            ends[entrance + at] += weight * queue
            ends[arrivals + at] += weight * joining
            ends[inflow + at] += weight * q_in
            ends[outflow + at] += weight * q_out
            ends[vehicles + at] += weight * steps_left * (dt * (q_in - q_out))

    return Ends(look, demand, admit, put, count)
