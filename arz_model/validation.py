"""Runs of the solver against known solutions: tests hold them to gates, `benchmarks.validate` tabulates them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arz_model.network import Network, Segment
from arz_model.parameters import Parameters
from arz_model.reference import CASES, Riemann, exact_garz_riemann, exact_riemann
from arz_model.solver import Solver

Array = NDArray[np.floating[Any]]
FOREVER = math.inf
JAMITON_LENGTH = 500.0
JAMITON_DENSITY = 0.6
JAMITON_SPEED, JAMITON_H_SLOPE, JAMITON_U_SLOPE = 6.46162, 14.43049, -26.00032
"""U, h' and U' at that density."""


def road(n_cells: int, length: float, v_free: float, ends: str, parameters: Parameters, **solver: object) -> Solver:
    """One road for validation."""
    segment = Segment("road", length, n_cells, v_free, v_free, ends=ends)
    return Solver(Network((segment,)), parameters, device="cpu", **solver)  # type: ignore[arg-type]


def run_riemann(
    name: str, gamma: float, n_cells: int, *, scheme: str = "hll", clamp: bool = False, t_end: float = 0.5
) -> tuple[Array, Array, Array, Array, Array]:
    """Cell centres, density, speed, exact density, exact speed of a Riemann problem on [0, 1] at `t_end`."""
    case = CASES[name]
    parameters = Parameters(closure="arz", rho_jam=1.0, k_c=1.0, gamma_c=gamma, tau_m=FOREVER, tau_c=FOREVER)
    w = (case.v_l + case.rho_l**gamma, case.v_r + case.rho_r**gamma)
    fastest = max(max(w), *(abs(v - gamma * r**gamma) for r, v in ((case.rho_l, case.v_l), (case.rho_r, case.v_r))))
    dx = 1.0 / n_cells
    n_steps = math.ceil(t_end / ((0.9 if scheme == "hll" else 0.45) * dx / (1.2 * fastest)))
    solver = road(
        n_cells, 1.0, max(w), "transmissive", parameters, scheme=scheme, clamp=clamp, dt=t_end / n_steps,
        wave_max=1.2 * fastest * (0.9 if scheme == "hll" else 0.45) if scheme != "weno5" else 1e-3,
    )  # fmt: skip
    x = (np.arange(n_cells) + 0.5) * dx
    left = x < 0.5
    solver.set_density(0, 0.0, np.where(left, case.rho_l, case.rho_r), [np.full(n_cells, min(w)), np.where(left, *w)])
    solver.advance(n_steps)
    rho, v = exact_riemann(case, gamma, (x - 0.5) / t_end)
    return x, solver.density()[0, 1].copy(), solver.speed()[0, 1], rho, v


def riemann_error(name: str, gamma: float, n_cells: int, **options: object) -> float:
    """L1 error of the density."""
    _, rho, _, exact, _ = run_riemann(name, gamma, n_cells, **options)  # type: ignore[arg-type]
    return float(np.abs(rho - exact).mean())


def garz_riemann_error(case: Riemann, w_r: float, n_cells: int, t_end: float) -> float:
    """L1 error of the density over rho_jam for closure G on 1000 m."""
    parameters = Parameters(tau_m=FOREVER, tau_c=FOREVER)
    w_l = case.v_l / (1.0 - case.rho_l / parameters.rho_jam)
    dx = 1000.0 / n_cells
    n_steps = math.ceil(t_end / (0.9 * dx / max(w_l, w_r)))
    solver = road(n_cells, 1000.0, max(w_l, w_r), "transmissive", parameters, dt=t_end / n_steps)
    x = (np.arange(n_cells) + 0.5) * dx
    left = x < 500.0
    w = np.where(left, w_l, w_r)
    solver.set_density(0, 0.0, np.where(left, case.rho_l, case.rho_r), [w, w])
    solver.advance(n_steps)
    exact, _ = exact_garz_riemann(case, w_r, parameters.rho_jam, (x - 500.0) / t_end)
    return float(np.abs(solver.density()[0, 1] - exact).mean() / parameters.rho_jam)


def translation_error(scheme: str, n_cells: int, closure: str = "arz") -> float:
    """L1 error of both densities after one second of exact translation at v = 0.5 on a ring of length 1.

    With v_m = v_c = const any densities are carried along unchanged, w_i being whatever makes the speeds so.
    """
    parameters = Parameters(closure, 1.0, k_m=1.0, k_c=1.0, gamma_m=1.5, gamma_c=2.0, tau_m=FOREVER, tau_c=FOREVER)
    v, t_end = 0.5, 1.0 if scheme != "weno5" else 0.25
    dx = 1.0 / n_cells
    longest = 0.3 * dx ** (5.0 / 3.0) if scheme == "weno5" else (0.4 if scheme == "hll" else 0.15) * dx
    n_steps = math.ceil(t_end / longest)
    solver = road(n_cells, 1.0, 2.0, "periodic", parameters, scheme=scheme, dt=t_end / n_steps, wave_max=0.2, w_max=4.0)
    edges = np.arange(n_cells + 1) * dx

    def averages(shift: float) -> tuple[Array, Array]:
        z = 2.0 * np.pi * (edges - shift)
        mean_m = -np.diff(np.cos(z)) / (2.0 * np.pi * dx)
        mean_c = np.diff(np.sin(z)) / (2.0 * np.pi * dx)
        return 0.2 + 0.05 * mean_m, 0.25 + 0.05 * mean_c

    points, weights = np.polynomial.legendre.leggauss(5)
    x = (edges[:-1, None] + dx * 0.5 * (points + 1.0))[..., None]
    z = 2.0 * np.pi * x[..., 0]
    rho_m, rho_c = 0.2 + 0.05 * np.sin(z), 0.25 + 0.05 * np.cos(z)
    o_m, o_c = rho_m + 0.4 * rho_c, rho_m + rho_c
    w_m, w_c = (v + o_m**1.5, v + o_c**2) if closure == "arz" else (v / (1.0 - o_m), v / (1.0 - o_c))
    start = averages(0.0)
    y_m, y_c = ((rho * w * weights * 0.5).sum(axis=1) for rho, w in ((rho_m, w_m), (rho_c, w_c)))
    solver.set_density(0, *start, [y_m / start[0], y_c / start[1]])
    solver.advance(n_steps)
    exact = averages(v * t_end)
    return float(sum(np.abs(solver.density()[0, k] - exact[k]).mean() for k in range(2)))


def growth_rate(mode: int, n_cells: int = 400, t_end: float = 60.0) -> complex:
    """Measured sigma [1/s] of one mode of the published jamiton set-up: growth rate, and -k times the phase speed."""
    dx = JAMITON_LENGTH / n_cells
    parameters = Parameters(closure="jamiton", rho_jam=1.0, tau_m=FOREVER, tau_c=5.0)
    solver = road(n_cells, JAMITON_LENGTH, 30.0, "periodic", parameters, scheme="van_leer", w_max=60.0)
    x = (np.arange(n_cells) + 0.5) * dx
    k = 2.0 * np.pi * mode / JAMITON_LENGTH
    rho = JAMITON_DENSITY + 1e-6 * np.cos(k * x)
    hesitation = 25.0 * rho**0.2 / (1.0 - rho) ** 0.1
    solver.set_density(0, 0.0, rho, [np.full(n_cells, 30.0), JAMITON_SPEED + hesitation])
    amplitudes, times = [], []
    for _ in range(int(t_end)):
        solver.advance(solver.n_steps(1.0))
        amplitudes.append(np.fft.rfft(solver.density()[0, 1])[mode])
        times.append(solver.time)
    late = slice(int(t_end) // 2, None)
    logs = np.log(np.abs(amplitudes))[late]
    phases = np.unwrap(np.angle(amplitudes))[late]
    t = np.array(times)[late]
    return complex(np.polyfit(t, logs, 1)[0], np.polyfit(t, phases, 1)[0])


def observed_rates(errors: list[float], refinement: float = 2.0) -> list[float]:
    """Orders of convergence between successive errors."""
    return [math.log(a / b) / math.log(refinement) for a, b in itertools.pairwise(errors)]
