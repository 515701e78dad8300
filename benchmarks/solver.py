"""Speed of the solver, measured side by side: `python -m benchmarks.solver`; `--peers` adds other simulators.

Medians and minima of calls in several rounds, so that no row alone meets a neighbour on the host, beside what this
machine could do at most, measured in the same run. Bars are in nanoseconds of another machine (`peaks.OF_BARS`); each
is printed as it stands and scaled by the ratio of the FMA peaks, which is what it asks of this one. The floor is the
time that the operations of a cell take where only the busiest unit counts: arithmetic in vectors, or divisions and
square roots.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arz_model.network import BEGIN, Network, Segment
from arz_model.parameters import Parameters
from arz_model.solver import Solver
from arz_model.step_cpu import make_loops
from benchmarks import peers, svg
from benchmarks.peaks import DTYPES, Machine, Work, repeat
from benchmarks.steady import verdict

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = re.compile(r"\bv?(fn?m(?:add|sub)\d+|add|sub|mul|div|sqrt|min|max|cmp\w*)p[sd]\s")
"""Packed instructions that count as one operation a lane, fused multiply-adds as two."""
ROUNDS = 8
"""In each of which every row is measured once: a neighbour slows this machine by a half for seconds."""
BYTES_PER_CELL = 64
"""Memory traffic of a call, a cell: four float64 of state, read and written."""
ONE_THREAD: tuple[tuple[str, dict[str, object], float], ...] = (
    ("G float64", {}, 1.5),
    ("G float32", {"dtype": "float32"}, 0.95),
    ("P float64", {"closure": "arz"}, 2.0),
    ("G float64, MUSCL minmod", {"scheme": "minmod"}, 8.0),
    ("G float64, MUSCL van Leer", {"scheme": "van_leer"}, 8.0),
)

SIZES = (
    *(("roads of 200 cells", 200, roads) for roads in (1, 50, 5000)),
    *(("one road", cells, 1) for cells in (200, 10_000, 1_000_000)),
)
"""Name of the row, cells a road, roads."""


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


def cell_step(solver: Solver, n_steps: int, n: int = 40) -> Callable[[], tuple[float, float]]:
    """What measures (minimum, median) nanoseconds a cell and sub-step in n calls."""
    arrivals = np.full((solver.n_roads, 1, 1, 2), 0.15, solver.dtype)
    cells = solver.n_roads * solver.network.segments[0].n_cells * n_steps

    def measure() -> tuple[float, float]:
        low, middle = repeat(lambda: solver.advance(n_steps, arrivals), n)
        return low / cells * 1e9, middle / cells * 1e9

    return measure


def in_rounds(measures: dict[str, Callable[[], tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """(least minimum, median of medians) of each, measured in turn."""
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]
    return {name: (min(r[name][0] for r in rounds), statistics.median(r[name][1] for r in rounds)) for name in measures}


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


def sized(name: str, cells: int, roads: int) -> str:
    """Name of a row of `linear`."""
    return f"{name}, {cells * roads:,} cells in all"


def linear(name: str, found: dict[str, tuple[float, float]]) -> None:
    """Whether a cell costs the same however many there are."""
    lows = {row: low for row, (low, _) in found.items() if row.startswith(f"{name}, ")}
    for row, low in lows.items():
        print(f"{row:44} {low:8.2f}")
    growth = max(lows.values()) / min(lows.values())
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
    measures = {name: cell_step(road(200, **kind), 200 if "scheme" in kind else 560) for name, kind, _ in ONE_THREAD}
    for dtype in DTYPES:
        for n_threads in (1, 2):
            measures[f"{dtype} {n_threads}"] = cell_step(road(200, 64, n_threads, dtype=dtype), 60, 10)
    for name, cells, roads in SIZES:
        solver = road(cells, roads)
        measures[sized(name, cells, roads)] = cell_step(solver, 60, max(3, 400_000 // (cells * roads)))
    solver = road(200)
    n_steps = solver.n_steps(10.0)
    measures["decision"] = cell_step(solver, n_steps, 200)
    found = in_rounds(measures)
    for name, kind, bar in ONE_THREAD:
        dtype = str(kind.get("dtype", "float64"))
        work = None if "scheme" in kind else work_of_cell_step(road(200, **kind))
        show(machine, name, *found[name], bar, dtype, work=work)
    for dtype, bar in (("float64", 0.9), ("float32", 0.55)):
        (one, _), (two, middle) = (found[f"{dtype} {n_threads}"] for n_threads in (1, 2))
        work = work_of_cell_step(road(200, dtype=dtype))
        show(machine, f"G {dtype}, 64 roads, two threads", two, middle, bar, dtype, 2, work)
        held = verdict(one / two, 1.7, least=True)
        print(f"{f'G {dtype}, scaling to two threads':44} {one / two:8.2f} {'':33}  {held}")
        print(f"{f'FMA {dtype}, scaling to two threads':44} {machine.peaks[dtype, 2] / machine.peaks[dtype, 1]:8.2f}")
    for name in dict.fromkeys(name for name, _, _ in SIZES):
        linear(name, found)
    low, middle = (value * n_steps * 200 / 1e3 for value in found["decision"])
    name = f"us a decision: 200 cells, 10 s, {n_steps} sub-steps"
    print(f"{name:44} {low:8.1f} {middle:8.1f} {'':24}  {machine.verdict(low, 20.0)}")
    peak = machine.peaks["float64", 1]
    if options.roofline:
        options.roofline.write_text(roofline(machine), encoding="utf-8")
    if options.peers:
        of_second = n_steps / 10.0 * 200 / 1e3
        batch = {n: found[f"float64 {n}"][0] * of_second for n in (1, 2)}
        peers.compare(
            {
                "one road, one thread": low / 10.0,
                "64 roads, one thread": batch[1],
                "64 roads, two threads": batch[2],
            }
        )
    again = Machine().peaks["float64", 1]
    print(f"FMA peak at the end {again:.0f} GFLOP/s" + ("" if again > 0.9 * peak else " (the machine was not quiet)"))


if __name__ == "__main__":
    main()
