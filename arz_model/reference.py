"""What the solver is judged by: exact solutions, and a slow solver in plain NumPy that shares no code with it.

Nothing here is used by a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Riemann:
    """Initial data of a single-class Riemann problem: density and speed on both sides of a jump."""

    rho_l: float
    v_l: float
    rho_r: float
    v_r: float


CASES = {
    "shock+contact": Riemann(0.3, 0.6, 0.5, 0.2),
    "rarefaction+contact": Riemann(0.8, 0.1, 0.4, 0.5),
    "contact": Riemann(0.8, 0.3, 0.2, 0.3),
    "red light": Riemann(0.4, 0.5, 0.9, 0.0),
    "vacuum": Riemann(0.3, 0.2, 0.4, 0.9),
    "onto thin traffic": Riemann(0.3, 0.6, 0.05, 0.2),
    "onto thin standing traffic": Riemann(0.2, 0.8, 0.02, 0.0),
}
"""Problems with p = rho**gamma: every kind of wave. Schemes that average do not converge on the last: the mean of the
arriving drivers and of the few who stand starts to move, the instability near vacuum of Aw & Rascle's abstract."""


def middle_density(case: Riemann, gamma: float) -> float:
    """r_M = (w_L - v_R)**(1/gamma) of p = rho**gamma, w_L = v_L + p(rho_L); 0 if v_R >= w_L."""
    w = case.v_l + case.rho_l**gamma
    return float(max(0.0, w - case.v_r) ** (1.0 / gamma)) if case.v_r < w else 0.0


def shock_speed(case: Riemann, gamma: float) -> float:
    """(r_M v_R - rho_L v_L) / (r_M - rho_L): speed of the 1-shock when v_R < v_L."""
    r = middle_density(case, gamma)
    return (r * case.v_r - case.rho_l * case.v_l) / (r - case.rho_l)


def exact_riemann(case: Riemann, gamma: float, xi: Array) -> tuple[Array, Array]:
    """Density and speed at x/t = xi of the additive closure p = rho**gamma (Aw & Rascle 2000, section 3).

    The 1-wave from the left state keeps w_L and leads to speed v_R; the 2-contact travels at v_R. If v_R > w_L a vacuum
    opens between them.
    """
    w = case.v_l + case.rho_l**gamma
    r_m = middle_density(case, gamma)
    rho, v = np.empty_like(xi), np.empty_like(xi)
    if case.v_r < case.v_l:
        s = shock_speed(case, gamma)
        rho[:], v[:] = np.where(xi < s, case.rho_l, r_m), np.where(xi < s, case.v_l, case.v_r)
    else:
        tail = case.v_l - gamma * case.rho_l**gamma
        head = w if r_m == 0.0 else case.v_r - gamma * r_m**gamma
        inside = np.clip(xi, tail, head)
        fan = np.clip((w - inside) / (1.0 + gamma), 0.0, None) ** (1.0 / gamma)
        rho[:] = np.where(xi < tail, case.rho_l, np.where(xi > head, r_m, fan))
        v[:] = np.where(
            xi < tail, case.v_l, np.where(xi > head, min(case.v_r, w), (gamma * w + inside) / (1.0 + gamma))
        )
    beyond = xi > case.v_r
    rho[beyond], v[beyond] = case.rho_r, case.v_r
    return rho, v


def exact_garz_riemann(case: Riemann, w_r: float, rho_jam: float, xi: Array) -> tuple[Array, Array]:
    """The same for v = w (1 - rho / rho_jam); the drivers on the right have w_r, those on the left their own w_L."""
    w = case.v_l / (1.0 - case.rho_l / rho_jam)
    r_m = rho_jam * (1.0 - case.v_r / w) if case.v_r < w else 0.0
    if case.v_r < case.v_l:
        s = (r_m * case.v_r - case.rho_l * case.v_l) / (r_m - case.rho_l)
        rho = np.where(xi < s, case.rho_l, r_m)
    else:
        tail, head = w * (1.0 - 2.0 * case.rho_l / rho_jam), w * (1.0 - 2.0 * r_m / rho_jam)
        fan = 0.5 * rho_jam * (1.0 - xi / w)
        rho = np.where(xi < tail, case.rho_l, np.where(xi > head, r_m, fan))
    rho = np.where(xi > case.v_r, case.rho_r, rho)
    return rho, np.where(xi > case.v_r, w_r, w) * (1.0 - rho / rho_jam)


def dispersion(k: float, v: float, tau: float, rho: float, h_slope: float, u_slope: float) -> complex:
    """Fastest growing sigma [1/s] of a perturbation e^{i k x + sigma t} of uniform flow, from linear theory.

    With s = sigma + i k v:  s**2 + s (1/tau - i k rho h') + i k rho U'/tau = 0.
    """
    roots = np.roots([1.0, 1.0 / tau - 1j * k * rho * h_slope, 1j * k * rho * u_slope / tau])
    return complex(max(roots, key=lambda s: s.real)) - 1j * k * v


def naive_steps(
    q: Array, n_steps: int, dt: float, dx: float, a: Array, free: Array, tau: Array, ends: str = "transmissive",
    k: Array | None = None, gamma: Array | None = None,
) -> Array:  # fmt: skip
    """First-order HLL with exact relaxation: (4, n) -> (4, n), as the equations read.

    a : (2, 2) — perceived weights over rho_jam [m/veh], row of the class that perceives. free, tau : (2,).
    k, gamma : (2,) — closure P; closure G without them.
    """
    q = np.array(q, dtype=np.float64)
    own = np.diag(a)[:, None]
    for _ in range(n_steps):
        padded = (
            np.concatenate([q[:, -1:], q, q[:, :1]], axis=1)
            if ends == "periodic"
            else np.pad(q, ((0, 0), (1, 1)), "edge")
        )
        rho, y = padded[0::2], padded[1::2]
        w = np.where(rho > 1e-12, y / np.where(rho > 1e-12, rho, 1.0), free[:, None])
        if k is None or gamma is None:
            v = w * np.maximum(0.0, 1.0 - a @ rho)
            fastest = v.max(axis=0)
            slowest = np.maximum((v - w * own * rho).sum(axis=0) - fastest, -w.max(axis=0))
        else:
            slope = gamma[:, None] * k[:, None] * (a @ rho) ** (gamma[:, None] - 1.0)
            v = np.maximum(0.0, w - k[:, None] * (a @ rho) ** gamma[:, None])
            fastest = v.max(axis=0)
            slowest = (v - rho * slope * own).sum(axis=0) - fastest
        s_l = np.minimum(0.0, np.minimum(slowest[:-1], slowest[1:]))
        s_r = np.maximum(0.0, np.maximum(fastest[:-1], fastest[1:]))
        f = padded * np.repeat(v, 2, axis=0)
        jump = padded[:, 1:] - padded[:, :-1]
        width = np.maximum(s_r - s_l, 1e-30)
        flux = (s_r * f[:, :-1] - s_l * f[:, 1:] + s_l * s_r * jump) / width
        q -= dt / dx * (flux[:, 1:] - flux[:, :-1])
        wanted = np.broadcast_to(free[:, None], q[0::2].shape)
        if k is not None and gamma is not None:
            o = a @ q[0::2]
            wanted = wanted * np.maximum(0.0, 1.0 - o) + k[:, None] * o ** gamma[:, None]
        target = q[0::2] * wanted
        q[1::2] = target + (q[1::2] - target) * np.exp(-dt / tau)[:, None]
    return q
