"""Every awkward environment of the gallery, certified: what must come out, and what did.

    python -m benchmarks.conformance --kills 5
    python -m benchmarks.conformance --only Clock --only machine
    python -m benchmarks.conformance --only library_environments --only ids

An exhibit is trained, and gone on from at instants drawn at random, each time in a fresh process that compares states
bit for bit (`python -m kernel.training.conformance`). What is marked proved must be proved; of what is marked inexact
it must be said, with the word that the gallery gives. Proved where it is marked inexact is silently wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "tests/kernel"
TIMEOUT_S = 900.0
ALONE = "library_environments.sumo"
"""libsumo has one simulation for each process."""


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
    """The gallery, `module:name` -> what must come out, read in a process of its own."""
    found: dict[str, str] = _told("import environment_gallery as g; told = g.expected()")
    return found


def of_libraries() -> dict[str, tuple[str, list[str]]]:
    """Environments of other libraries -> what must come out, and the modules that they need and that are not here."""
    told = _told("import library_environments as l; told = {n: (w, l.needs(n)) for n, w in l.expected().items()}")
    return {name: (wanted, needs) for name, (wanted, needs) in told.items()}


def _told(code: str) -> Any:
    code = f"import json; {code}; print(json.dumps(told))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=GALLERY, capture_output=True, text=True, check=True, env=_environment()
    )
    return json.loads(done.stdout.splitlines()[-1])


def certify(name: str, wanted: str, kills: int, seed: int = 0) -> Came:
    """One environment, `module:name`, in a folder of its own."""
    command = [sys.executable, "-m", "kernel.training.conformance", name]
    command += [
        "--kills",
        str(kills),
        "--seed",
        str(seed),
        "--n-envs",
        "2" if wanted == "proved" and ALONE not in name else "1",
    ]
    with tempfile.TemporaryDirectory(prefix="kaglaunch-gallery-") as folder:
        try:
            done = subprocess.run(
                command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Came(name, wanted, f"nothing within {TIMEOUT_S:.0f} s")
    lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
    said = next((line for line in lines if line.startswith(f"{name}: ")), lines[-1])
    return Came(name, wanted, said.removeprefix(f"{name}: "))


def _is_meant(place: str, only: list[str]) -> bool:
    """Whether its name, or that of its package or module, is among `only`."""
    module, _, name = place.rpartition(":")
    return not only or not {*module.split("."), name or place, "ids" if not module else ""}.isdisjoint(only)


def _short(place: str) -> str:
    return place.removeprefix("environment_gallery.").removeprefix("library_environments.")


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(GALLERY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "SDL_VIDEODRIVER": "dummy"}


def main(argv: list[str] | None = None) -> int:
    """Certify the gallery; 0 when all of it comes out as it must."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    gallery = expected()
    for place, (wanted, needs) in of_libraries().items():
        if not needs:
            gallery[place] = wanted
        elif _is_meant(place, arguments.only):
            sys.stdout.write(f"{'not tried':<15} {_short(place):<34} needs {', '.join(needs)}\n")
    gallery = {place: wanted for place, wanted in gallery.items() if _is_meant(place, arguments.only)}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        came = pool.map(lambda item: certify(*item, arguments.kills, arguments.seed), gallery.items())
        found = []
        for one in came:
            found.append(one)
            verdict = "as it must" if one.holds else "NOT AS IT MUST"
            sys.stdout.write(f"{verdict:<15} {_short(one.name):<34} {one.said}\n")
            sys.stdout.flush()
    wrong = [one for one in found if one.expected != "proved" and one.said.startswith("proved")]
    sys.stdout.write(
        f"{len(found)} environments, {arguments.kills} kills each: {sum(one.holds for one in found)} as they must, "
        f"{len(wrong)} silently wrong.\n"
    )
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
