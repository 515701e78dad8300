"""What happens to one cell and one face in a sub-step: the body of every loop over them, for both devices.

The numbers of a road lie in a flat array `u` of rows of `stride` elements, so that the compiler knows how far apart
they are and vectorises without asking at run time whether they overlap: row k, cell i is u[k stride + i]. What a
sub-step forgets, fluxes and states at the ends of cells, lies likewise in an array `strip`: row k, cell i is
strip[k strip_stride + j]. The CPU works on a strip of cells at a time, j = i - shift, so that all of it stays in the
first cache; on the GPU, where each thread takes some i, j = i. Row lengths are compiled in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arz_model.network import BEGIN
from arz_model.physics import ClosureKey, make_closure
from arz_model.reconstruction import make_slopes, make_weno5
from arz_model.riemann import make_riemann
from arz_model.target import Target

STATE = 0
"""rho_m, y_m, rho_c, y_c."""
LAMBDA, FREE_M, FREE_C = 4, 5, 6
"""dt / dx [s/m] (0 in ghost cells) and the free speeds [m/s]; never written by the kernels."""
START_M, START_C, QUEUE_M, QUEUE_C = 7, 8, 9, 10
"""Densities at the start of the call; sums of the densities of queueing vehicles over its sub-steps."""
CENTRE = 11
"""v_m, v_c and, with first order, the eigenvalue bounds s_l, s_r of each cell [m/s]."""
W_M, W_C = 15, 16
BEFORE = 17
"""State at the start of the sub-step (Runge-Kutta of two or three stages)."""
N_ROWS = {"hll": 17, "minmod": 21, "van_leer": 21, "weno5": 21}

FLUX = 0
"""Row of a strip: fluxes of the state through the left face of each cell."""
LEFT, RIGHT = 4, 12
"""At the left and at the right end of each cell: rho_m, y_m, rho_c, y_c, v_m, v_c, s_l, s_r; not with first order."""
N_STRIP_ROWS = {"hll": 4, "minmod": 20, "van_leer": 20, "weno5": 20}
STRIP_BYTES = {"hll": 2048, "minmod": 768, "van_leer": 768, "weno5": 768}
"""Of each row, what the CPU works on at a time: with what it keeps of 200 cells it fits a first cache of 48 KiB."""


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
    strip_stride: int
    width: int
    """Row lengths: of cells (see `stride_for`), of strips (see `strip_stride_for`), of road ends (see ends)."""
    sub_steps: int = 1
    """Taken in each pass over the cells: 1, or more for a road that no cache holds (see long_road)."""


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


def strip_stride_for(scheme: str, dtype: str) -> int:
    """Row length of the CPU's strips: the cells of one, BEGIN of the strip before, and as many beyond the last face."""
    return STRIP_BYTES[scheme] // np.dtype(dtype).itemsize + 2 * BEGIN


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

    def strip_row(k: int) -> Any:
        return index(k * kind.strip_stride)

    rho_m, y_m, rho_c, y_c = (row(STATE + k) for k in range(4))
    lam, free_m, free_c = row(LAMBDA), row(FREE_M), row(FREE_C)
    flux_rho_m, flux_y_m, flux_rho_c, flux_y_c = (strip_row(FLUX + k) for k in range(4))
    flux_0, before_0, centre_0 = strip_row(FLUX), row(BEFORE), row(CENTRE)
    stride, strip_stride = row(1), strip_row(1)
    queue_m, queue_c = row(QUEUE_M), row(QUEUE_C)
    w_m, w_c = row(W_M), row(W_C)
    v_m, v_c, s_l, s_r = (row(CENTRE + k) for k in range(4))
    # The state left of face i belongs to the right end of cell i - 1; with first order both ends are the cell itself.
    left_0, right_0 = strip_row(LEFT), strip_row(RIGHT)
    of_cell = rho_m, y_m, rho_c, y_c, v_m, v_c, s_l, s_r
    of_left, of_right = (
        of_cell if first_order else tuple(strip_row(end + k) for k in range(8)) for end in (RIGHT, LEFT)
    )
    l_rho_m, l_y_m, l_rho_c, l_y_c, l_v_m, l_v_c, l_s_l, l_s_r = of_left
    r_rho_m, r_y_m, r_rho_c, r_y_c, r_v_m, r_v_c, r_s_l, r_s_r = of_right
    to_rho_m, to_y_m, to_rho_c, to_y_c, to_v_m, to_v_c, to_s_l, to_s_r = (strip_row(k) for k in range(8))

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
    def reconstruct_smooth(u, strip, i, j, source, to):
        """WENO values of one quantity at both ends of cell i, from row `source` to rows `to` of LEFT and RIGHT."""
        far_back, back, centre = u[source + i - two_steps], u[source + i - step], u[source + i]
        ahead, far_ahead = u[source + i + step], u[source + i + two_steps]
        strip[right_0 + to + j] = weno5(far_back, back, centre, ahead, far_ahead)
        strip[left_0 + to + j] = weno5(far_ahead, ahead, centre, back, far_back)

    @jit
    def reconstruct(u, strip, i, j, source, to, source_too, to_too):
        """The same for two quantities, by either scheme."""
        if weno:
            reconstruct_smooth(u, strip, i, j, source, to)
            reconstruct_smooth(u, strip, i, j, source_too, to_too)
        else:
            a, b = u[source + i], u[source_too + i]
            slope_a, slope_b = slopes(
                a - u[source + i - step], u[source + i + step] - a,
                b - u[source_too + i - step], u[source_too + i + step] - b,
            )  # fmt: skip
            strip[right_0 + to + j], strip[left_0 + to + j] = fma(half, slope_a, a), fma(-half, slope_a, a)
            strip[right_0 + to_too + j], strip[left_0 + to_too + j] = fma(half, slope_b, b), fma(-half, slope_b, b)

    @jit
    def limit_class(u, strip, i, j, rho, y, to_rho, to_y):
        """Pull the end values of one class towards the cell average until no density is negative.

        The densities are those at both ends and what the four-point Gauss-Lobatto rule, whose end weights are 1/12,
        leaves for the inside. Zhang & Shu (2010), J. Comput. Phys. 229(23):8918-8934.
        """
        centre, a, b = u[rho + i], strip[left_0 + to_rho + j], strip[right_0 + to_rho + j]
        inside = (centre - twelfth * (a + b)) / (one - twelfth - twelfth)
        lowest = a if a < b else b
        lowest = inside if inside < lowest else lowest
        gap = centre - lowest
        theta = (centre if centre > zero else zero) / gap if lowest < zero and gap > zero else one
        strip[left_0 + to_rho + j] = centre + theta * (a - centre)
        strip[right_0 + to_rho + j] = centre + theta * (b - centre)
        strip[left_0 + to_y + j] = u[y + i] + theta * (strip[left_0 + to_y + j] - u[y + i])
        strip[right_0 + to_y + j] = u[y + i] + theta * (strip[right_0 + to_y + j] - u[y + i])

    @jit
    def face_waves(u, strip, i, j, end, par):
        """Speeds and eigenvalue bounds of the state at one end of cell i; w within [0, w_max], then y = rho w."""
        p_m, p_c = strip[end + to_rho_m + j], strip[end + to_rho_c + j]
        if weno:
            a_m, a_c = driver_properties(
                p_m, strip[end + to_y_m + j], p_c, strip[end + to_y_c + j], u[free_m + i], u[free_c + i]
            )
            a_m = zero if a_m < zero else (par[6] if a_m > par[6] else a_m)
            a_c = zero if a_c < zero else (par[6] if a_c > par[6] else a_c)
        else:
            a_m, a_c = strip[end + to_y_m + j], strip[end + to_y_c + j]
        strip[end + to_y_m + j], strip[end + to_y_c + j] = p_m * a_m, p_c * a_c
        b_m, b_c = speeds(p_m, p_c, a_m, a_c, par)
        lowest, highest = wave_bounds(p_m, p_c, a_m, a_c, b_m, b_c, par)
        strip[end + to_v_m + j], strip[end + to_v_c + j] = b_m, b_c
        strip[end + to_s_l + j], strip[end + to_s_r + j] = lowest, highest

    source_m, source_c = (y_m, y_c) if weno else (w_m, w_c)

    @jit
    def ends_of_cell(u, strip, i, j, par):
        """States and waves at both ends of cell i: MUSCL from densities and w, WENO from the conserved state.

        WENO is limited to positive densities; MUSCL cannot leave the neighbours' range.
        """
        reconstruct(u, strip, i, j, rho_m, to_rho_m, source_m, to_y_m)
        reconstruct(u, strip, i, j, rho_c, to_rho_c, source_c, to_y_c)
        if weno:
            limit_class(u, strip, i, j, rho_m, y_m, to_rho_m, to_y_m)
            limit_class(u, strip, i, j, rho_c, y_c, to_rho_c, to_y_c)
        face_waves(u, strip, i, j, left_0, par)
        face_waves(u, strip, i, j, right_0, par)

    @jit
    def hll(states, i, strip, j):
        """HLL flux of the state through a face, from `states` at i - 1 and i."""
        h = i - step
        low = states[l_s_l + h] if states[l_s_l + h] < states[r_s_l + i] else states[r_s_l + i]
        high = states[l_s_r + h] if states[l_s_r + h] > states[r_s_r + i] else states[r_s_r + i]
        low, high, scale = hll_waves(low, high)
        m_l, m_r = hll_rates(states[l_v_m + h], states[r_v_m + i], low, high)
        c_l, c_r = hll_rates(states[l_v_c + h], states[r_v_c + i], low, high)
        strip[flux_rho_m + j] = scale * fma(m_l, states[l_rho_m + h], m_r * states[r_rho_m + i])
        strip[flux_y_m + j] = scale * fma(m_l, states[l_y_m + h], m_r * states[r_y_m + i])
        strip[flux_rho_c + j] = scale * fma(c_l, states[l_rho_c + h], c_r * states[r_rho_c + i])
        strip[flux_y_c + j] = scale * fma(c_l, states[l_y_c + h], c_r * states[r_y_c + i])

    @jit
    def flux(u, strip, i, j):
        """Flux through face i, between cells i - 1 and i; with first order from the cells as they are."""
        if first_order:
            hll(u, i, strip, j)
        else:
            hll(strip, j, strip, j)

    @jit
    def update(u, strip, i, j, keep):
        """One Runge-Kutta stage in cell i: q <- keep q_before + (1 - keep) (q - dt/dx (F_right - F_left))."""
        ratio = u[lam + i]
        for k in range(4):
            o, flux_k = index(k) * stride, flux_0 + index(k) * strip_stride
            q = fma(-ratio, strip[flux_k + j + step] - strip[flux_k + j], u[o + i])
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
    def renew(u, strip, i, j, keep, decay_m, decay_c, v_queue, par):
        """update, relax and refresh of one cell in one pass over memory: the end of a sub-step."""
        update(u, strip, i, j, keep)
        relax(u, i, decay_m, decay_c, par)
        refresh(u, i, v_queue, par)

    @jit
    def renew_stage(u, strip, i, j, keep, par):
        """update and refresh of one cell: the end of a Runge-Kutta stage that others follow."""
        update(u, strip, i, j, keep)
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
