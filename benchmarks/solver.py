"""Speed of the solver, measured side by side: `python -m benchmarks.solver`; `--peers` adds PyClaw, UXsim, sumo-rl.

Medians and minima of repeated calls, beside the FMA peak and the bandwidth of this machine in the same run; ratios mean
something on another machine, nanoseconds do not.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from arz_model.network import Network, Segment
from arz_model.parameters import Parameters
from arz_model.solver import Solver

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".bench-venv"
FLOP_PER_CELL_STEP = 110
"""Counted in machine code of the first-order two-class step: 72 add, multiply; 12 min, max; 3 divisions; 2 roots."""

PYCLAW = """
import time, numpy as np
from clawpack import pyclaw, riemann
domain = pyclaw.Domain([pyclaw.Dimension(0.0, 1.0, 200, name="x")])
solver = pyclaw.ClawSolver1D(riemann.euler_with_efix_1D)
solver.order = 1
solver.bc_lower[0] = solver.bc_upper[0] = pyclaw.BC.periodic
solver.verbosity = 0
solver.dt_variable = False
solver.dt = 1e-4
state = pyclaw.State(domain, 3)
state.problem_data.update({"gamma": 1.4, "gamma1": 0.4, "efix": False})
x = domain.grid.x.centers
state.q[0], state.q[1], state.q[2] = 1 + 0.1 * np.sin(6.28 * x), 0.1, 2.5
solution = pyclaw.Solution(state, domain)
solver.setup(solution)
best = 1e9
for _ in range(20):
    start = time.perf_counter()
    for _ in range(50):
        solver.evolve_to_time(solution, solution.t + 1e-4)
    best = min(best, (time.perf_counter() - start) / 50)
print(best / 200 * 1e9)
"""


@njit(fastmath={"contract"})
def multiply_add(n, a, x, y):
    """n times 64 fused multiply-adds on numbers that stay in registers."""
    for _ in range(n):
        for j in range(64):
            a[j] = a[j] * x + y


@njit
def triad(a, b, c, s):
    """a = b + s c."""
    for i in range(a.size):
        a[i] = b[i] + s * c[i]


def repeat(function: Callable[[], object], n: int = 40) -> tuple[float, float]:
    """(minimum, median) seconds of n calls."""
    function()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times), statistics.median(times)


def fma_peak() -> float:
    """GFLOP/s of float64 on one thread."""
    a = np.ones(64)
    return 2 * 64 * 20_000 / repeat(lambda: multiply_add(20_000, a, 0.99, 0.1))[0] / 1e9


def bandwidth() -> float:
    """GB/s of the triad on 3 x 64 MB, one thread."""
    a, b, c = (np.ones(8_000_000) for _ in range(3))
    return 24 * a.size / repeat(lambda: triad(a, b, c, 2.0), 10)[0] / 1e9


def road(n_cells: int, n_roads: int = 1, n_threads: int = 1, **options: object) -> Solver:
    """Roads of 5 m cells, half full, under demand."""
    parameters = Parameters(closure=str(options.pop("closure", "garz")))
    network = Network((Segment("road", 5.0 * n_cells, n_cells, 25.0, 20.0, 0.5),))
    solver = Solver(network, parameters, n_roads=n_roads, n_threads=n_threads, device="cpu", **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    solver.set_density(0, *rng.uniform(0.0, 0.1, (2, n_cells)))
    return solver


def cell_step(solver: Solver, n_steps: int, n: int = 40) -> tuple[float, float]:
    """(minimum, median) nanoseconds a cell and sub-step."""
    arrivals = np.full((solver.n_roads, 1, 1, 2), 0.15, solver.dtype)
    cells = solver.n_roads * solver.network.segments[0].n_cells * n_steps
    low, middle = repeat(lambda: solver.advance(n_steps, arrivals), n)
    return low / cells * 1e9, middle / cells * 1e9


def peers() -> dict[str, float]:
    """ns a cell and step of PyClaw's Euler solver on 200 cells, if pip can install it into .bench-venv."""
    if not PEERS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(PEERS / "bin" / "pip"), "install", "--quiet", "clawpack", "numpy<2.3"], check=False)
    done = subprocess.run([str(PEERS / "bin" / "python"), "-c", PYCLAW], capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    return {"PyClaw Euler, order 1, 200 cells": float(done.stdout.split()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install and measure other programs too")
    options = parser.parse_args()
    peak = fma_peak()
    print(f"FMA peak {peak:.0f} GFLOP/s, triad {bandwidth():.1f} GB/s, one thread, float64")
    print(f"{'ns a cell and sub-step':42} {'minimum':>8} {'median':>8} {'of FMA peak':>12}")
    kinds: list[tuple[str, dict[str, object]]] = [
        ("G float64", {}),
        ("G float32", {"dtype": "float32"}),
        ("P float64", {"closure": "arz"}),
        ("G float64, MUSCL van Leer", {"scheme": "van_leer"}),
    ]
    for name, kind in kinds:
        low, middle = cell_step(road(200, **kind), 560 if "scheme" not in kind else 200)
        share = FLOP_PER_CELL_STEP / low / (peak * (2 if kind.get("dtype") == "float32" else 1))
        print(f"{name:42} {low:8.2f} {middle:8.2f} {share if 'scheme' not in kind else float('nan'):12.0%}")
    one, two = (cell_step(road(200, 64, threads), 60, 20)[0] for threads in (1, 2))
    print(f"{'64 roads, one thread / two':42} {one:8.2f} {two:8.2f}   scaling {one / two:.2f}")
    for n_cells in (200, 10_000, 1_000_000):
        low, middle = cell_step(road(n_cells), max(2, 2_000_000 // n_cells), 5)
        print(f"{f'{n_cells} cells':42} {low:8.2f} {middle:8.2f}")
    solver = road(200)
    n_steps = solver.n_steps(10.0)
    arrivals = np.full((1, 1, 1, 2), 0.15)
    low, middle = repeat(lambda: solver.advance(n_steps, arrivals), 200)
    print(
        f"one decision: 200 cells, 10 s, {n_steps} sub-steps: {low * 1e6:.1f} us minimum, {middle * 1e6:.1f} us median"
    )
    fastest = cell_step(road(200), 560)[0]
    again = fma_peak()
    print(f"FMA peak at the end {again:.0f} GFLOP/s" + ("" if again > 0.9 * peak else " (the machine was not quiet)"))
    if options.peers:
        for name, value in peers().items():
            print(f"{name:42} {value:8.1f}          {value / fastest:6.0f} x ours")


if __name__ == "__main__":
    main()
