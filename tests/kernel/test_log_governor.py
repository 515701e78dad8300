"""The trainer's output costs it nothing, the log stays readable, and no warning is ever lost."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.events import Checkpoint, Event, Flood, Progress
from kernel.session.event_governor import EventGovernor
from kernel.session.full_log import FullLog
from kernel.session.log_governor import Filter, FloodWatch, LogGovernor, sample_of
from tests.limits import limit_s


def governed(data: bytes, folder: Path, **kwargs: Any) -> tuple[list[str], list[dict[str, Any]], LogGovernor]:
    """What is shown of `data`, and the verdicts on it."""
    shown: list[str] = []
    verdicts: list[Flood] = []
    read, write = os.pipe()
    log = FullLog(folder)
    governor = LogGovernor(read, log, shown.append, verdicts.append, **kwargs)
    with os.fdopen(write, "wb") as file:
        file.write(data)
    governor.join(limit_s(30.0))
    log.close()
    return shown, verdicts, governor


def test_ordinary_output_is_shown_as_it_is(tmp_path: Path) -> None:
    shown, verdicts, _ = governed(b"one\ntwo\n\nthree", tmp_path)
    assert shown == ["one", "two", "three"]
    assert verdicts == []
    assert (tmp_path / "trainer.log").read_bytes() == b"one\ntwo\n\nthree"


def test_flood_is_a_verdict_and_its_warnings_are_shown(tmp_path: Path) -> None:
    lines = [f"[DEBUG_BC_GPU] cell {i} rho={i / 7:.3f}" for i in range(20_000)]
    lines[9_000] = "RuntimeWarning: overflow encountered in multiply"
    lines[15_000:15_000] = [
        "Traceback (most recent call last):",
        '  File "solver.py", line 3, in step',
        "    raise ValueError(x)",
        "ValueError: negative density",
    ]
    shown, verdicts, governor = governed("\n".join(lines).encode(), tmp_path)
    assert verdicts[0].lines_per_s > 100
    assert "RuntimeWarning: overflow encountered in multiply" in shown
    assert "ValueError: negative density" in shown
    assert "    raise ValueError(x)" in shown
    assert len(shown) < 30
    assert governor.last_error == "ValueError: negative density"
    assert governor.lines == 20_003


def test_repeated_warnings_are_folded_with_their_count() -> None:
    shown: list[str] = []
    chosen = Filter(shown.append)
    for i in range(1000):
        chosen.line(f"WARNING: step {i} took {i} ms".encode(), 0.0)
    assert len(shown) == 10
    assert shown[-1] == "WARNING: step 511 took 511 ms  [512 times so far]"


def test_no_distinct_warning_is_dropped_however_many_lines_there_are() -> None:
    shown: list[str] = []
    chosen = Filter(shown.append)
    for i in range(3000):
        chosen.line(b"plain %d" % i, 0.0)
        chosen.line(f"ERROR in part {'x' * (i % 50)}".encode(), 0.0)
    assert {line.partition("  [")[0] for line in shown if line.startswith("ERROR")} == {
        f"ERROR in part {'x' * n}".rstrip() for n in range(50)
    }


def test_twelve_hours_of_chatter_stay_under_a_megabyte_and_a_line_a_second() -> None:
    shown: list[str] = []
    chosen = Filter(shown.append)
    words = ["alpha", "beta", "gamma", "delta"]
    for second in range(12 * 3600):
        for k in range(3):
            text = f"{words[(second + k) % 4]} {words[second * 7 % 4]} value {second}.{k} {'y' * 80}"
            chosen.line(text.encode(), second)
    assert len(shown) < 12 * 3600 * 0.1
    assert sum(map(len, shown)) < 500_000


def test_twelve_hours_of_events_stay_small_and_the_last_of_each_kind_is_told() -> None:
    told: list[Event] = []
    now = [0.0]
    governor = EventGovernor(told.append, clock=lambda: now[0])
    for step in range(12 * 3600):
        now[0] = float(step)
        governor.event(Checkpoint(num_timesteps=step, state_digest="0" * 64, bytes=300_000, seconds=0.01))
        governor.event(Progress(num_timesteps=step, steps_per_s=10.0, reward=0.5))
        if step == 20_000:
            governor.event(Flood(lines_per_s=200.0))
        governor.pump()
    governor.flush()
    size = sum(len(json.dumps(event.plain())) for event in told)
    assert size < 600_000
    assert Flood(lines_per_s=200.0) in told
    last = {event.name: event.num_timesteps for event in told if isinstance(event, (Checkpoint, Progress))}
    assert last == {"checkpoint": 43_199, "progress": 43_199}
    assert [e.num_timesteps for e in told if isinstance(e, Checkpoint)][:100] == list(range(100))


@pytest.mark.parametrize(
    ("per_second", "seconds", "is_flood"),
    [(50, 60, False), (90, 60, False), (130, 60, True), (900, 1, False), (1500, 1, True)],
)
def test_flood_is_a_sustained_rate_and_not_a_burst(per_second: int, seconds: int, is_flood: bool) -> None:
    watch = FloodWatch()
    verdicts = []
    for tenth in range(seconds * 10):
        watch.add(tenth / 10, per_second // 10, 0)
        verdicts.append(watch.verdict())
    assert any(verdicts) == is_flood


@pytest.mark.parametrize(
    ("lines", "sample"),
    [
        ([b"[DEBUG] one", b"[DEBUG] two", b"loss 3"], "[DEBUG] two"),
        ([b"loss 3", b"loss 4", b"", b"  "], "loss 4"),
        ([], ""),
        ([b"\x1b[31m red\x1b[0m\x00\x07 and\tblue \xff\r"], "red and blue \ufffd"),
        ([b"x" * 121], "x" * 118 + " \u2026"),
        ([b"x" * 120], "x" * 120),
        ([b" " * 1999 + b"ab"], "a"),
        ([b"api_key=abcd1234 x"], "api_key=(hidden) x"),
        ([b"{'KAGGLE_KEY': 'abcd'}"], "{'KAGGLE_KEY': '(hidden)'}"),
        ([b"Authorization: Bearer abc.def"], "Authorization: (hidden)"),
        ([b"password hunter2"], "password (hidden)"),
        ([b"https://user:word@host/path"], "https://(hidden)@host/path"),
        ([b"sent a1b2c3d4e5f6a7b8c9d0e1f2"], "sent (hidden)"),
        ([b"[DEBUG_BC_GPU] cell 17 rho=0.1234 keyboard 5"], "[DEBUG_BC_GPU] cell 17 rho=0.1234 keyboard 5"),
    ],
)
def test_the_sample_of_a_flood_is_one_printable_line_without_a_secret(lines: list[bytes], sample: str) -> None:
    assert sample_of(lines) == sample


def test_a_flood_is_told_with_one_of_its_lines(tmp_path: Path) -> None:
    _, (flood, *_), _ = governed(b"starts\n" + b"[DEBUG] token=abc step 3001\n" * 2_000, tmp_path)
    assert flood.sample == "[DEBUG] token=(hidden) step 3001"


def test_few_debug_lines_are_no_flood_and_many_are() -> None:
    few, many = FloodWatch(), FloodWatch()
    for second in range(20):
        few.add(float(second), 30, 5)
        many.add(float(second), 30, 25)
    assert few.verdict() is None
    verdict = many.verdict()
    assert verdict is not None
    assert verdict.reason == "debug output is on"


def test_full_log_is_compressed_capped_and_keeps_its_beginning(tmp_path: Path) -> None:
    log = FullLog(tmp_path, piece_bytes=20_000, max_bytes=60_000)
    for i in range(6000):
        log.write(f"line {i} {os.urandom(20).hex()}\n".encode())
    log.close()
    pieces = log.pieces()
    assert sum(path.stat().st_size for path in pieces) <= 60_000 + 20_000
    assert gzip.decompress(pieces[0].read_bytes()).startswith(b"line 0 ")
    assert b"line 5999 " in (tmp_path / "trainer.log").read_bytes()
    numbers = [int(path.name.split(".")[2]) for path in pieces]
    assert numbers[:2] == [1, 2]
    assert numbers[2] > 3, "the middle goes first"


FLOOD = """
import sys
for i in range(1_000_000):
    sys.stdout.write("[DEBUG_BC_GPU] cell 17 rho=0.1234 w=12.34 dispatch ok\\n")
"""


@pytest.mark.slow
def test_child_that_prints_a_million_lines_is_read_to_the_last_and_ends_by_itself(tmp_path: Path) -> None:
    read, write = os.pipe()
    log = FullLog(tmp_path)
    governor = LogGovernor(read, log, lambda line: None, lambda verdict: None)
    done = subprocess.run([sys.executable, "-c", FLOOD], stdout=write, timeout=limit_s(120), check=False)
    os.close(write)
    governor.join(limit_s(30.0))
    log.close()
    assert done.returncode == 0
    assert governor.lines == 1_000_000
