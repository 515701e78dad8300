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


class Junction(NamedTuple):
    """Scalar functions of road ends; see each for equation and units."""

    demand: Callable[..., Any]
    supply: Callable[..., Any]


def make_junction(closure: Closure, dtype: type[np.floating[Any]], jit: Callable[..., Any]) -> Junction:
    """Demand and supply for one closure, in `dtype`, compiled by `jit`."""
    zero, one = dtype(0), dtype(1)
    speeds = closure.speeds
    peak_density = closure.peak_density
    density_at_speed = closure.density_at_speed

    @jit
    def demand(rho_m, rho_c, w_m, w_c, par):
        """Flows d_m, d_c [veh/s] that the last cell of a road can send into an empty one.

        Beyond the peak density r*, the flows of the same stream at r*; never more than rho_i w_i.
        """
        r = rho_m + rho_c
        scale = one / r if r > zero else zero
        r_peak = peak_density(rho_m * scale, rho_c * scale, w_m, w_c, par)
        shrink = r_peak * scale if r > r_peak else one
        sent_m, sent_c = rho_m * shrink, rho_c * shrink
        v_m, v_c = speeds(sent_m, sent_c, w_m, w_c, par)
        d_m, d_c = sent_m * v_m, sent_c * v_c
        return (d_m if d_m > zero else zero), (d_c if d_c > zero else zero)

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

    return Junction(demand, supply)
