"""Values at cell faces from cell averages, as scalar functions of a stencil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.target import Target

SCHEMES = ("hll", "minmod", "van_leer", "weno5")
"""First order; MUSCL with one of two limiters; WENO of fifth order."""


class Scheme(NamedTuple):
    """What a scheme needs besides its reconstruction."""

    n_ghost: int
    cfl: float
    """Largest dt times speed over dx that keeps densities non-negative."""
    keep: tuple[float, ...]
    """Weight of the state at the start of the step in each Runge-Kutta stage (SSP, Shu & Osher 1988)."""
    flux_weight: tuple[float, ...]
    """Weight of each stage's flux in the whole step."""


SCHEME: dict[str, Scheme] = {
    "hll": Scheme(1, 1.0, (0.0,), (1.0,)),
    "minmod": Scheme(2, 0.5, (0.0, 0.5), (0.5, 0.5)),
    "van_leer": Scheme(2, 0.5, (0.0, 0.5), (0.5, 0.5)),
    "weno5": Scheme(3, 1.0 / 12.0, (0.0, 0.75, 1.0 / 3.0), (1.0 / 6.0, 1.0 / 6.0, 2.0 / 3.0)),
}
"""Gottlieb, Shu & Tadmor (2001), SIAM Review 43(1):89-112 for the steps; Zhang & Shu (2010) for the last CFL number."""


def make_slopes(scheme: str, dtype: type[np.floating[Any]], target: Target) -> Callable[..., Any]:
    """The limited slopes of MUSCL for two quantities, a function of their one-sided differences a, b and c, d."""
    jit = target.jit
    zero, one, two, tiny = dtype(0), dtype(1), dtype(2), dtype(1e-30)

    @jit
    def minmod(a, b):
        """The smaller difference if both have one sign, else 0: the median of a, b and 0."""
        low, high = (a if a < b else b), (b if a < b else a)
        high = high if high < zero else zero
        return low if low > high else high

    @jit
    def both_minmod(a, b, c, d):
        """minmod of either pair."""
        return minmod(a, b), minmod(c, d)

    @jit
    def both_van_leer(a, b, c, d):
        """The harmonic mean, 2 ab / (a + b), where both differences have one sign, else 0; one division."""
        first, second = a * b, c * d
        some, some_too = first > tiny, second > tiny
        sum_1, sum_2 = a + b if some else one, c + d if some_too else one
        scale = two / (sum_1 * sum_2)
        return first * (sum_2 * scale) if some else zero, second * (sum_1 * scale) if some_too else zero

    return both_minmod if scheme == "minmod" else both_van_leer


def make_weno5(dtype: type[np.floating[Any]], target: Target) -> Callable[..., Any]:
    """Fifth-order WENO: the value at the right face of the middle of five cells.

    Jiang & Shu (1996), J. Comput. Phys. 126(1):202-228. Mirror the arguments for the left face.
    """
    jit = target.jit
    c13_12, quarter, sixth = dtype(13.0 / 12.0), dtype(0.25), dtype(1.0 / 6.0)
    two, three, four, five, seven, eleven = dtype(2), dtype(3), dtype(4), dtype(5), dtype(7), dtype(11)
    d0, d1, d2 = dtype(0.1), dtype(0.6), dtype(0.3)
    epsilon = dtype(1e-6)

    @jit
    def weno5(a, b, c, d, e):
        """Value at the face between c and d."""
        curve_0, curve_1, curve_2 = a - two * b + c, b - two * c + d, c - two * d + e
        tilt_0, tilt_1, tilt_2 = a - four * b + three * c, b - d, three * c - four * d + e
        beta_0 = epsilon + c13_12 * curve_0 * curve_0 + quarter * tilt_0 * tilt_0
        beta_1 = epsilon + c13_12 * curve_1 * curve_1 + quarter * tilt_1 * tilt_1
        beta_2 = epsilon + c13_12 * curve_2 * curve_2 + quarter * tilt_2 * tilt_2
        w_0, w_1, w_2 = d0 / (beta_0 * beta_0), d1 / (beta_1 * beta_1), d2 / (beta_2 * beta_2)
        face_0 = two * a - seven * b + eleven * c
        face_1 = five * c - b + two * d
        face_2 = two * c + five * d - e
        return sixth * (w_0 * face_0 + w_1 * face_1 + w_2 * face_2) / (w_0 + w_1 + w_2)

    return weno5
