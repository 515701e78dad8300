"""The age of a process is read from the system, never from a wall clock."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from kernel.process import process_age, thread_seconds
from tests.limits import limit_s


@pytest.mark.parametrize(
    ("stat", "uptime", "age"),
    [
        ("1 (a) b) S " + "1 " * 18 + "TICKS 7", "80.5 1.0", 30.5),
        ("1 (a) b) S " + "1 " * 18 + "TICKS 7", "50.25 90.0", 0.25),
        ("1 (a) b) S " + "1 " * 18 + "TICKS 7", "49.0 90.0", 0.0),
        ("1 (a) b) S " + "1 " * 17 + "TICKS", "80.5 1.0", 0.0),
        ("no such line", "80.5 1.0", 0.0),
        ("1 (a) b) S " + "1 " * 18 + "TICKS 7", "", 0.0),
    ],
    ids=["by its start", "young", "never negative", "too short a line", "another line", "no uptime"],
)
def test_process_age_is_told_by_no_wall_clock(stat: str, uptime: str, age: float, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(stat.replace("TICKS", str(50 * os.sysconf("SC_CLK_TCK"))))
    (tmp_path / "uptime").write_text(uptime)
    assert process_age(tmp_path / "stat", tmp_path / "uptime") == age


def test_age_of_a_process_that_the_system_does_not_tell_is_zero(tmp_path: Path) -> None:
    assert process_age(tmp_path / "none") == 0.0
    assert 0.0 < process_age() < 24 * 3600


def test_time_of_a_thread_is_what_it_worked_and_not_what_it_waited(tmp_path: Path) -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        while time.thread_time() < 0.2:
            pass
        done.set()
        go.wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert done.wait(limit_s(10.0))
        worked = thread_seconds(thread)
        assert 0.15 <= worked < limit_s(1.0)
        time.sleep(0.1)
        assert thread_seconds(thread) - worked <= 0.02
        assert thread_seconds(thread, tmp_path) == 0.0
    finally:
        go.set()
        thread.join()
    assert thread_seconds(thread) == 0.0
