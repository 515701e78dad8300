"""Demand and supply at the ends of roads, as scalar functions.

A *stream* is traffic of fixed class shares (share_m + share_c = 1) and fixed driver properties w_i. Its flow
q(r) = r sum_i share_i v_i rises up to one density, the peak, and falls beyond it; demand is the rising part continued
by the maximum, supply the maximum continued by the falling part. For one class, and for two identical classes, this is
the exact Godunov flux of the model.

References
----------
Lebacque, Mammar & Haj-Salem (2007), Transp. Res. B 41(7):710-721 (demand and supply of the ARZ model).
Garavello & Goatin (2011), J. Math. Anal. Appl. 378(2):634-648 (flux constraint, solver RS1: rho and y conserved).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.physics import Closure
from arz_model.state import OBSERVABLES


class Junction(NamedTuple):
    """Scalar functions of road ends; see each for equation and units."""

    send: Callable[..., Any]
    supply: Callable[..., Any]
    enter: Callable[..., Any]
    receive: Callable[..., Any]
    join: Callable[..., Any]
    hand_over: Callable[..., Any]
    press: Callable[..., Any]


SENT, DEMAND, PROPERTY, SPEED, OUT, IN, IN_Y, ROOM = range(0, 16, 2)
"""Columns of `ends` (S, 16), each for m and then for c.

