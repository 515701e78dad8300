"""What this machine can do at most, measured now: `python -m benchmarks.peaks` prints it as JSON.

Arithmetic on numbers in registers or in the first cache, in the widest vectors that the processor has; LLVM may prefer
narrower ones for whole programs. And the bandwidth of the memory.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit
from numba.core.codegen import get_host_cpu_features

from benchmarks.steady import verdict

DTYPES = ("float64", "float32")
LENGTHS = (64, 96, 160)
"""Float32 numbers in a loop of multiply-adds: 8, 12 or 20 vectors of 32 bytes. The best counts: too few wait for each
other, too many do not fit the registers of every processor."""
OPERATIONS = 100_000_000
"""In one call of a loop: milliseconds, so that starting a thread does not count."""
OF_BARS = {("float64", 1): 121.5, ("float64", 2): 235.6, ("float32", 1): 241.6, ("float32", 2): 467.6}
"""FMA peaks [GFLOP/s] of the machine that bars in nanoseconds were measured on, by type and threads."""


def make_multiply_add(length: int) -> Callable[..., None]:
    """Fused multiply-adds on so many numbers, n times over; their number is compiled in, and they stay in registers."""

    @njit(fastmath={"contract"}, nogil=True)
    def multiply_add(n, a, x, y):
        for _ in range(n):
            for j in range(length):
                a[j] = a[j] * x + y

    return multiply_add  # type: ignore[no-any-return]


@njit(error_model="numpy")
def divide(n, a, x, _):
    """n times a.size divisions."""
    for _ in range(n):
        for j in range(a.size):
            a[j] = x / a[j]


@njit(error_model="numpy")
def take_root(n, a, x, _):
    """n times a.size square roots."""
    for _ in range(n):
        for j in range(a.size):
            a[j] = math.sqrt(a[j] + x)


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


def nanoseconds(loop: Callable[..., None], length: int, dtype: str, n_threads: int = 1) -> float:
    """Least time of one operation of `loop`, on `length` numbers again and again [ns]; all threads together."""
    number, n = np.dtype(dtype).type, OPERATIONS // length
    arrays = [np.ones(length, dtype) for _ in range(n_threads)]
    with ThreadPoolExecutor(n_threads) as pool:

        def run() -> None:
            list(pool.map(lambda a: loop(n, a, number(0.99), number(0.1)), arrays))

        return repeat(run, 30)[0] / n / length / n_threads * 1e9


def multiply_add_peak(dtype: str, n_threads: int = 1) -> float:
    """GFLOP/s of fused multiply-adds."""
    lengths = [length * 4 // np.dtype(dtype).itemsize for length in LENGTHS]
    return 2 / min(nanoseconds(make_multiply_add(length), length, dtype, n_threads) for length in lengths)


def bandwidth() -> float:
    """GB/s of the triad on 3 x 64 MB, one thread."""
    a, b, c = (np.ones(8_000_000) for _ in range(3))
    return 24 * a.size / repeat(lambda: triad(a, b, c, 2.0), 10)[0] / 1e9


class Work(NamedTuple):
    """What a cell and sub-step asks of the processor; NaN where it could not be counted."""

    flop: float
    """All operations, divisions and square roots included; two where a product is added."""
    instructions: float
    """The same, one where a product is added."""
    divisions: float
    roots: float


class Machine:
    """The limits of this machine, and what they ask of a time."""

    def __init__(self) -> None:
        """Measured in a process that may use the widest vectors."""
        environment = {**os.environ, "NUMBA_CPU_FEATURES": f"{get_host_cpu_features()},-prefer-256-bit"}
        command = [sys.executable, "-m", "benchmarks.peaks"]
        measured = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        self.peaks = {(dtype, n): measured["fma"][f"{dtype} {n}"] for dtype, n in OF_BARS}
        """GFLOP/s of fused multiply-adds, by type and threads."""
        self.division: dict[str, float] = measured["division"]
        self.root: dict[str, float] = measured["root"]
        """Nanoseconds of one, in vectors, one thread."""
        self.triad: float = measured["triad"]

    def __str__(self) -> str:
        lines = [f"FMA peak {peak:.0f} GFLOP/s, {dtype}, {n} threads" for (dtype, n), peak in self.peaks.items()]
        lines += [
            f"a division {self.division[dtype]:.3f}, a square root {self.root[dtype]:.3f} ns, {dtype}, 1 threads"
            for dtype in DTYPES
        ]
        return "\n".join([*lines, f"triad {self.triad:.1f} GB/s, one thread"])

    def floor(self, work: Work, dtype: str) -> float:
        """Time of this work on one thread [ns] where only the busiest unit counts: arithmetic, or divisions."""
        divider = work.divisions * self.division[dtype] + work.roots * self.root[dtype]
        return max(2 * work.instructions / self.peaks[dtype, 1], divider)

    def verdict(self, value: float, bar: float, dtype: str = "float64", n_threads: int = 1) -> str:
        """How a time stands to its bar, as it is and scaled to this machine's peak."""
        kind = (dtype, n_threads)
        return f"{verdict(value, bar)}; here {verdict(value, bar * OF_BARS[kind] / self.peaks[kind])}"


def main() -> None:
    print(
        json.dumps(
            {
                "fma": {f"{dtype} {n}": multiply_add_peak(dtype, n) for dtype, n in OF_BARS},
                "division": {dtype: nanoseconds(divide, 512, dtype) for dtype in DTYPES},
                "root": {dtype: nanoseconds(take_root, 512, dtype) for dtype in DTYPES},
                "triad": bandwidth(),
            }
        )
    )


if __name__ == "__main__":
    main()
