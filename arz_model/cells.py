"""What happens to one cell and one face in a sub-step: the body of every loop over them, for both devices.

All numbers of a road lie in one flat array `u` of rows of `stride` elements, so that the compiler knows how far
apart they are and vectorises without asking at run time whether they overlap. Row k, cell i is u[k stride + i]. The CPU
loops over i; on the GPU each thread takes some i. `stride` is compiled in (see `stride_for`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.physics import ClosureKey, make_closure
from arz_model.reconstruction import make_slopes, make_weno5
from arz_model.riemann import make_riemann
from arz_model.target import Target

STATE = 0
"""rho_m, y_m, rho_c, y_c."""
LAMBDA, FREE_M, FREE_C = 4, 5, 6
"""dt / dx [s/m] (0 in ghost cells) and the free speeds [m/s]; never written by the kernels."""
FLUX = 7
"""Fluxes of the state through the left face of each cell."""
START_M, START_C, QUEUE_M, QUEUE_C = 11, 12, 13, 14
"""Densities at the start of the call; sums of the densities of queueing vehicles over its sub-steps."""
BEFORE = 15
"""State at the start of the sub-step (Runge-Kutta of two or three stages)."""
W_M, W_C = 19, 20
CENTRE = 21
"""v_m, v_c and, with first order, the eigenvalue bounds s_l, s_r of each cell [m/s]."""
LEFT, RIGHT = 25, 33
"""At the left and at the right end of each cell: rho_m, y_m, rho_c, y_c, v_m, v_c, s_l, s_r; not with first order."""
N_ROWS = {"hll": 25, "minmod": 41, "van_leer": 41, "weno5": 41}


class Kind(NamedTuple):
    """What a kernel is compiled for."""

    closure: ClosureKey
    dtype: str
    scheme: str
    clamp: bool
    joined: bool
    """Whether any segment has an entrance, a stop line or an exit; if none has, that part is not compiled."""
    nodes: bool
    """Whether segments are joined by nodes; likewise."""
    stride: int
    width: int
    """Row lengths, of cells (see `stride_for`) and of road ends (see ends)."""


class Cells(NamedTuple):
    """Functions of one cell i or face i; see each."""

    refresh: Callable[..., Any]
    ends_of_cell: Callable[..., Any]
    flux: Callable[..., Any]
    update: Callable[..., Any]
    relax: Callable[..., Any]
    clamp: Callable[..., Any]
    renew: Callable[..., Any]
    renew_stage: Callable[..., Any]
    fill: Callable[..., Any]


def stride_for(n: int) -> int:
    """Row length for n cells: few values, so that few kernels are compiled.

    Not below 264, or LLVM fears that loads wait for stores of another row and does not vectorise all it could; 272
    modulo 512, so that rows of either type begin where a cache line does, in different parts of the first cache.
    """
    size = 512
    while size < n + 16 + 240:
        size *= 2
    return size - 240


def make_cells(kind: Kind, target: Target, index: type[np.integer[Any]]) -> Cells:
    """The functions for one kind of kernel, compiled for `target`; `index` is the type of row offsets."""
    jit, fma = target
    dtype = np.dtype(kind.dtype).type
    closure = make_closure(kind.closure, dtype, target)
    riemann = make_riemann(dtype, target)
    speeds, properties, wave_bounds = closure.speeds, closure.properties, closure.wave_bounds
    equilibrium_w = closure.equilibrium_w
    driver_properties, hll_waves, hll_rates = riemann
    slopes, weno5 = make_slopes(kind.scheme, dtype, target), make_weno5(dtype, target)
    zero, one, half, twelfth = dtype(0), dtype(1), dtype(0.5), dtype(1.0 / 12.0)
    first_order, weno = kind.scheme == "hll", kind.scheme == "weno5"
    keep_w = kind.clamp or not first_order
    step, two_steps = index(1), index(2)

    def row(k: int) -> Any:
        return index(k * kind.stride)

    rho_m, y_m, rho_c, y_c = (row(STATE + k) for k in range(4))
    lam, free_m, free_c = row(LAMBDA), row(FREE_M), row(FREE_C)
    flux_rho_m, flux_y_m, flux_rho_c, flux_y_c = (row(FLUX + k) for k in range(4))
    flux_0, before_0, centre_0, stride = row(FLUX), row(BEFORE), row(CENTRE), index(kind.stride)
    queue_m, queue_c = row(QUEUE_M), row(QUEUE_C)
    w_m, w_c = row(W_M), row(W_C)
    v_m, v_c, s_l, s_r = (row(CENTRE + k) for k in range(4))
    # The state left of face i belongs to the right end of cell i - 1; with first order both ends are the cell itself.
    l_rho_m, l_y_m, l_rho_c, l_y_c = (row((STATE if first_order else RIGHT) + k) for k in range(4))
    r_rho_m, r_y_m, r_rho_c, r_y_c = (row((STATE if first_order else LEFT) + k) for k in range(4))
    l_v_m, l_v_c, l_s_l, l_s_r = (row((CENTRE if first_order else RIGHT + 4) + k) for k in range(4))
    r_v_m, r_v_c, r_s_l, r_s_r = (row((CENTRE if first_order else LEFT + 4) + k) for k in range(4))
    left_0, right_0 = row(LEFT), row(RIGHT)

    @jit
    def refresh(u, i, v_queue, par):
        """Speeds of cell i [m/s] and what else faces need; adds the vehicles slower than `v_queue`, none if it is 0."""
        u_m, u_c = driver_properties(u[rho_m + i], u[y_m + i], u[rho_c + i], u[y_c + i], u[free_m + i], u[free_c + i])
        a_m, a_c = speeds(u[rho_m + i], u[rho_c + i], u_m, u_c, par)
        u[v_m + i], u[v_c + i] = a_m, a_c
        if first_order:
            u[s_l + i], u[s_r + i] = wave_bounds(u[rho_m + i], u[rho_c + i], u_m, u_c, a_m, a_c, par)
        if keep_w:
            u[w_m + i], u[w_c + i] = u_m, u_c
        u[queue_m + i] = u[queue_m + i] + u[rho_m + i] if a_m < v_queue else u[queue_m + i]
        u[queue_c + i] = u[queue_c + i] + u[rho_c + i] if a_c < v_queue else u[queue_c + i]

    @jit
    def reconstruct_smooth(u, i, source, to):
        """WENO values of one quantity at both ends of cell i, from row `source` to rows `to` of LEFT and RIGHT."""
        far_back, back, centre = u[source + i - two_steps], u[source + i - step], u[source + i]
        ahead, far_ahead = u[source + i + step], u[source + i + two_steps]
        u[right_0 + to + i] = weno5(far_back, back, centre, ahead, far_ahead)
        u[left_0 + to + i] = weno5(far_ahead, ahead, centre, back, far_back)

    @jit
    def reconstruct(u, i, source, to, source_too, to_too):
        """The same for two quantities, by either scheme."""
        if weno:
            reconstruct_smooth(u, i, source, to)
            reconstruct_smooth(u, i, source_too, to_too)
        else:
            a, b = u[source + i], u[source_too + i]
            slope_a, slope_b = slopes(
                a - u[source + i - step], u[source + i + step] - a,
                b - u[source_too + i - step], u[source_too + i + step] - b,
            )  # fmt: skip
            u[right_0 + to + i], u[left_0 + to + i] = fma(half, slope_a, a), fma(-half, slope_a, a)
            u[right_0 + to_too + i], u[left_0 + to_too + i] = fma(half, slope_b, b), fma(-half, slope_b, b)

    @jit
    def limit_class(u, i, rho, y, to_rho, to_y):
        """Pull the end values of one class towards the cell average until no density is negative.

        The densities are those at both ends and what the four-point Gauss-Lobatto rule, whose end weights are 1/12,
        leaves for the inside. Zhang & Shu (2010), J. Comput. Phys. 229(23):8918-8934.
        """
        centre, a, b = u[rho + i], u[left_0 + to_rho + i], u[right_0 + to_rho + i]
        inside = (centre - twelfth * (a + b)) / (one - twelfth - twelfth)
        lowest = a if a < b else b
        lowest = inside if inside < lowest else lowest
        gap = centre - lowest
        theta = (centre if centre > zero else zero) / gap if lowest < zero and gap > zero else one
        u[left_0 + to_rho + i] = centre + theta * (a - centre)
        u[right_0 + to_rho + i] = centre + theta * (b - centre)
        u[left_0 + to_y + i] = u[y + i] + theta * (u[left_0 + to_y + i] - u[y + i])
        u[right_0 + to_y + i] = u[y + i] + theta * (u[right_0 + to_y + i] - u[y + i])

    to_rho_m, to_y_m, to_rho_c, to_y_c, to_v_m, to_v_c, to_s_l, to_s_r = (row(k) for k in range(8))

    @jit
    def face_waves(u, i, end, par):
        """Speeds and eigenvalue bounds of the state at one end of cell i; w within [0, w_max], then y = rho w."""
        p_m, p_c = u[end + to_rho_m + i], u[end + to_rho_c + i]
        if weno:
            a_m, a_c = driver_properties(
                p_m, u[end + to_y_m + i], p_c, u[end + to_y_c + i], u[free_m + i], u[free_c + i]
            )
            a_m = zero if a_m < zero else (par[6] if a_m > par[6] else a_m)
            a_c = zero if a_c < zero else (par[6] if a_c > par[6] else a_c)
        else:
            a_m, a_c = u[end + to_y_m + i], u[end + to_y_c + i]
        u[end + to_y_m + i], u[end + to_y_c + i] = p_m * a_m, p_c * a_c
        b_m, b_c = speeds(p_m, p_c, a_m, a_c, par)
        lowest, highest = wave_bounds(p_m, p_c, a_m, a_c, b_m, b_c, par)
        u[end + to_v_m + i], u[end + to_v_c + i] = b_m, b_c
        u[end + to_s_l + i], u[end + to_s_r + i] = lowest, highest

    source_m, source_c = (y_m, y_c) if weno else (w_m, w_c)

    @jit
    def ends_of_cell(u, i, par):
        """States and waves at both ends of cell i: MUSCL from densities and w, WENO from the conserved state.

        WENO is limited to positive densities; MUSCL cannot leave the neighbours' range.
        """
        reconstruct(u, i, rho_m, to_rho_m, source_m, to_y_m)
        reconstruct(u, i, rho_c, to_rho_c, source_c, to_y_c)
        if weno:
            limit_class(u, i, rho_m, y_m, to_rho_m, to_y_m)
            limit_class(u, i, rho_c, y_c, to_rho_c, to_y_c)
        face_waves(u, i, left_0, par)
        face_waves(u, i, right_0, par)

    @jit
    def flux(u, i):
        """HLL flux of the state through face i, between cells i - 1 and i."""
        h = i - step
        low = u[l_s_l + h] if u[l_s_l + h] < u[r_s_l + i] else u[r_s_l + i]
        high = u[l_s_r + h] if u[l_s_r + h] > u[r_s_r + i] else u[r_s_r + i]
        low, high, scale = hll_waves(low, high)
        m_l, m_r = hll_rates(u[l_v_m + h], u[r_v_m + i], low, high)
        c_l, c_r = hll_rates(u[l_v_c + h], u[r_v_c + i], low, high)
        u[flux_rho_m + i] = scale * fma(m_l, u[l_rho_m + h], m_r * u[r_rho_m + i])
        u[flux_y_m + i] = scale * fma(m_l, u[l_y_m + h], m_r * u[r_y_m + i])
        u[flux_rho_c + i] = scale * fma(c_l, u[l_rho_c + h], c_r * u[r_rho_c + i])
        u[flux_y_c + i] = scale * fma(c_l, u[l_y_c + h], c_r * u[r_y_c + i])

    @jit
    def update(u, i, keep):
        """One Runge-Kutta stage in cell i: q <- keep q_before + (1 - keep) (q - dt/dx (F_right - F_left))."""
        ratio = u[lam + i]
        for k in range(4):
            o = index(k) * stride
            q = fma(-ratio, u[flux_0 + o + i + step] - u[flux_0 + o + i], u[o + i])
            u[o + i] = q if first_order else fma(keep, u[before_0 + o + i], (one - keep) * q)

    @jit
    def relax(u, i, decay_m, decay_c, par):
        """Exact solution of dy/dt = rho (w_eq - w) / tau at fixed rho: y <- rho w_eq + (y - rho w_eq) decay."""
        e_m, e_c = equilibrium_w(u[rho_m + i], u[rho_c + i], u[free_m + i], u[free_c + i], par)
        u[y_m + i] = fma(decay_m, u[y_m + i], (one - decay_m) * (u[rho_m + i] * e_m))
        u[y_c + i] = fma(decay_c, u[y_c + i], (one - decay_c) * (u[rho_c + i] * e_c))

    @jit
    def within(x, a, b, c):
        """x, held between the least and the greatest of three."""
        least, most = (a if a < b else b), (b if a < b else a)
        least, most = (c if c < least else least), (c if c > most else most)
        return least if x < least else (most if x > most else x)

    @jit
    def clamp(u, i, par):
        """Hold the speeds of cell i within those of cells i - 1 .. i + 1 before the sub-step; mass is untouched.

        Averaging rho and rho w across a contact does not keep v; this does. w stays within its own neighbours too.
        """
        h, j = i - step, i + step
        p_m, p_c = u[rho_m + i], u[rho_c + i]
        a_m, a_c = driver_properties(p_m, u[y_m + i], p_c, u[y_c + i], u[free_m + i], u[free_c + i])
        b_m, b_c = speeds(p_m, p_c, a_m, a_c, par)
        b_m = within(b_m, u[v_m + h], u[v_m + i], u[v_m + j])
        b_c = within(b_c, u[v_c + h], u[v_c + i], u[v_c + j])
        a_m, a_c = properties(p_m, p_c, b_m, b_c, a_m, a_c, par)
        u[y_m + i] = p_m * within(a_m, u[w_m + h], u[w_m + i], u[w_m + j])
        u[y_c + i] = p_c * within(a_c, u[w_c + h], u[w_c + i], u[w_c + j])

    @jit
    def renew(u, i, keep, decay_m, decay_c, v_queue, par):
        """update, relax and refresh of one cell in one pass over memory: the end of a sub-step."""
        update(u, i, keep)
        relax(u, i, decay_m, decay_c, par)
        refresh(u, i, v_queue, par)

    @jit
    def renew_stage(u, i, keep, par):
        """update and refresh of one cell: the end of a Runge-Kutta stage that others follow."""
        update(u, i, keep)
        refresh(u, i, zero, par)

    @jit
    def fill(u, ghosts, g):
        """Copy the state of a cell and all that follows from it into ghost number g."""
        to, source = index(ghosts[g, 0]), index(ghosts[g, 1])
        for k in range(4):
            o = index(k) * stride
            u[o + to] = u[o + source]
            u[centre_0 + o + to] = u[centre_0 + o + source]
        if keep_w:
            u[w_m + to], u[w_c + to] = u[w_m + source], u[w_c + source]

    return Cells(
        refresh,
        ends_of_cell,
        flux,
        update,
        relax,
        clamp,
        renew,
        renew_stage,
        fill,
    )
