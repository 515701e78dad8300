"""A child that prints a line every few microseconds, under the log governor and into a file, turn by turn.

`python -m benchmarks.log_flood`: the governor reads in the trainer's parent, so that a flood costs the trainer nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.steady import verdict
from kernel.session.full_log import FullLog
from kernel.session.log_governor import LogGovernor

N_LINES, ROUNDS = 1_000_000, 5
WORK = f"""
import sys, time
x = 0.0
began = time.perf_counter()
for i in range({N_LINES}):
    for _ in range(60):
        x += 1.0
    sys.stdout.write("[DEBUG_BC_GPU] cell 17 rho=0.1234 w=12.34 dispatch ok\\n")
sys.stdout.flush()
sys.stderr.write(str(time.perf_counter() - began))
"""


def child(stdout: Any) -> float:
    """Seconds in which a child does a million steps of work and prints a line in each."""
    done = subprocess.run([sys.executable, "-c", WORK], stdout=stdout, stderr=subprocess.PIPE, check=True)
    return float(done.stderr)


def governed(folder: Path) -> float:
    """The same under the governor. Raises RuntimeError if a line was not read."""
    read, write = os.pipe()
    log = FullLog(folder)
    governor = LogGovernor(read, log, lambda line: None, lambda verdict: None)
    seconds = child(write)
    os.close(write)
    governor.join(30.0)
    log.close()
    if governor.lines != N_LINES:
        raise RuntimeError(f"the governor read {governor.lines} of {N_LINES} lines")
    return seconds


def main() -> None:
    shares = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            with (folder / "plain.txt").open("wb") as plain:
                alone = child(plain)
            shares.append(alone / governed(folder))
    print(f"speed of a child that prints {N_LINES:,} lines, share of its speed into a file, {ROUNDS} rounds")
    print(f"  {' '.join(f'{share:.3f}' for share in shares)}")
    middle = statistics.median(shares)
    print(f"  median {middle:.3f}, best {max(shares):.3f}; median {verdict(middle, 0.95, least=True)}")


if __name__ == "__main__":
    main()
