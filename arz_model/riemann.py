"""The approximate Riemann solver at a cell interface, as scalar functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.target import Target

VACUUM = {"float64": 1e-12, "float32": 1e-7}
"""Density [veh/m] at and below which a cell counts as empty of a class: its drivers are those of the free road."""


class Riemann(NamedTuple):
    """Scalar functions of the interface solver; see each for equation and units."""

    driver_properties: Callable[..., Any]
    hll_waves: Callable[..., Any]
    hll_rates: Callable[..., Any]


def make_riemann(dtype: type[np.floating[Any]], target: Target) -> Riemann:
    """HLL for the two-speed system, in `dtype`, compiled for `target`."""
    jit = target.jit
    zero, one = dtype(0), dtype(1)
    vacuum = dtype(VACUUM[np.dtype(dtype).name])
    tiny = dtype(1e-30)

    @jit
    def driver_properties(rho_m, y_m, rho_c, y_c, free_m, free_c):
        """w_i = y_i / rho_i [m/s]; the free speed where a class is absent, so that a queue can start there.

        One division for both classes: 1 / rho_m = rho_c / (rho_m rho_c).
        """
        some_m, some_c = rho_m > vacuum, rho_c > vacuum
        r_m, r_c = rho_m if some_m else one, rho_c if some_c else one
        scale = one / (r_m * r_c)
        return y_m * (r_c * scale) if some_m else free_m, y_c * (r_m * scale) if some_c else free_c

    @jit
    def hll_waves(s_left, s_right):
        """Outer waves (s_l <= 0, s_r > 0) of a face [m/s] and 1 / (s_r - s_l) [s/m], from bounds of all waves."""
        s_l = s_left if s_left < zero else zero
        s_r = s_right if s_right > tiny else tiny
        return s_l, s_r, one / (s_r - s_l)

    @jit
    def hll_rates(v_l, v_r, s_l, s_r):
        """(r_l, r_r) [m**2/s**2]: how what travels at v_l on the left and at v_r on the right crosses a face.

        The flux of any quantity q that is carried along is (r_l q_l + r_r q_r) / (s_r - s_l), r_l >= 0 >= r_r: the HLL
        flux (s_r q_l v_l - s_l q_r v_r + s_l s_r (q_r - q_l)) / (s_r - s_l) in order of its states. Harten, Lax &
        van Leer (1983), SIAM Review 25(1):35-61.
        """
        return s_r * (v_l - s_l), s_l * (s_r - v_r)

    return Riemann(driver_properties, hll_waves, hll_rates)
