"""Speed of the solver, measured side by side: `python -m benchmarks.solver`; `--peers` adds other simulators.

Medians and minima of repeated calls, beside what this machine could do at most, measured in the same run. Bars are in
nanoseconds of another machine (`peaks.OF_BARS`); each is printed as it stands and scaled by the ratio of the FMA peaks,
which is what it asks of this one. The floor is the time that the operations of a cell take where only the busiest unit
counts: arithmetic in vectors, or divisions and square roots.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

import numpy as np

from arz_model.network import BEGIN, Network, Segment
from arz_model.parameters import Parameters
from arz_model.solver import Solver
from arz_model.step_cpu import make_loops
from benchmarks import peers, svg
from benchmarks.peaks import Machine, Work, repeat
from benchmarks.steady import verdict

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = re.compile(r"\bv?(fn?m(?:add|sub)\d+|add|sub|mul|div|sqrt|min|max|cmp\w*)p[sd]\s")
"""Packed instructions that count as one operation a lane, fused multiply-adds as two."""
BYTES_PER_CELL = 64
"""Memory traffic of a call, a cell: four float64 of state, read and written."""
ONE_THREAD: tuple[tuple[str, dict[str, object], float], ...] = (
    ("G float64", {}, 1.5),
    ("G float32", {"dtype": "float32"}, 0.95),
    ("P float64", {"closure": "arz"}, 2.0),
    ("G float64, MUSCL minmod", {"scheme": "minmod"}, 8.0),
    ("G float64, MUSCL van Leer", {"scheme": "van_leer"}, 8.0),
)


def road(n_cells: int, n_roads: int = 1, n_threads: int = 1, **options: object) -> Solver:
    """Roads of 5 m cells, half full, under demand."""
    parameters = Parameters(closure=str(options.pop("closure", "garz")), k_m=25.0, k_c=20.0)
    network = Network((Segment("road", 5.0 * n_cells, n_cells, 25.0, 20.0, 0.5),))
    solver = Solver(network, parameters, n_roads=n_roads, n_threads=n_threads, device="cpu", **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    solver.set_density(0, *rng.uniform(0.0, 0.1, (2, n_cells)))
    return solver


def work_of_cell_step(solver: Solver) -> Work:
    """Floating-point work of a first-order sub-step of one cell, counted in the machine code of its loops.

    A cell takes one division in each of two loops: they tell how many cells one turn of a loop does. NaN where the code
    is not that of an x86 processor.
    """
    loops, number = make_loops(solver.kind), solver.dtype.type
    u, strip, _ = solver._work_space()  # not the one that it works in
    par = tuple(number(x) for x in range(1, 8))
    flop = instructions = roots = 0.0
    for loop, arguments in (
        (loops[2], (u, strip, BEGIN, BEGIN + 64, 0)),
        (loops[6], (u, strip, BEGIN, BEGIN + 64, 0, number(0.0), number(0.9), number(0.8), number(1.0), par)),
    ):
        loop(*arguments)
        (assembly,) = loop.inspect_asm().values()  # type: ignore[attr-defined]
        turns = [ARITHMETIC.findall(block) for block in re.split(r"^\.L\w+:", assembly, flags=re.MULTILINE)]
        turn = max(turns, key=len)
        cells = turn.count("div") or math.nan
        instructions += len(turn) / cells
        flop += sum(1 + name.startswith("f") for name in turn) / cells
        roots += turn.count("sqrt") / cells
    return Work(flop, instructions, 2.0, roots)


def cell_step(solver: Solver, n_steps: int, n: int = 40) -> tuple[float, float]:
    """(minimum, median) nanoseconds a cell and sub-step."""
    arrivals = np.full((solver.n_roads, 1, 1, 2), 0.15, solver.dtype)
    cells = solver.n_roads * solver.network.segments[0].n_cells * n_steps
    low, middle = repeat(lambda: solver.advance(n_steps, arrivals), n)
    return low / cells * 1e9, middle / cells * 1e9


def show(
    machine: Machine, name: str, low: float, middle: float, bar: float, dtype: str = "float64", n_threads: int = 1,
    work: Work | None = None,
) -> None:  # fmt: skip
    """One row: nanoseconds a cell and sub-step, operations, their share of the FMA peak, the floor, the bar."""
    of_peak = floor = ""
    if work:
        of_peak = f"{work.flop:.0f} {work.flop / low / machine.peaks[dtype, n_threads]:6.0%}"
        floor = f"{machine.floor(work, dtype) / n_threads:.2f}"
    print(f"{name:44} {low:8.2f} {middle:8.2f} {of_peak:>17} {floor:>6}  {machine.verdict(low, bar, dtype, n_threads)}")


def linear(name: str, sizes: list[tuple[int, int]], n_steps: int = 60) -> None:
    """Whether a cell costs the same however many there are: (cells a road, roads), 60 sub-steps a call."""
    lows = [cell_step(road(cells, roads), n_steps, max(3, 400_000 // (cells * roads)))[0] for cells, roads in sizes]
    for (cells, roads), low in zip(sizes, lows, strict=True):
        print(f"{f'{name}, {cells * roads:,} cells in all':44} {low:8.2f}")
    growth = max(lows) / min(lows)
    print(f"{f'{name}, slowest size over fastest':44} {growth:8.2f} {'':33}  {verdict(growth, 1.5)}")


def roofline(machine: Machine) -> str:
    """Measured points below the roofs of this machine, as SVG: state beyond the caches, K sub-steps a call."""
    roads, cells = 8192, 200
    solver = road(cells, roads)
    arrivals = np.full((roads, 1, 1, 2), 0.15)
    work = work_of_cell_step(solver)
    flop, peak, triad = work.flop, machine.peaks["float64", 1], machine.triad
    floor = flop / machine.floor(work, "float64")
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
            f"floor of the step {floor:.0f} GFLOP/s": ([min(floor / triad, most / 2), most], [floor, floor]),
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
    print(machine)
    print(f"{'ns a cell and sub-step':44} {'minimum':>8} {'median':>8} {'flop, of FMA peak':>17} {'floor':>6}  bar")
    for name, kind, bar in ONE_THREAD:
        first_order, dtype = "scheme" not in kind, str(kind.get("dtype", "float64"))
        low, middle = cell_step(road(200, **kind), 560 if first_order else 200)
        work = work_of_cell_step(road(200, **kind)) if first_order else None
        show(machine, name, low, middle, bar, dtype, work=work)
    for dtype, bar in (("float64", 0.9), ("float32", 0.55)):
        (one, _), (two, middle) = (cell_step(road(200, 64, threads, dtype=dtype), 60, 20) for threads in (1, 2))
        work = work_of_cell_step(road(200, dtype=dtype))
        show(machine, f"G {dtype}, 64 roads, two threads", two, middle, bar, dtype, 2, work)
        held = verdict(one / two, 1.7, least=True)
        print(f"{f'G {dtype}, scaling to two threads':44} {one / two:8.2f} {'':33}  {held}")
        print(f"{f'FMA {dtype}, scaling to two threads':44} {machine.peaks[dtype, 2] / machine.peaks[dtype, 1]:8.2f}")
    linear("roads of 200 cells", [(200, 1), (200, 50), (200, 5000)])
    linear("one road", [(200, 1), (10_000, 1), (1_000_000, 1)])
    solver = road(200)
    n_steps = solver.n_steps(10.0)
    arrivals = np.full((1, 1, 1, 2), 0.15)
    low, middle = (seconds * 1e6 for seconds in repeat(lambda: solver.advance(n_steps, arrivals), 200))
    name = f"us a decision: 200 cells, 10 s, {n_steps} sub-steps"
    print(f"{name:44} {low:8.1f} {middle:8.1f} {'':24}  {machine.verdict(low, 20.0)}")
    peak = machine.peaks["float64", 1]
    if options.roofline:
        options.roofline.write_text(roofline(machine), encoding="utf-8")
    if options.peers:
        many = road(200, 64, 2)
        arriving = np.full((64, 1, 1, 2), 0.15)
        both = repeat(lambda: many.advance(n_steps, arriving), 40)[0] * 1e6 / 64
        peers.compare({"one road, one thread": low / 10.0, "64 roads, two threads": both / 10.0})
    again = Machine().peaks["float64", 1]
    print(f"FMA peak at the end {again:.0f} GFLOP/s" + ("" if again > 0.9 * peak else " (the machine was not quiet)"))


if __name__ == "__main__":
    main()
