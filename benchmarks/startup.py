"""How fast commands start, as ratios against `import typer` and the kaggle client, side by side in one run.

Run as `python -m benchmarks.startup`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 9
PYTHON = sys.executable
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import typer": [PYTHON, "-c", "import typer"],
    "kaglaunch --help": [PYTHON, "-m", "launcher", "--help"],
    "kaglaunch runs": [PYTHON, "-m", "launcher", "runs"],
    "kaggle --version": [
        PYTHON,
        "-c",
        "import sys; sys.argv = ['kaggle', '--version']; from kaggle.cli import main; main()",
    ],
}


def main() -> None:
    """Time every command ROUNDS times, interleaved; print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "HOME": home, "XDG_STATE_HOME": home, "KAGGLE_USERNAME": "x", "KAGGLE_KEY": "x"}
        for _ in range(ROUNDS):
            for name, command in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run(command, env=environ, cwd=os.getcwd(), capture_output=True, check=False)
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["import typer"]
    print(f"start-up, medians of {ROUNDS} interleaved rounds")
    for name, median in medians.items():
        print(f"  {name:20} {median * 1e3:7.0f} ms   {median / base:5.2f} x import typer")


if __name__ == "__main__":
    main()
