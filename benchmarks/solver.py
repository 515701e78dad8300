"""Speed of the solver, measured side by side: `python -m benchmarks.solver`; `--peers` adds other simulators.

Medians and minima of repeated calls, beside the FMA peaks and the bandwidth of this machine in the same run. Bars are
in nanoseconds of a machine with the peaks in `PEAKS_OF_BARS`; each is printed as it stands and scaled by the ratio of
the peaks, which is what it asks of this machine.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numba import njit

from arz_model.cells import N_ROWS
from arz_model.network import Network, Segment
from arz_model.parameters import Parameters
from arz_model.solver import Solver
from arz_model.step_cpu import make_loops
from benchmarks import peers, svg
from benchmarks.steady import verdict

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = re.compile(r"\bv?(fn?m(?:add|sub)\d+|add|sub|mul|div|sqrt|min|max|cmp\w*)p[sd]\s")
"""Packed instructions that count as one operation a lane, fused multiply-adds as two."""
BYTES_PER_CELL = 64
"""Memory traffic of a call, a cell: four float64 of state, read and written."""
PEAKS_OF_BARS = {("float64", 1): 121.5, ("float64", 2): 235.6, ("float32", 1): 241.6, ("float32", 2): 467.6}
"""FMA peaks [GFLOP/s] of the machine that the bars in nanoseconds were measured on, by type and threads."""
ONE_THREAD: tuple[tuple[str, dict[str, object], float], ...] = (
    ("G float64", {}, 1.5),
    ("G float32", {"dtype": "float32"}, 0.95),
    ("P float64", {"closure": "arz"}, 2.0),
    ("G float64, MUSCL van Leer", {"scheme": "van_leer"}, 8.0),
)


@njit(fastmath={"contract"}, nogil=True)
def multiply_add(n, a, x, y):
    """n times 64 fused multiply-adds on float32 numbers that stay in registers."""
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


def fma_peak(n_threads: int = 1) -> float:
    """GFLOP/s of fused multiply-adds of float32, all threads together; a vector holds half as many float64.

    As many of those as a loop needs to be vectorised do not fit the registers of every processor, and the loop would
    measure its stores.
    """
    n = 1_000_000
    arrays = [np.ones(64, np.float32) for _ in range(n_threads)]
    with ThreadPoolExecutor(n_threads) as pool:

        def run() -> None:
            list(pool.map(lambda a: multiply_add(n, a, np.float32(0.99), np.float32(0.1)), arrays))

        return 2 * 64 * n * n_threads / repeat(run, 80)[0] / 1e9


def bandwidth() -> float:
    """GB/s of the triad on 3 x 64 MB, one thread."""
    a, b, c = (np.ones(8_000_000) for _ in range(3))
    return 24 * a.size / repeat(lambda: triad(a, b, c, 2.0), 10)[0] / 1e9


def road(n_cells: int, n_roads: int = 1, n_threads: int = 1, **options: object) -> Solver:
    """Roads of 5 m cells, half full, under demand."""
    parameters = Parameters(closure=str(options.pop("closure", "garz")), k_m=25.0, k_c=20.0)
    network = Network((Segment("road", 5.0 * n_cells, n_cells, 25.0, 20.0, 0.5),))
    solver = Solver(network, parameters, n_roads=n_roads, n_threads=n_threads, device="cpu", **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    solver.set_density(0, *rng.uniform(0.0, 0.1, (2, n_cells)))
    return solver


def flop_per_cell_step(solver: Solver) -> float:
    """Floating-point operations of a first-order sub-step of one cell, counted in the machine code of its loops.

    A cell takes three divisions, two of them in `renew`: they tell how many cells one turn of a loop does. NaN where
    the code is not that of an x86 processor.
    """
    loops, number = make_loops(solver.kind), solver.dtype.type
    u, par = np.zeros(N_ROWS["hll"] * solver.kind.stride, solver.dtype), tuple(number(x) for x in range(1, 8))
    count = 0.0
    for loop, arguments, divisions in (
        (loops[2], (u, 8, 208), 1),
        (loops[6], (u, 8, 208, number(0.0), number(0.9), number(0.8), number(1.0), par), 2),
    ):
        loop(*arguments)
        (assembly,) = loop.inspect_asm().values()  # type: ignore[attr-defined]
        turns = [ARITHMETIC.findall(block) for block in re.split(r"^\.L\w+:", assembly, flags=re.MULTILINE)]
        turn = max(turns, key=len)
        n_divisions = turn.count("div") or math.nan
        count += sum(1 + name.startswith("f") for name in turn) * divisions / n_divisions
    return count


def cell_step(solver: Solver, n_steps: int, n: int = 40) -> tuple[float, float]:
    """(minimum, median) nanoseconds a cell and sub-step."""
    arrivals = np.full((solver.n_roads, 1, 1, 2), 0.15, solver.dtype)
    cells = solver.n_roads * solver.network.segments[0].n_cells * n_steps
    low, middle = repeat(lambda: solver.advance(n_steps, arrivals), n)
    return low / cells * 1e9, middle / cells * 1e9


class Machine:
    """What this machine could do at most, measured now, and what a bar asks of it."""

    def __init__(self) -> None:
        single = {n_threads: fma_peak(n_threads) for n_threads in (1, 2)}
        self.peaks = {(dtype, n): single[n] * 4 / np.dtype(dtype).itemsize for dtype, n in PEAKS_OF_BARS}
        self.triad = bandwidth()

    def verdict(self, value: float, bar: float, dtype: str = "float64", n_threads: int = 1) -> str:
        """How a time stands to its bar, as it is and at this machine's peak."""
        kind = (dtype, n_threads)
        return f"{verdict(value, bar)}; here {verdict(value, bar * PEAKS_OF_BARS[kind] / self.peaks[kind])}"

    def show(
        self, name: str, low: float, middle: float, bar: float, dtype: str = "float64", n_threads: int = 1,
        flop: float | None = None,
    ) -> None:  # fmt: skip
        """One row: nanoseconds a cell and sub-step, operations and their share of the FMA peak, and beside its bar."""
        share = f"{flop:.0f} {flop / low / self.peaks[dtype, n_threads]:6.0%}" if flop else ""
        print(f"{name:44} {low:8.2f} {middle:8.2f} {share:>17}  {self.verdict(low, bar, dtype, n_threads)}")


