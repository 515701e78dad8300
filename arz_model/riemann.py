"""The approximate Riemann solver at a cell interface, as scalar functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

VACUUM = {"float64": 1e-12, "float32": 1e-7}
"""Density [veh/m] at and below which a cell counts as empty of a class: its drivers are those of the free road."""


class Riemann(NamedTuple):
    """Scalar functions of the interface solver; see each for equation and units."""

    driver_property: Callable[..., Any]
    hll_weights: Callable[..., Any]
    hll_rates: Callable[..., Any]


def make_riemann(dtype: type[np.floating[Any]], jit: Callable[..., Any]) -> Riemann:
    """HLL for the two-speed system, in `dtype`, compiled by `jit`."""
    zero, one = dtype(0), dtype(1)
    vacuum = dtype(VACUUM[np.dtype(dtype).name])
    tiny = dtype(1e-30)

    @jit
    def driver_property(rho, y, w_free):
        """w = y / rho [m/s]; in an empty cell `w_free`, so that a queue can start into it."""
        return y / rho if rho > vacuum else w_free

    @jit
    def hll_weights(s_left, s_right):
        """Weights (a, b, d) of the HLL flux F = a f_l + b f_r - d (q_r - q_l), from bounds of all wave speeds.

        a = s_r / (s_r - s_l),  b = -s_l / (s_r - s_l),  d = -s_l s_r / (s_r - s_l)
        """
        lower = s_left if s_left < zero else zero
        upper = s_right if s_right > zero else zero
        width = upper - lower
        scale = one / (width if width > tiny else tiny)
        a = upper * scale
        b = -lower * scale
        return a, b, b * upper

    @jit
    def hll_rates(v_l, v_r, a, b, d):
        """Rates (r_l, r_r) [m/s] at which what travels at v_l on the left and at v_r on the right crosses the face.

        The flux of any quantity q that is carried along is F = r_l q_l + r_r q_r, r_l >= 0 >= r_r: the HLL flux
        a q_l v_l + b q_r v_r - d (q_r - q_l) in order of its states. Harten, Lax & van Leer (1983), SIAM Review
        25(1):35-61.
        """
        return a * v_l + d, b * v_r - d

    return Riemann(driver_property, hll_weights, hll_rates)
