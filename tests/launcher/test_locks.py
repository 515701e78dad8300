"""A lock is told by the process that holds it, refuses a second one, and ends with its process however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from launcher import locks
from launcher.errors import LauncherError

REFUSAL = LauncherError("taken")
NOT_HERE = 2**22 + 1
"""A process id that no system gives out: as that of a process which was killed, or lives in another container."""
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
    killed = _holding(path)
    killed.kill()
    killed.communicate()

    def look() -> None:
        found.extend(locks.holder(path) for _ in range(50))

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert found == [None] * 200


@pytest.mark.parametrize("end", ["killed", "done"])
def test_a_look_that_takes_long_is_no_holder(end: str, tmp_path: Path) -> None:
    path, found = tmp_path / "relay.lock", []
    process = _holding(path)
    if end == "killed":
        process.kill()
    process.communicate("\n" if end == "done" else None)

    def work() -> None:
        found.append(locks.holder(path))
        with locks.hold(path, REFUSAL):
            found.append(locks.holder(path))

    worker = threading.Thread(target=work)
    with FileLock(path):  # as a look does that was put to sleep right then
        worker.start()
        time.sleep(1.5)
        assert worker.is_alive(), "it waits for the look"
    worker.join()
    assert found == [None, os.getpid()]


def test_a_holder_that_does_not_live_here_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    path = tmp_path / "relay.lock"
    process = _holding(path)
    path.with_suffix(".pid").write_text(str(NOT_HERE))
    assert locks.holder(path) == NOT_HERE
    with pytest.raises(LauncherError, match="taken"), locks.hold(path, REFUSAL):
        pass
    process.communicate("\n")
    assert locks.holder(path) is None


def test_whoever_works_is_not_turned_away_by_those_who_look(tmp_path: Path) -> None:
    path, stop = tmp_path / "relay.lock", threading.Event()

    def look() -> None:
        while not stop.is_set():
            locks.holder(path)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(5):
            with locks.hold(path, REFUSAL):
                pass
            path.with_suffix(".pid").write_text(
                str(NOT_HERE)
            )  # what a killed one leaves: each look after that takes the lock
    finally:
        stop.set()
        looker.join()
