"""The closures of the model and their eigenvalue bounds, as scalar functions.

`make_closure` returns functions bound to one closure and one floating-point type. The CPU loop compiles them with
`numba.njit`, the CUDA kernel with `cuda.jit(device=True)` (see target); the source is this one.

`par` is the tuple of scalars that `parameter_vector` lists: [m/veh] for the first four, [m/s] for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.parameters import Parameters
from arz_model.target import Target

HALLEY_STEPS = 20
"""At most this many steps find a density under closure arz; three are enough unless it is almost 0."""


class Closure(NamedTuple):
    """Scalar functions of one closure; see each for equation and units."""

    speeds: Callable[..., Any]
    properties: Callable[..., Any]
    wave_bounds: Callable[..., Any]
    equilibrium_w: Callable[..., Any]
    sending_density: Callable[..., Any]
    taking_density: Callable[..., Any]


class ClosureKey(NamedTuple):
    """What a compiled kernel is specialised for."""

    name: str
    gamma_m: float
    gamma_c: float


def closure_key(parameters: Parameters) -> ClosureKey:
    """The part of the parameters that is compiled in; the rest is passed as `par`."""
    p = parameters
    return ClosureKey(p.closure, p.gamma_m, p.gamma_c) if p.closure == "arz" else ClosureKey(p.closure, 1.0, 1.0)


def parameter_vector(parameters: Parameters, w_max: float) -> tuple[float, ...]:
    """(a_mm, a_mc, a_cm, a_cc) / rho_jam [m/veh], k_m, k_c, w_max [m/s]: what kernels receive as `par`."""
    p = parameters
    return (p.a_mm / p.rho_jam, p.a_mc / p.rho_jam, p.a_cm / p.rho_jam, p.a_cc / p.rho_jam, p.k_m, p.k_c, w_max)


def make_closure(key: ClosureKey, dtype: type[np.floating[Any]], target: Target) -> Closure:
    """The scalar functions of a closure, in `dtype`, compiled for `target`."""
    if key.name == "garz":
        return make_garz(dtype, target)
    if key.name == "arz":
        return make_arz(key.gamma_m, key.gamma_c, dtype, target)
    return make_jamiton(dtype, target)


def make_garz(dtype: type[np.floating[Any]], target: Target) -> Closure:
    """Closure G: v_i = w_i max(0, 1 - O_i), O_i = a_im rho_m + a_ic rho_c (Fan, Herty & Seibold 2014)."""
    jit, fma = target
    zero, one, two = dtype(0), dtype(1), dtype(2)

    @jit
    def rooms(rho_m, rho_c, par):
        """1 - O_m, 1 - O_c [-]."""
        return fma(-par[0], rho_m, fma(-par[1], rho_c, one)), fma(-par[2], rho_m, fma(-par[3], rho_c, one))

    @jit
    def speeds(rho_m, rho_c, w_m, w_c, par):
        """Speeds v_m, v_c [m/s] of densities rho_i [veh/m] and driver properties w_i [m/s]."""
        free_m, free_c = rooms(rho_m, rho_c, par)
        return w_m * (free_m if free_m > zero else zero), w_c * (free_c if free_c > zero else zero)

    @jit
    def properties(rho_m, rho_c, v_m, v_c, w_m, w_c, par):
        """w_i = v_i / (1 - O_i) [m/s], what drivers who travel at v_i would do on a free road; w_i where they stand."""
        free_m, free_c = rooms(rho_m, rho_c, par)
        return (v_m / free_m if free_m > zero else w_m), (v_c / free_c if free_c > zero else w_c)

    @jit
    def wave_bounds(rho_m, rho_c, w_m, w_c, v_m, v_c, par):
        """Bounds s_l <= lambda <= s_r [m/s] of the four eigenvalues of one state.

        The eigenvalues are v_m, v_c and lambda_+- = (A + D)/2 +- sqrt(((A - D)/2)**2 + bc) with
        A = v_m - w_m a_mm rho_m, D = v_c - w_c a_cc rho_c, bc >= 0. Anisotropy gives
        lambda_+ <= max(v), and lambda_- = A + D - lambda_+ then gives s_l = A + D - max(v) without a square root:
        the smaller speed less both products. No wave is faster backwards than the largest w.
        """
        s_r = v_m if v_m > v_c else v_c
        s_l = fma(-w_m, par[0] * rho_m, fma(-w_c, par[3] * rho_c, v_m if v_m < v_c else v_c))
        w = w_m if w_m > w_c else w_c
        return (s_l if s_l > -w else -w), s_r

    @jit
    def equilibrium_w(rho_m, rho_c, free_m, free_c, par):
        """w_i towards which drivers relax [m/s]: the free speed, so that V_e = V(rho, w_eq) exactly."""
        return free_m, free_c

    @jit
    def mixture(share_m, share_c, w_m, w_c, par):
        """W = sum_i share_i w_i and M = sum_i share_i w_i k_i, k_i = sum_j a_ij share_j: q(r) = r (W - M r)."""
        k_m = par[0] * share_m + par[1] * share_c
        k_c = par[2] * share_m + par[3] * share_c
        return share_m * w_m + share_c * w_c, share_m * w_m * k_m + share_c * w_c * k_c

    @jit
    def sending_density(share_m, share_c, w_m, w_c, r, par):
        """r [veh/m], but at most the density W / 2M at which the flow of a stream of fixed class shares is largest."""
        mean_w, slope = mixture(share_m, share_c, w_m, w_c, par)
        peak = mean_w / (two * slope) if slope > zero else zero
        return peak if r > peak else r

    @jit
    def taking_density(share_m, share_c, w_m, w_c, v, par):
        """Density (W - v) / M at which the mean speed of that stream is v [m/s], and True; if that of the largest flow
        is no less, it and False. In vehicles per metre."""
        mean_w, slope = mixture(share_m, share_c, w_m, w_c, par)
        r = (mean_w - v) / slope if v < mean_w else zero
        peak = mean_w / (two * slope) if slope > zero else zero
        return (r if r > peak else peak), r > peak

    return Closure(speeds, properties, wave_bounds, equilibrium_w, sending_density, taking_density)


def make_power(gamma: float, dtype: type[np.floating[Any]], target: Target) -> Callable[..., Any]:
    """x**(gamma - 1) for gamma of 1, 1.5, 2 or 3, by products and a square root: these vectorise, pow does not."""
    jit, one = target.jit, dtype(1)

    @jit
    def power(x):
        """x**(gamma - 1), x >= 0."""
        if gamma == 1.0:
            return one
        if gamma == 1.5:
            return dtype(math.sqrt(x))
        if gamma == 2.0:
            return x
        return x * x

    return power


def make_root_power(gamma: float, target: Target) -> Callable[..., Any]:
    """s**(2 gamma) for the same gamma: the power of x = s**2 by products alone."""
    jit = target.jit

    @jit
    def root_power(s):
        """s**(2 gamma)."""
        r = s * s
        if gamma == 1.0:
            return r
        if gamma == 1.5:
            return r * s
        if gamma == 2.0:
            return r * r
        return r * r * r

    return root_power


def make_arz(gamma_m: float, gamma_c: float, dtype: type[np.floating[Any]], target: Target) -> Closure:
    """Closure P: v_i = w_i - p_i, p_i = k_i O_i**gamma_i, O_i = a_im rho_m + a_ic rho_c (Aw & Rascle 2000)."""
    jit, fma = target
    zero, one = dtype(0), dtype(1)
    precision = dtype(4.0 * np.finfo(dtype).eps)
    two = dtype(2)
    exponent_m, exponent_c = dtype(gamma_m), dtype(gamma_c)
    bend_m, bend_c = dtype(gamma_m * (2.0 * gamma_m - 1.0)), dtype(gamma_c * (2.0 * gamma_c - 1.0))
    factor_m, factor_c = dtype(1.0 + gamma_m), dtype(1.0 + gamma_c)
    low, high = (dtype(gamma / (1.0 + gamma)) for gamma in (min(gamma_m, gamma_c), max(gamma_m, gamma_c)))
    inverse_m, inverse_c = dtype(1.0 / gamma_m), dtype(1.0 / gamma_c)
    power_m, power_c = make_power(gamma_m, dtype, target), make_power(gamma_c, dtype, target)
    root_power_m, root_power_c = make_root_power(gamma_m, target), make_root_power(gamma_c, target)

    @jit
    def occupancies(rho_m, rho_c, par):
        """O_m, O_c [-]; round-off below vacuum is taken as vacuum."""
        o_m = fma(par[0], rho_m, par[1] * rho_c)
        o_c = fma(par[2], rho_m, par[3] * rho_c)
        return (o_m if o_m > zero else zero), (o_c if o_c > zero else zero)

    @jit
    def pressures(rho_m, rho_c, par):
        """p_m, p_c [m/s]."""
        o_m, o_c = occupancies(rho_m, rho_c, par)
        return par[4] * (o_m * power_m(o_m)), par[5] * (o_c * power_c(o_c))

    @jit
    def speeds(rho_m, rho_c, w_m, w_c, par):
        """Speeds v_i = max(0, w_i - p_i) [m/s]; the state itself is never clipped."""
        p_m, p_c = pressures(rho_m, rho_c, par)
        v_m, v_c = w_m - p_m, w_c - p_c
        return (v_m if v_m > zero else zero), (v_c if v_c > zero else zero)

    @jit
    def properties(rho_m, rho_c, v_m, v_c, w_m, w_c, par):
        """w_i = v_i + p_i [m/s]."""
        p_m, p_c = pressures(rho_m, rho_c, par)
        return v_m + p_m, v_c + p_c

    @jit
    def wave_bounds(rho_m, rho_c, w_m, w_c, v_m, v_c, par):
        """Bounds s_l <= lambda <= s_r [m/s], as for G, with dp_i/drho_i = gamma_i k_i O_i**(gamma_i - 1) a_ii."""
        o_m, o_c = occupancies(rho_m, rho_c, par)
        steep_m = exponent_m * par[4] * power_m(o_m)
        steep_c = exponent_c * par[5] * power_c(o_c)
        s_l = fma(-steep_m, par[0] * rho_m, fma(-steep_c, par[3] * rho_c, v_m if v_m < v_c else v_c))
        return s_l, (v_m if v_m > v_c else v_c)

    @jit
    def equilibrium_w(rho_m, rho_c, free_m, free_c, par):
        """w_i = V_e,i + p_i [m/s] with V_e,i = v_free,i max(0, 1 - O_i): traffic at full occupancy comes to rest."""
        p_m, p_c = pressures(rho_m, rho_c, par)
        o_m, o_c = occupancies(rho_m, rho_c, par)
        room_m, room_c = one - o_m, one - o_c
        return fma(free_m, room_m if room_m > zero else zero, p_m), fma(free_c, room_c if room_c > zero else zero, p_c)

    @jit
    def at_most(x, inverse):
        """A bound of x**(inverse / 2) from above, x >= 0: sqrt(x)**inverse lies below its tangent at 1."""
        return fma(inverse, dtype(math.sqrt(x)) - one, one)

    @jit
    def stiffness(share_m, share_c, par):
        """(K_m, K_c) of p_i = K_i s**(2 gamma_i) in a stream of density s**2, times its share; and k_m, k_c."""
        k_m = par[0] * share_m + par[1] * share_c
        k_c = par[2] * share_m + par[3] * share_c
        return share_m * par[4] * (k_m * power_m(k_m)), share_c * par[5] * (k_c * power_c(k_c)), k_m, k_c

    @jit
    def root(share_m, share_c, a_m, a_c, factor_m, factor_c, par):
        """Density r at which sum_i share_i factor_i p_i(r) = sum_i share_i a_i, p_i(r) = k_i (k r)**gamma_i.

        Halley's method for s = sqrt(r), whose powers are products, from where neither class alone would be below its
        own root: there the left side is convex and increasing, and the steps descend. 0 where the right side is not
        positive.
        """
        wanted = share_m * a_m + share_c * a_c
        if not wanted > zero:
            return zero
        stiff_m, stiff_c, k_m, k_c = stiffness(share_m, share_c, par)
        s = zero
        if share_m > zero and a_m > zero:
            s = at_most(a_m / (factor_m * par[4]), inverse_m) / dtype(math.sqrt(k_m))
        if share_c > zero and a_c > zero:
            alone = at_most(a_c / (factor_c * par[5]), inverse_c) / dtype(math.sqrt(k_c))
            s = alone if alone > s else s
        stiff_m, stiff_c = factor_m * stiff_m, factor_c * stiff_c
        for _ in range(HALLEY_STEPS):
            p_m, p_c = stiff_m * root_power_m(s), stiff_c * root_power_c(s)
            first = two * (exponent_m * p_m + exponent_c * p_c)
            second = two * (bend_m * p_m + bend_c * p_c)
            excess = p_m + p_c - wanted
            if not excess > precision * first:
                break
            s = s - s * (two * excess * first / (two * first * first - excess * second))
        return s * s

    @jit
    def sending_density(share_m, share_c, w_m, w_c, r, par):
        """r [veh/m], but at most the density of largest flow, where sum_i share_i (w_i - (1 + gamma_i) p_i) = 0."""
        stiff_m, stiff_c, _, _ = stiffness(share_m, share_c, par)
        s = dtype(math.sqrt(r if r > zero else zero))
        slope = (
            share_m * w_m + share_c * w_c - factor_m * stiff_m * root_power_m(s) - factor_c * stiff_c * root_power_c(s)
        )
        if slope >= zero:
            return r
        return root(share_m, share_c, w_m, w_c, factor_m, factor_c, par)

    @jit
    def taking_density(share_m, share_c, w_m, w_c, v, par):
        """Density at which the mean speed sum_i share_i (w_i - p_i) is v [m/s], and True; if that of the largest flow
        is no less, it and False. In vehicles per metre.

        The mean speed at the largest flow is between gamma / (1 + gamma) of the mean w for the smaller and for the
        larger gamma, so that mostly one of the two densities is looked for.
        """
        mean_w = share_m * w_m + share_c * w_c
        r = zero
        if v <= high * mean_w:
            r = root(share_m, share_c, w_m - v, w_c - v, one, one, par)
        if v <= low * mean_w:
            return r, True
        peak = root(share_m, share_c, w_m, w_c, factor_m, factor_c, par)
        return (r if r > peak else peak), r > peak

    return Closure(speeds, properties, wave_bounds, equilibrium_w, sending_density, taking_density)


def make_jamiton(dtype: type[np.floating[Any]], target: Target) -> Closure:
    """The single-class set-up of a published instability, for validation; cars only.

    v = w - h, h = 25 r**0.2 / (1 - r)**0.1 [m/s], V_e = U(r) as below, r = a_cc rho_c. Class m rests.

    Seibold, Flynn, Kasimov & Rosales (2013), Netw. Heterog. Media 8(3):745-772; constants of their published code.
    """
    jit, zero, one = target.jit, dtype(0), dtype(1)
    tiny = dtype(1e-12)

    @jit
    def hesitation(r):
        """h(r) [m/s]."""
        x = r if r > tiny else tiny
        return dtype(25.0) * x ** dtype(0.2) / (one - x) ** dtype(0.1)

    @jit
    def bend(x):
        """sqrt(1 + (10 (x - 1/3))**2)."""
        return dtype(math.sqrt(one + (dtype(10.0) * (x - dtype(1.0 / 3.0))) ** 2))

    @jit
    def speeds(rho_m, rho_c, w_m, w_c, par):
        """0 and v_c = w_c - h [m/s]."""
        v = w_c - hesitation(par[3] * rho_c)
        return zero, (v if v > zero else zero)

    @jit
    def properties(rho_m, rho_c, v_m, v_c, w_m, w_c, par):
        """w_c = v_c + h [m/s]."""
        return w_m, v_c + hesitation(par[3] * rho_c)

    @jit
    def wave_bounds(rho_m, rho_c, w_m, w_c, v_m, v_c, par):
        """lambda_1 = v - r h'(r) and v [m/s], r h' = h (0.2 + 0.1 r / (1 - r))."""
        r = par[3] * rho_c
        return v_c - hesitation(r) * (dtype(0.2) + dtype(0.1) * r / (one - r)), v_c

    @jit
    def equilibrium_w(rho_m, rho_c, free_m, free_c, par):
        """U + h, U = 1.4976 (g(0) + (g(1) - g(0)) r - g(r)) / r [m/s]."""
        r = par[3] * rho_c
        x = r if r > tiny else tiny
        u = dtype(1.4976) * (bend(zero) + (bend(one) - bend(zero)) * x - bend(x)) / x
        return zero, u + hesitation(x)

    @jit
    def sending_density(share_m, share_c, w_m, w_c, r, par):
        """Road ends are not defined for this set-up."""
        return zero

    @jit
    def taking_density(share_m, share_c, w_m, w_c, v, par):
        """Road ends are not defined for this set-up."""
        return zero, False

    return Closure(speeds, properties, wave_bounds, equilibrium_w, sending_density, taking_density)