def linear(name: str, sizes: list[tuple[int, int]], n_steps: int = 60) -> None:
    """Whether a cell costs the same however many there are: (cells a road, roads), 60 sub-steps a call."""
    lows = [cell_step(road(cells, roads), n_steps, max(3, 400_000 // (cells * roads)))[0] for cells, roads in sizes]
    for (cells, roads), low in zip(sizes, lows, strict=True):
        print(f"{f'{name}, {cells * roads:,} cells in all':44} {low:8.2f}")
    growth = max(lows) / min(lows)
    print(f"{f'{name}, slowest size over fastest':44} {growth:8.2f} {'':26}  {verdict(growth, 1.5)}")


def roofline(peak: float, triad: float) -> str:
    """Measured points between the two roofs of this machine, as SVG: state beyond the caches, K sub-steps a call."""
    roads, cells = 8192, 200
    solver = road(cells, roads)
    arrivals = np.full((roads, 1, 1, 2), 0.15)
    flop = flop_per_cell_step(solver)
    points = []
    for n_steps in (1, 4, 16, 64):
        low, _ = repeat(lambda n=n_steps: solver.advance(n, arrivals), 3)  # type: ignore[misc]
        speed = flop * roads * cells * n_steps / low / 1e9
        points.append((flop * n_steps / BYTES_PER_CELL, speed))
        print(f"{f'{roads} roads, {n_steps} sub-steps a call':44} {low / roads / cells / n_steps * 1e9:8.2f}")
    least, most = points[0][0] / 2, points[-1][0] * 2
    ridge = peak / triad
    return svg.plot(
        "Roofline of the first-order step, closure G, float64, one thread", "FLOP a byte of memory traffic", "GFLOP/s",
        {
            f"triad {triad:.0f} GB/s": ([least, min(ridge, most)], [least * triad, min(ridge, most) * triad]),
            f"FMA peak {peak:.0f} GFLOP/s": ([min(ridge, most / 2), most], [peak, peak]),
            "1, 4, 16, 64 sub-steps a call": tuple(zip(*points, strict=True)),  # type: ignore[dict-item]
        },
        log=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install and measure other programs too")
    parser.add_argument("--roofline", type=Path, help="SVG file for the roofline plot")
    options = parser.parse_args()
    machine = Machine()
    for (dtype, threads), peak in machine.peaks.items():
        print(f"FMA peak {peak:.0f} GFLOP/s, {dtype}, {threads} threads")
    print(f"triad {machine.triad:.1f} GB/s, one thread")
    print(f"{'ns a cell and sub-step':44} {'minimum':>8} {'median':>8} {'flop, of FMA peak':>17}  bar")
    for name, kind, bar in ONE_THREAD:
        first_order, dtype = "scheme" not in kind, str(kind.get("dtype", "float64"))
        low, middle = cell_step(road(200, **kind), 560 if first_order else 200)
        flop = flop_per_cell_step(road(200, **kind)) if first_order else None
        machine.show(name, low, middle, bar, dtype, flop=flop)
    for dtype, bar in (("float64", 0.9), ("float32", 0.55)):
        (one, _), (two, middle) = (cell_step(road(200, 64, threads, dtype=dtype), 60, 20) for threads in (1, 2))
        flop = flop_per_cell_step(road(200, dtype=dtype))
        machine.show(f"G {dtype}, 64 roads, two threads", two, middle, bar, dtype, 2, flop)
        print(
            f"{f'G {dtype}, scaling to two threads':44} {one / two:8.2f} {'':26}  {verdict(one / two, 1.7, least=True)}"
        )
        print(f"{f'FMA {dtype}, scaling to two threads':44} {machine.peaks[dtype, 2] / machine.peaks[dtype, 1]:8.2f}")
    linear("roads of 200 cells", [(200, 1), (200, 50), (200, 5000)])
    linear("one road", [(200, 1), (10_000, 1), (1_000_000, 1)])
    solver = road(200)
    n_steps = solver.n_steps(10.0)
    arrivals = np.full((1, 1, 1, 2), 0.15)
    low, middle = (seconds * 1e6 for seconds in repeat(lambda: solver.advance(n_steps, arrivals), 200))
    name = f"us a decision: 200 cells, 10 s, {n_steps} sub-steps"
    print(f"{name:44} {low:8.1f} {middle:8.1f} {'':17}  {machine.verdict(low, 20.0)}")
    peak = machine.peaks["float64", 1]
    if options.roofline:
        options.roofline.write_text(roofline(peak, machine.triad), encoding="utf-8")
    if options.peers:
        many = road(200, 64, 2)
        arriving = np.full((64, 1, 1, 2), 0.15)
        both = repeat(lambda: many.advance(n_steps, arriving), 40)[0] * 1e6 / 64
        peers.compare({"one road, one thread": low / 10.0, "64 roads, two threads": both / 10.0})
    again = fma_peak() / 2
    print(f"FMA peak at the end {again:.0f} GFLOP/s" + ("" if again > 0.9 * peak else " (the machine was not quiet)"))


if __name__ == "__main__":
    main()
