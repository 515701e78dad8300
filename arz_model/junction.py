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


class Junction(NamedTuple):
    """Functions of one node; see each.

    nodes : (K, 5) — first and last + 1 of inlets, of outlets, first of ratios. ratios : by inlet, then outlet.
    """

    mix: Callable[..., Any]
    join: Callable[..., Any]
    press: Callable[..., Any]


def make_junction(
    width: int, dtype: type[np.floating[Any]], jit: Callable[..., Any], index: Any = np.int64
) -> Junction:
    """The functions for rows of `width` elements, compiled by `jit`; `index` is the type of subscripts."""
    zero, one, tiny = dtype(0), dtype(1), dtype(TINY)
    free_0, sent_0, demand_0, property_0 = (index(k * width) for k in (FREE, SENT, DEMAND, PROPERTY))
    mixed_0, mixed_w_0, room_0, out_0 = (index(k * width) for k in (MIXED, MIXED_W, ROOM, OUT))
    in_0, in_y_0, next_class = index(IN * width), index(IN_Y * width), index(width)
    vehicles_0, pressure_0 = (index(2 * OBSERVABLES.index(name)) for name in ("vehicles", "pressure"))

    @jit
    def parts(node, nodes):
        """First and last + 1 of its inlets and of its outlets, and where its ratios begin."""
        a, b, c, d, e = nodes[node, 0], nodes[node, 1], nodes[node, 2], nodes[node, 3], nodes[node, 4]
        return index(a), index(b), index(c), index(d), index(e)

    @jit
    def mix(node, c, ends, nodes, inlets, outlets, ratios):
        """What wants to enter the outlets: density of class c [veh/m] and mean w of its flow [m/s]; writes MIXED."""
        first, last, begin, end, ratio_0 = parts(node, nodes)
        n_out, o = end - begin, c * next_class
        for b in range(begin, end):
            r = d = y = zero
            for a in range(first, last):
                i = o + index(inlets[a])
                ratio = ratios[ratio_0 + (a - first) * n_out + (b - begin)]
                r += ratio * ends[sent_0 + i]
                d += ratio * ends[demand_0 + i]
                y += ratio * ends[demand_0 + i] * ends[property_0 + i]
            j = o + index(outlets[b])
            ends[mixed_0 + j] = r
            ends[mixed_w_0 + j] = y / d if d > tiny else ends[free_0 + j]

    @jit
    def join(node, c, ends, nodes, inlets, outlets, ratios, priorities):
        """Flows of class c out of the inlets and into the outlets; writes OUT of those, IN and IN_Y of these."""
        first, last, begin, end, ratio_0 = parts(node, nodes)
        n_out, o = end - begin, c * next_class
        wanted_c, room_c, out_c, property_c = demand_0 + o, room_0 + o, out_0 + o, property_0 + o
        for a in range(first, last):
            ends[out_c + index(inlets[a])] = -one
        for _ in range(first, last):
            level, tightest, found = zero, begin, False
            for b in range(begin, end):
                room = ends[room_c + index(outlets[b])]
                wanted = weight = zero
                for a in range(first, last):
                    i = index(inlets[a])
                    ratio = ratios[ratio_0 + (a - first) * n_out + (b - begin)]
                    if ends[out_c + i] < zero:
                        wanted += ratio * ends[wanted_c + i]
                        weight += ratio * priorities[a]
                    else:
                        room -= ratio * ends[out_c + i]
                if wanted > room and weight > zero:
                    share = room / weight if room > zero else zero
                    if not found or share < level:
                        level, tightest, found = share, b, True
            if not found:
                break
            satisfied = False
            for a in range(first, last):
                i = index(inlets[a])
                ratio = ratios[ratio_0 + (a - first) * n_out + (tightest - begin)]
                if ends[out_c + i] < zero and ratio > zero and ends[wanted_c + i] <= level * priorities[a]:
                    ends[out_c + i] = ends[wanted_c + i]
                    satisfied = True
            if not satisfied:
                for a in range(first, last):
                    i = index(inlets[a])
                    ratio = ratios[ratio_0 + (a - first) * n_out + (tightest - begin)]
                    if ends[out_c + i] < zero and ratio > zero:
                        ends[out_c + i] = level * priorities[a]
        for a in range(first, last):
            i = index(inlets[a])
            if ends[out_c + i] < zero:
                ends[out_c + i] = ends[wanted_c + i]
        for b in range(begin, end):
            j = o + index(outlets[b])
            flow = flow_y = zero
            for a in range(first, last):
                i = index(inlets[a])
                ratio = ratios[ratio_0 + (a - first) * n_out + (b - begin)]
                flow += ratio * ends[out_c + i]
                flow_y += ratio * ends[out_c + i] * ends[property_c + i]
            ends[in_0 + j], ends[in_y_0 + j] = flow, flow_y

    @jit
    def press(node, total, nodes, inlets, outlets, ratios):
        """From the pressure of each inlet take the time spent on its outlets, by turning ratio [veh s].

        total : (S, 16), columns of state.OBSERVABLES; `vehicles` is complete, `pressure` holds the inlet's own.
        """
        first, last, begin, end, ratio_0 = parts(node, nodes)
        n_out = end - begin
        for a in range(first, last):
            i = index(inlets[a])
            for b in range(begin, end):
                j, ratio = index(outlets[b]), ratios[ratio_0 + (a - first) * n_out + (b - begin)]
                for c in range(index(2)):
                    total[i, pressure_0 + c] -= ratio * total[j, vehicles_0 + c]

    return Junction(mix, join, press)
