"""Every awkward environment of the gallery, certified: what must come out, and what did.

    python -m benchmarks.conformance --kills 5
    python -m benchmarks.conformance --only Clock --only Database

An exhibit is trained, and gone on from at instants drawn at random, each time in a fresh process that compares states
bit for bit (`python -m kernel.training.conformance`). What is marked proved must be proved; of what is marked inexact
it must be said, with the word that the gallery gives. Proved where it is marked inexact is silently wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "tests/kernel"
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Came:
    """What was said of an exhibit."""

    name: str
    expected: str
    said: str

    @property
    def holds(self) -> bool:
        """Whether that is what must be said."""
        if self.expected == "proved":
            return self.said.startswith("proved")
        return self.said.startswith("inexact") and self.expected in self.said


def expected() -> dict[str, str]:
    """The gallery: name -> what must come out, read in a process of its own."""
    told = "import environment_gallery as g, json; print(json.dumps(g.EXPECTED))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=GALLERY, capture_output=True, text=True, check=True, env=_environment()
    )
    import json

    found: dict[str, str] = json.loads(done.stdout)
    return found


def certify(name: str, wanted: str, kills: int, seed: int = 0) -> Came:
    """One exhibit, in a folder of its own."""
    command = [sys.executable, "-m", "kernel.training.conformance", f"environment_gallery:{name}"]
    command += ["--kills", str(kills), "--seed", str(seed), "--n-envs", "1" if wanted != "proved" else "2"]
    with tempfile.TemporaryDirectory(prefix="kaglaunch-gallery-") as folder:
        try:
            done = subprocess.run(
                command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Came(name, wanted, f"nothing within {TIMEOUT_S:.0f} s")
    lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
    said = next((line for line in lines if line.startswith(f"environment_gallery:{name}: ")), lines[-1])
    return Came(name, wanted, re.sub(r"^environment_gallery:\w+: ", "", said))


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(GALLERY)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}


def main(argv: list[str] | None = None) -> int:
    """Certify the gallery; 0 when all of it comes out as it must."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    gallery = {name: wanted for name, wanted in expected().items() if not arguments.only or name in arguments.only}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        came = pool.map(lambda item: certify(*item, arguments.kills, arguments.seed), gallery.items())
        found = []
        for one in came:
            found.append(one)
            sys.stdout.write(f"{'as it must' if one.holds else 'NOT AS IT MUST':<15} {one.name:<20} {one.said}\n")
            sys.stdout.flush()
    wrong = [one for one in found if one.expected != "proved" and one.said.startswith("proved")]
    sys.stdout.write(
        f"{len(found)} environments, {arguments.kills} kills each: {sum(one.holds for one in found)} as they must, "
        f"{len(wrong)} silently wrong.\n"
    )
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
