"""Trainings that are killed at random instants and resumed, and checkpoints with a bit turned over.

    python -m benchmarks.kills --kills 50
    python -m benchmarks.kills --only dqn-wide --flips 0

Kills: `tests/kernel/kill_campaign.py`, more of them and from another seed than the tests. Flips: one bit of one file of
a checkpoint with a replay buffer, its zip or a chunk; it must be refused, or hold the same state.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kernel.checkpoints import checkpoint
from kernel.contract import chunks
from kernel.contract.manifest import CheckpointInvalid, checkpoints_in, verify

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests/kernel"
TIMEOUT_S = 1800.0


def main() -> int:
    """Run the trials and print a table; 1 where something was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="at the least, in each case")
    parser.add_argument("--flips", type=int, default=4000, help="of the zip, and of chunks")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="CASE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaglaunch-kills-") as name:
        folder = Path(name)

        def killed(case: str) -> dict[str, Any]:
            return trials(folder / case, case, given.kills, given.seed)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            rows = list(pool.map(killed, given.only or _cases()))
        print("| case | runs | kills | other states, metrics or timesteps | torn checkpoints | steps back |")
        print("|---|--:|--:|--:|--:|--:|")
        for row in rows:
            found = [row["trials"], row["kills"], len(row["wrong"]), row["invalid"], row["went_back"]]
            print(f"| {row['case']} | {' | '.join(map(str, found))} |")
        bad = sum(len(row["wrong"]) + row["invalid"] + row["went_back"] for row in rows)
        print(f"\n{sum(row['kills'] for row in rows)} kills, {bad} of them wrong")
        if given.flips:
            taken, accepted = flips(folder / "flips", given.flips, given.seed)
            bad += taken
            same = f"{accepted} were of bits that say nothing of the content"
            print(f"{2 * given.flips} flipped bits: {taken} taken for another state, {same}")
    return 1 if bad else 0


def trials(folder: Path, case: str, kills: int, seed: int) -> dict[str, Any]:
    """One case: what was seen, summed over its runs."""
    done = _python([str(TESTS / "kill_campaign.py"), str(folder), case, str(kills), str(seed)])
    found: dict[str, Any] = json.loads(done.splitlines()[-1])
    return found


def _cases() -> list[str]:
    found: list[str] = json.loads(
        _python(["-c", "import json, kill_campaign; print(json.dumps([*kill_campaign.CASES]))"])
    )
    return found


def flips(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Turn over `count` bits of a checkpoint's zip and as many of its chunks, one at a time.

    How many were taken for another state; how many were accepted with the same one.
    """
    trained = (
        "import sys; from pathlib import Path; from kill_campaign import configuration, undisturbed; "
        "undisturbed(configuration('dqn-wide'), Path(sys.argv[1]))"
    )
    _python(["-c", trained, str(folder)])
    path = checkpoints_in(folder / "checkpoints")[0]
    manifest = verify(path)
    state = checkpoint.read_state(path, manifest)
    held = [chunks.path_of(path, chunk) for chunk in chunks.listed(manifest)]
    chance, taken, accepted = random.Random(seed), 0, 0
    for files in ([path], held):
        for _ in range(count):
            file = chance.choice(files)
            place, bit = chance.randrange(file.stat().st_size), 1 << chance.randrange(8)
            _flip(file, place, bit)
            try:
                found = verify(path)
                chunks.verify(path, found)
                same = found.state_digest == manifest.state_digest and checkpoint.read_state(path, found) == state
                accepted, taken = accepted + same, taken + (not same)
            except CheckpointInvalid:
                pass
            _flip(file, place, bit)
    return taken, accepted


def _flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b", buffering=0) as opened:
        byte = os.pread(opened.fileno(), 1, place)[0]
        os.pwrite(opened.fileno(), bytes([byte ^ bit]), place)


def _python(arguments: list[str]) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS))),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, cwd=TESTS
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
