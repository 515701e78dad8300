"""Flows through a node of any number of inlets and outlets, as scalar functions over the rows of `ends` (see ends).

Each class keeps its order on every inlet (first in, first out) and splits by the turning ratios, so that an inlet sends
no more than its most restricted outlet lets through. Where inlets compete, they share the supply by priority; what one
does not use goes to the others. Both rho and y are conserved: vehicles bring their w along, and an outlet's supply is
that for the mixture of those who want to enter it.

References
----------
Herty, Moutari & Rascle (2006), Netw. Heterog. Media 1(2):275-294 (moments conserved, mixture of w).
Tampere et al. (2011), Transp. Res. B 45(1):289-309 (distribution of supply).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.ends import DEMAND, FREE, IN, IN_Y, MIXED, MIXED_W, OUT, PROPERTY, ROOM, SENT
from arz_model.state import OBSERVABLES
from arz_model.stream import TINY
from arz_model.target import Target


class Junction(NamedTuple):
    """Functions of one node; see each.

    nodes : (K, 4) — first of inlets, first of outlets, number of outlets, first of ratios. ratios : by inlet, then
    outlet. inlets, outlets : segments; -1 ends the list of each node: lists of a number known beforehand are unrolled
    by compilers, which takes twice the registers on a GPU.
    """

    mix: Callable[..., Any]
    join: Callable[..., Any]
    press: Callable[..., Any]


def make_junction(width: int, dtype: type[np.floating[Any]], target: Target, index: Any = np.int64) -> Junction:
    """The functions for rows of `width` elements, compiled for `target`; `index` is the type of subscripts."""
    jit = target.jit
    zero, one, tiny, step = dtype(0), dtype(1), dtype(TINY), index(1)
    free_0, sent_0, demand_0, property_0 = (index(k * width) for k in (FREE, SENT, DEMAND, PROPERTY))
    mixed_0, mixed_w_0, room_0, out_0 = (index(k * width) for k in (MIXED, MIXED_W, ROOM, OUT))
    in_0, in_y_0, next_class = index(IN * width), index(IN_Y * width), index(width)
    vehicles_0, pressure_0 = (index(2 * OBSERVABLES.index(name)) for name in ("vehicles", "pressure"))

    @jit
    def parts(node, nodes):
        """Where its inlets begin, where its outlets begin, how many those are, where its ratios begin."""
        a, b, n, r = nodes[node, 0], nodes[node, 1], nodes[node, 2], nodes[node, 3]
        return index(a), index(b), index(n), index(r)

    @jit
    def mix(node, c, ends, nodes, inlets, outlets, ratios):
        """What wants to enter the outlets: density of class c [veh/m] and mean w of its flow [m/s]; writes MIXED."""
        first, b, n_out, at = parts(node, nodes)
        o = c * next_class
        while outlets[b] >= 0:
            j = o + index(outlets[b])
            r = d = y = zero
            a, t = first, at
            while inlets[a] >= 0:
                i, ratio = o + index(inlets[a]), ratios[t]
                r += ratio * ends[sent_0 + i]
                d += ratio * ends[demand_0 + i]
                y += ratio * ends[demand_0 + i] * ends[property_0 + i]
                a, t = a + step, t + n_out
            ends[mixed_0 + j] = r
            ends[mixed_w_0 + j] = y / d if d > tiny else ends[free_0 + j]
            b, at = b + step, at + step

    @jit
    def join(node, c, ends, nodes, inlets, outlets, ratios, priorities):
        """Flows of class c out of the inlets and into the outlets; writes OUT of those, IN and IN_Y of these.

        Each round finds the outlet that leaves least to each of its inlets, and settles those: with what they want if
        it is no more, else with that. Flows that are not settled yet are -1.
        """
        first, begin, n_out, at_0 = parts(node, nodes)
        o = c * next_class
        a = first
        while inlets[a] >= 0:
            ends[out_0 + o + index(inlets[a])] = -one
            a += step
        while True:
            level, tightest, found = zero, at_0, False
            b, at = begin, at_0
            while outlets[b] >= 0:
                room = ends[room_0 + o + index(outlets[b])]
                wanted = weight = zero
                a, t = first, at
                while inlets[a] >= 0:
                    i, ratio = o + index(inlets[a]), ratios[t]
                    if ends[out_0 + i] < zero:
                        wanted += ratio * ends[demand_0 + i]
                        weight += ratio * priorities[a]
                    else:
                        room -= ratio * ends[out_0 + i]
                    a, t = a + step, t + n_out
                if wanted > room and weight > zero:
                    share = room / weight if room > zero else zero
                    if not found or share < level:
                        level, tightest, found = share, at, True
                b, at = b + step, at + step
            if not found:
                break
            satisfied = False
            a, t = first, tightest
            while inlets[a] >= 0:
                i = o + index(inlets[a])
                if ends[out_0 + i] < zero and ratios[t] > zero and ends[demand_0 + i] <= level * priorities[a]:
                    ends[out_0 + i] = ends[demand_0 + i]
                    satisfied = True
                a, t = a + step, t + n_out
            a, t = first, tightest
            while inlets[a] >= 0 and not satisfied:
                i = o + index(inlets[a])
                if ends[out_0 + i] < zero and ratios[t] > zero:
                    ends[out_0 + i] = level * priorities[a]
                a, t = a + step, t + n_out
        a = first
        while inlets[a] >= 0:
            i = o + index(inlets[a])
            if ends[out_0 + i] < zero:
                ends[out_0 + i] = ends[demand_0 + i]
            a += step
        b, at = begin, at_0
        while outlets[b] >= 0:
            j = o + index(outlets[b])
            flow = flow_y = zero
            a, t = first, at
            while inlets[a] >= 0:
                i, ratio = o + index(inlets[a]), ratios[t]
                flow += ratio * ends[out_0 + i]
                flow_y += ratio * ends[out_0 + i] * ends[property_0 + i]
                a, t = a + step, t + n_out
            ends[in_0 + j], ends[in_y_0 + j] = flow, flow_y
            b, at = b + step, at + step

    @jit
    def press(node, total, nodes, inlets, outlets, ratios):
        """From the pressure of each inlet take the time spent on its outlets, by turning ratio [veh s].

        total : (S, 16), columns of state.OBSERVABLES; `vehicles` is complete, `pressure` holds the inlet's own.
        """
        a, begin, _, at = parts(node, nodes)
        while inlets[a] >= 0:
            i, b = index(inlets[a]), begin
            while outlets[b] >= 0:
                j, ratio = index(outlets[b]), ratios[at]
                for c in range(index(2)):
                    total[i, pressure_0 + c] -= ratio * total[j, vehicles_0 + c]
                b, at = b + step, at + step
            a += step

    return Junction(mix, join, press)
