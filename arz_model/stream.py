"""Demand and supply of a stream of traffic, as scalar functions.

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
from arz_model.target import Target

TINY = 1e-30
"""Below this density [veh/m] or flow [veh/s] nothing is sent: its reciprocal would overflow."""


class Stream(NamedTuple):
    """Scalar functions of a stream; see each for equation and units."""

    send: Callable[..., Any]
    supply: Callable[..., Any]


def make_stream(closure: Closure, dtype: type[np.floating[Any]], target: Target) -> Stream:
    """Demand and supply for one closure, in `dtype`, compiled for `target`."""
    jit = target.jit
    zero, one, tiny = dtype(0), dtype(1), dtype(TINY)
    speeds, sending_density, taking_density = closure.speeds, closure.sending_density, closure.taking_density

    @jit
    def send(rho_m, rho_c, w_m, w_c, capacity, par):
        """Densities r_i and flows d_i that the last cell of a road can send into an empty one [veh/m], [veh/s].

        Beyond the peak density r*, those of the same stream at r*. `capacity` [veh/s] limits both classes together: the
        saturation flow of the stop line, or 0 at red.
        """
        r = rho_m + rho_c
        scale = one / r if r > tiny else zero
        sent = sending_density(rho_m * scale, rho_c * scale, w_m, w_c, r, par)
        shrink = sent * scale if r > sent else one
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
        taken, slow = taking_density(share_m, share_c, w_m, w_c, share_m * v_m + share_c * v_c, par)
        u_m, u_c = speeds(taken * share_m, taken * share_c, w_m, w_c, par)
        return taken * share_m * (v_m if slow else u_m), taken * share_c * (v_c if slow else u_c)

    return Stream(send, supply)