sent density at the downstream end [veh/m], demand there [veh/s], w there [m/s], speed in the first cell [m/s], flow out
and flow in [veh/s], flow of y in [veh m/s**2], supply of the first cell [veh/s].
"""
N_ENDS = 16


def make_junction(
    closure: Closure, dtype: type[np.floating[Any]], jit: Callable[..., Any], index: Any = np.int64
) -> Junction:
    """Demand and supply for one closure, in `dtype`, compiled by `jit`; `index` is the type of subscripts."""
    zero, one = dtype(0), dtype(1)
    wanted_0, property_0, out_flow, in_flow = index(DEMAND), index(PROPERTY), index(OUT), index(IN)
    in_y, room_0 = index(IN_Y), index(ROOM)
    vehicles_0, pressure_0 = (index(2 * OBSERVABLES.index(name)) for name in ("vehicles", "pressure"))
    tiny = dtype(1e-30)  # below it nothing is sent: its reciprocal would overflow
    speeds = closure.speeds
    peak_density = closure.peak_density
    density_at_speed = closure.density_at_speed

    @jit
    def send(rho_m, rho_c, w_m, w_c, capacity, par):
        """Densities r_i and flows d_i that the last cell of a road can send into an empty one [veh/m], [veh/s].

        Beyond the peak density r*, those of the same stream at r*. `capacity` [veh/s] limits both classes together: the
        saturation flow of the stop line, or 0 at red.
        """
        r = rho_m + rho_c
        scale = one / r if r > tiny else zero
        r_peak = peak_density(rho_m * scale, rho_c * scale, w_m, w_c, par)
        shrink = r_peak * scale if r > r_peak else one
        r_m = shrink * rho_m if rho_m > zero else zero
        r_c = shrink * rho_c if rho_c > zero else zero
        v_m, v_c = speeds(r_m, r_c, w_m, w_c, par)
        d_m, d_c = r_m * v_m, r_c * v_c
        wanted = d_m + d_c
        passed = capacity / wanted if wanted > capacity else one
        return passed * r_m, passed * r_c, passed * d_m, passed * d_c

    @jit
    def supply(share_m, share_c, w_m, w_c, v_m, v_c, par):
        """Flows s_m, s_c [veh/s] of a stream that a road whose first cell moves at v_m, v_c [m/s] can take.

        The middle state of the Riemann problem keeps the mean speed beyond the contact; if its density is below the
        peak, the road takes the peak flow. Each class has its own share: motorcycles enter a road where cars stand.
        """
        r = density_at_speed(share_m, share_c, w_m, w_c, share_m * v_m + share_c * v_c, par)
        r_peak = peak_density(share_m, share_c, w_m, w_c, par)
        if r > r_peak:
            return r * share_m * v_m, r * share_c * v_c
        u_m, u_c = speeds(r_peak * share_m, r_peak * share_c, w_m, w_c, par)
        return r_peak * share_m * u_m, r_peak * share_c * u_c

    @jit
    def enter(v_m, v_c, free_m, free_c, waiting_m, waiting_c, arriving_m, arriving_c, dt, par):
        """Flows [veh/s] into a road from its point queue: by class min(waiting / dt + arriving, supply)."""
        sent_m = waiting_m / dt + arriving_m
        sent_c = waiting_c / dt + arriving_c
        r_m, r_c = sent_m / free_m, sent_c / free_c
        r = r_m + r_c
        if not r > tiny:
            return zero, zero
        room_m, room_c = supply(r_m / r, r_c / r, free_m, free_c, v_m, v_c, par)
        return (sent_m if sent_m < room_m else room_m), (sent_c if sent_c < room_c else room_c)

    @jit
    def receive(node, ends, nodes, inlets, outlets, ratios, lengths, par):
        """Supplies of the outlets of one node, each for the mixture of those who want to enter it; writes ROOM.

        nodes : (K, 5) — first and last + 1 of inlets, of outlets, first of ratios. ratios : by inlet, then outlet.
        lengths : (6, S), as in network.Layout.
        """
        in_0, in_1, out_0, out_1 = (
            index(nodes[node, 0]),
            index(nodes[node, 1]),
            index(nodes[node, 2]),
            index(nodes[node, 3]),
        )
        ratio_0, n_out = index(nodes[node, 4]), out_1 - out_0
        for b in range(out_0, out_1):
            j = index(outlets[b])
            r_m = r_c = d_m = d_c = y_m = y_c = zero
            for a in range(in_0, in_1):
                i = index(inlets[a])
                ratio = ratios[ratio_0 + (a - in_0) * n_out + (b - out_0)]
                r_m += ratio * ends[i, 0]
                r_c += ratio * ends[i, 1]
                d_m += ratio * ends[i, 2]
                d_c += ratio * ends[i, 3]
                y_m += ratio * ends[i, 2] * ends[i, 4]
                y_c += ratio * ends[i, 3] * ends[i, 5]
            ends[j, 14] = ends[j, 15] = zero
            r = r_m + r_c
            if r > tiny:
                w_m = y_m / d_m if d_m > tiny else lengths[4, j]
                w_c = y_c / d_c if d_c > tiny else lengths[5, j]
                ends[j, 14], ends[j, 15] = supply(r_m / r, r_c / r, w_m, w_c, ends[j, 6], ends[j, 7], par)

    @jit
    def join(node, c, ends, nodes, inlets, outlets, ratios, priorities):
        """Flows of class c out of the inlets of one node, of any number of inlets and outlets; writes OUT.

        Each class keeps its order on every inlet (first in, first out) and splits by the turning ratios, so that an
        inlet sends no more than its most restricted outlet lets through. Where inlets compete, they share the supply by
        priority; what one does not use goes to the others. Both rho and y are conserved: vehicles bring their w along.

        Herty, Moutari & Rascle (2006), Netw. Heterog. Media 1(2):275-294 (moments conserved, mixture of w);
        Tampere et al. (2011), Transp. Res. B 45(1):289-309 (distribution of supply).
        """
        in_0, in_1, out_0, out_1 = (
            index(nodes[node, 0]),
            index(nodes[node, 1]),
            index(nodes[node, 2]),
            index(nodes[node, 3]),
        )
        ratio_0, n_out = index(nodes[node, 4]), out_1 - out_0
        for a in range(in_0, in_1):
            ends[index(inlets[a]), out_flow + c] = -one
        for _ in range(in_0, in_1):
            level, tightest, found = zero, out_0, False
            for b in range(out_0, out_1):
                room = ends[index(outlets[b]), room_0 + c]
                wanted = weight = zero
                for a in range(in_0, in_1):
                    i = index(inlets[a])
                    ratio = ratios[ratio_0 + (a - in_0) * n_out + (b - out_0)]
                    if ends[i, out_flow + c] < zero:
                        wanted += ratio * ends[i, wanted_0 + c]
                        weight += ratio * priorities[a]
                    else:
                        room -= ratio * ends[i, out_flow + c]
                if wanted > room and weight > zero:
                    share = room / weight if room > zero else zero
                    if not found or share < level:
                        level, tightest, found = share, b, True
            if not found:
                break
            satisfied = False
            for a in range(in_0, in_1):
                i = index(inlets[a])
                ratio = ratios[ratio_0 + (a - in_0) * n_out + (tightest - out_0)]
                if ends[i, out_flow + c] < zero and ratio > zero and ends[i, wanted_0 + c] <= level * priorities[a]:
                    ends[i, out_flow + c] = ends[i, wanted_0 + c]
                    satisfied = True
            if not satisfied:
                for a in range(in_0, in_1):
                    i = index(inlets[a])
                    ratio = ratios[ratio_0 + (a - in_0) * n_out + (tightest - out_0)]
                    if ends[i, out_flow + c] < zero and ratio > zero:
                        ends[i, out_flow + c] = level * priorities[a]
        for a in range(in_0, in_1):
            i = index(inlets[a])
            if ends[i, out_flow + c] < zero:
                ends[i, out_flow + c] = ends[i, wanted_0 + c]

    @jit
    def hand_over(node, c, ends, nodes, inlets, outlets, ratios):
        """Flows of class c into the outlets of one node, from those out of its inlets; writes IN and IN_Y."""
        in_0, in_1, out_0, out_1 = (
            index(nodes[node, 0]),
            index(nodes[node, 1]),
            index(nodes[node, 2]),
            index(nodes[node, 3]),
        )
        ratio_0, n_out = index(nodes[node, 4]), out_1 - out_0
        for b in range(out_0, out_1):
            j = index(outlets[b])
            flow = flow_y = zero
            for a in range(in_0, in_1):
                i = index(inlets[a])
                ratio = ratios[ratio_0 + (a - in_0) * n_out + (b - out_0)]
                flow += ratio * ends[i, out_flow + c]
                flow_y += ratio * ends[i, out_flow + c] * ends[i, property_0 + c]
            ends[j, in_flow + c] = flow
            ends[j, in_y + c] = flow_y

    @jit
    def press(node, total, nodes, inlets, outlets, ratios):
        """From the pressure of each inlet of a node take the time spent on its outlets, by turning ratio [veh s].

        total : (S, 16), columns of state.OBSERVABLES; `vehicles` is complete, `pressure` holds the inlet's own.
        """
        in_0, out_0, out_1 = index(nodes[node, 0]), index(nodes[node, 2]), index(nodes[node, 3])
        ratio_0, n_out = index(nodes[node, 4]), out_1 - out_0
        for a in range(in_0, index(nodes[node, 1])):
            i = index(inlets[a])
            for b in range(out_0, out_1):
                j, ratio = index(outlets[b]), ratios[ratio_0 + (a - in_0) * n_out + (b - out_0)]
                for c in range(index(2)):
                    total[i, pressure_0 + c] -= ratio * total[j, vehicles_0 + c]

    return Junction(send, supply, enter, receive, join, hand_over, press)
