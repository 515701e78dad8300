"""A lock is told by the process that holds it, refuses a second one, and ends with its process however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher import locks
from launcher.errors import LauncherError

REFUSAL = LauncherError("taken")
HOLD = """
import sys, time
from pathlib import Path
from launcher import locks
with locks.hold(Path(sys.argv[1]), SystemExit("taken")):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _holding(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", ["killed", "done"])
def test_the_holder_is_told_until_its_process_ends(end: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "relay.lock"
    assert locks.holder(path) is None
    process = _holding(path)
    assert locks.holder(path) == process.pid
    with pytest.raises(LauncherError, match="taken"), locks.hold(path, REFUSAL):
        pass
    if end == "killed":
        process.kill()
    process.communicate("\n" if end == "done" else None)
    assert locks.holder(path) is None
    with locks.hold(path, REFUSAL):
        assert locks.holder(path) == os.getpid()


def test_those_who_look_at_one_time_do_not_take_each_other_for_a_holder(tmp_path: Path) -> None:
    path, found = tmp_path / "relay.lock", []
    with locks.hold(path, REFUSAL):
        pass

    def look() -> None:
        found.extend(locks.holder(path) for _ in range(50))

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert found == [None] * 200


def test_whoever_works_is_not_turned_away_by_those_who_look(tmp_path: Path) -> None:
    path, stop = tmp_path / "relay.lock", threading.Event()
    with locks.hold(path, REFUSAL):
        pass

    def look() -> None:
        while not stop.is_set():
            locks.holder(path)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(5):
            with locks.hold(path, REFUSAL):
                pass
    finally:
        stop.set()
        looker.join()
