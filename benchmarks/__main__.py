"""Every benchmark, one after the other, and docs/speed.md from what they print: `python -m benchmarks`, `make bench`.

Times are of this machine and of this hour; ratios measured side by side are what says something elsewhere.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, ROOFLINE = ROOT / "docs" / "speed.md", ROOT / "docs" / "validation" / "roofline.svg"
PARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("startup", (), "Commands against `import typer` and the `kaggle` client"),
    ("checkpoint", (), "Checkpoints against stable-baselines3's own"),
    ("recovery", (), "After a kill, at a signal, and while it publishes"),
    ("log_flood", (), "A child that floods its log, under the governor and into a file"),
    ("solver", ("--peers", "--roofline", str(ROOFLINE)), "The solver against the machine's peaks"),
    ("environment", ("--peers",), "The environment and training"),
)


def run(module: str, options: tuple[str, ...]) -> str:
    """What a benchmark printed, shown while it runs. Raises SystemExit with its status if it fails."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", *options]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        raise SystemExit(process.returncode)
    return "\n".join(lines)


def main() -> None:
    sections = [f"## {title}\n\n```text\n{run(module, options)}\n```\n" for module, options, title in PARTS]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    head = (
        f"# Speed\n\nWritten by `make bench` on {machine}. Nanoseconds are of one machine in one\n"
        "hour; shares of its peak and ratios of what was measured side by side say something elsewhere.\n"
    )
    plot = f"![roofline]({ROOFLINE.relative_to(PAGE.parent)})\n"
    PAGE.write_text("\n".join([head, *sections, plot]), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
