"""The closure of the model and the eigenvalue bounds, as scalar functions.

`make_closure` returns functions bound to one closure and one floating-point type. The CPU loop compiles them with
`numba.njit`, the CUDA kernel with `cuda.jit(device=True)`; the source is this one.

`par` is the tuple of scalars that `parameter_vector` lists: m/veh for the first four, m/s for the last two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.parameters import Parameters

N_PARAMETERS = 6


class Closure(NamedTuple):
    """Scalar functions of one closure; see each for equation and units."""

    speeds: Callable[..., Any]
    wave_bounds: Callable[..., Any]
    equilibrium_w: Callable[..., Any]
    peak_density: Callable[..., Any]
    density_at_speed: Callable[..., Any]


def parameter_vector(parameters: Parameters) -> tuple[float, ...]:
    """(a_mm, a_mc, a_cm, a_cc) / rho_jam [m/veh], k_m, k_c [m/s]: what kernels receive as `par`."""
    p = parameters
    return (p.a_mm / p.rho_jam, p.a_mc / p.rho_jam, p.a_cm / p.rho_jam, p.a_cc / p.rho_jam, p.k_m, p.k_c)


def make_garz(dtype: type[np.floating[Any]], jit: Callable[..., Any]) -> Closure:
    """Closure G: v_i = w_i max(0, 1 - O_i), O_i = a_im rho_m + a_ic rho_c (Fan, Herty & Seibold 2014)."""
    zero, one, two = dtype(0), dtype(1), dtype(2)

    @jit
    def speeds(rho_m, rho_c, w_m, w_c, par):
        """Speeds v_m, v_c [m/s] of densities rho_i [veh/m] and driver properties w_i [m/s]."""
        free_m = one - (par[0] * rho_m + par[1] * rho_c)
        free_c = one - (par[2] * rho_m + par[3] * rho_c)
        return w_m * (free_m if free_m > zero else zero), w_c * (free_c if free_c > zero else zero)

    @jit
    def wave_bounds(rho_m, rho_c, w_m, w_c, v_m, v_c, par):
        """Bounds s_l <= lambda <= s_r [m/s] of the four eigenvalues of one state.

        The eigenvalues are v_m, v_c and lambda_+- = (A + D)/2 +- sqrt(((A - D)/2)**2 + bc) with
        A = v_m - w_m a_mm rho_m, D = v_c - w_c a_cc rho_c, bc >= 0. Anisotropy gives
        lambda_+ <= max(v), and lambda_- = A + D - lambda_+ then gives s_l = A + D - max(v) without a square root;
        no wave is faster backwards than the largest w.
        """
        s_r = v_m if v_m > v_c else v_c
        s_l = (v_m - w_m * (par[0] * rho_m)) + (v_c - w_c * (par[3] * rho_c)) - s_r
        w = w_m if w_m > w_c else w_c
        return (s_l if s_l > -w else -w), s_r

    @jit
    def equilibrium_w(rho_m, rho_c, free_m, free_c, par):
        """w_i towards which drivers relax [m/s]: the free speed, so that V_e = V(rho, w_eq) exactly."""
        return free_m, free_c

    @jit
    def peak_density(share_m, share_c, w_m, w_c, par):
        """Density r [veh/m] of a stream of fixed class shares at which its flow is largest.

        q(r) = r (W - M r) with W = sum_i share_i w_i, M = sum_i share_i w_i k_i, k_i = sum_j a_ij share_j; r = W / 2M.
        """
        k_m = par[0] * share_m + par[1] * share_c
        k_c = par[2] * share_m + par[3] * share_c
        mean_w = share_m * w_m + share_c * w_c
        slope = share_m * w_m * k_m + share_c * w_c * k_c
        return mean_w / (two * slope) if slope > zero else zero

    @jit
    def density_at_speed(share_m, share_c, w_m, w_c, v, par):
        """Density r [veh/m] at which the mean speed of that stream is v [m/s]: r = (W - v) / M, 0 when v >= W."""
        k_m = par[0] * share_m + par[1] * share_c
        k_c = par[2] * share_m + par[3] * share_c
        mean_w = share_m * w_m + share_c * w_c
        slope = share_m * w_m * k_m + share_c * w_c * k_c
        return (mean_w - v) / slope if v < mean_w else zero

    return Closure(speeds, wave_bounds, equilibrium_w, peak_density, density_at_speed)


def make_closure(name: str, dtype: type[np.floating[Any]], jit: Callable[..., Any]) -> Closure:
    """The scalar functions of closure `name`, in `dtype`, compiled by `jit`."""
    return {"garz": make_garz}[name](dtype, jit)
