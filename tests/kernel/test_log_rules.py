"""The figures of the log governor: what is a flood, what is shown, how much of a line, and how often."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.events import Flood
from kernel.session import log_governor
from kernel.session.full_log import FullLog
from kernel.session.log_governor import Budget, Filter, FloodWatch, LogGovernor, is_important
from tests.limits import limit_s, until


def flood(lines_per_s: float, limit: float, reason: str) -> Flood:
    return Flood(lines_per_s=lines_per_s, limit=limit, reason=reason)


@pytest.mark.parametrize(
    ("lines_per_s", "debug_per_s", "verdict"),
    [
        (100, 0, None),
        (101, 0, flood(101.0, 100.0, "too many lines")),
        (101, 101, flood(101.0, 100.0, "too many lines")),
        (19, 19, None),
        (20, 20, flood(20.0, 20.0, "debug output is on")),
        (40, 20, flood(40.0, 20.0, "debug output is on")),
        (41, 20, None),
        (90, 44, None),
        (90, 45, flood(90.0, 20.0, "debug output is on")),
        (0, 0, None),
    ],
)
def test_a_flood_is_more_than_100_lines_a_second_or_20_of_debug_output_that_are_half_of_all(
    lines_per_s: int, debug_per_s: int, verdict: Flood | None
) -> None:
    watch = FloodWatch()
    for second in range(1, 31):
        watch.add(float(second), lines_per_s, debug_per_s)
    assert watch.verdict() == verdict


@pytest.mark.parametrize(("lines", "is_flood"), [(1000, False), (1001, True)])
def test_a_burst_counts_over_ten_seconds(lines: int, is_flood: bool) -> None:
    watch = FloodWatch()
    watch.add(0.0, lines, 0)
    watch.add(9.75, 0, 0)
    assert watch.verdict() == (flood(1001.0, 100.0, "too many lines") if is_flood else None)
    watch.add(10.0, 0, 0)
    assert watch.verdict() is None


def test_the_rate_of_a_flood_is_that_of_its_fastest_second() -> None:
    watch = FloodWatch(window=3.0)
    for now, lines in ((0.0, 200), (0.5, 150), (0.75, 50), (1.0, 30), (1.5, 10)):
        watch.add(now, lines, 0)
    assert watch.verdict() == flood(400.0, 100.0, "too many lines")
    watch.add(3.0, 60, 0)  # what came three seconds ago is forgotten: it was printed before the window
    assert watch.verdict() is None
    watch.add(3.25, 100, 0)
    assert watch.verdict() == flood(230.0, 100.0, "too many lines")
    watch.add(3.5, 0, 300)
    assert watch.verdict() == flood(160.0, 20.0, "debug output is on")


def test_a_limit_is_broken_once_and_measured_for_a_second() -> None:
    watch = FloodWatch()
    assert watch.due_s(0.0) is None
    assert [watch.add(now, 600, 0) for now in (0.0, 0.5, 0.75)] == [False, True, False]
    assert [watch.due_s(now) for now in (0.5, 1.25, 1.5, 9.0)] == [1.0, 0.25, 0.0, 0.0]
    assert not watch.add(10.5, 0, 0)
    assert watch.due_s(10.5) is None
    assert watch.add(10.5, 1001, 0)
    assert watch.due_s(10.5) == 1.0


def test_a_budget_fills_up_by_the_second_and_never_beyond_what_goes_at_once() -> None:
    budget = Budget(3, 0.5)
    taken = [budget.take(now) for now in (0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0)]
    assert taken == [True, True, True, False, False, True, False, False, True]
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_budget_counts_from_its_first_use() -> None:
    budget = Budget(1, 1.0)
    assert [budget.take(now) for now in (1000.0, 1000.0, 1000.5, 1001.0)] == [True, False, False, True]


@pytest.fixture
def shown() -> list[str]:
    return []


def test_a_line_that_repeats_is_shown_the_1st_10th_and_100th_time(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    for k in range(1000):
        chosen.line(b"cell %d" % k, 0.0)
    assert shown == [
        "cell 0",
        "cell 9  [10 times so far]",
        "cell 99  [100 times so far]",
        "cell 999  [1,000 times so far]",
    ]
    assert chosen.hidden == 996


def test_a_warning_that_repeats_is_shown_whenever_its_count_has_doubled(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    for k in range(1, 10):
        chosen.line(b"warning %d" % k, 0.0)
    times = ["", "  [2 times so far]", "  [4 times so far]", "  [8 times so far]"]
    assert shown == [f"warning {k}{said}" for k, said in zip((1, 2, 4, 8), times, strict=True)]
    assert chosen.hidden == 0


def test_200_lines_go_at_once_and_one_more_every_34_seconds_and_warnings_cost_nothing(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    for k in range(300):
        chosen.line(f"error {'x' * k}".encode(), 0.0)
    shown.clear()
    for k in range(201):
        chosen.line(f"plain {'x' * k}".encode(), 0.0)
    assert (len(shown), chosen.hidden) == (200, 1)
    chosen.line(b"at 33.25 s", 33.25)
    assert (len(shown), chosen.hidden) == (200, 2)
    chosen.line(b"at 33.5 s anew", 33.5)
    assert (shown[-1], chosen.hidden) == ("at 33.5 s anew", 2)


def test_blank_lines_are_neither_shown_nor_counted(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    for line in (b"", b"  ", b"\t"):
        chosen.line(line, 0.0)
    assert (shown, chosen.hidden) == ([], 0)


@pytest.mark.parametrize(
    ("word", "length", "more"),
    [(b"plain", 500, None), (b"plain", 501, 1), (b"plain", 1500, 1000), (b"error", 2000, None), (b"error", 2001, 1)],
)
def test_a_long_line_is_cut_and_says_by_how_much(word: bytes, length: int, more: int | None, shown: list[str]) -> None:
    Filter(shown.append).line(word.ljust(length, b"x"), 0.0)
    text = word.decode().ljust(length, "x")
    assert shown == [text if more is None else f"{text[:-more]} … [{more:,} bytes more in the full log]"]


def words(count: int) -> list[bytes]:
    """Different lines without a digit, each a warning."""
    return [f"warn {k:b}".translate({48: "o", 49: "l"}).encode() for k in range(count)]


def test_the_first_2000_forms_are_counted_and_any_later_warning_is_shown_each_time(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    forms = words(2001)
    for form in forms:
        chosen.line(form, 0.0)
    for form in (forms[0], forms[0], forms[0], forms[1999], forms[2000], forms[2000]):
        chosen.line(form, 0.0)
    first, last, later = (forms[number].decode() for number in (0, 1999, 2000))
    counted = [f"{first}  [2 times so far]", f"{first}  [4 times so far]", f"{last}  [2 times so far]"]
    assert shown[2001:] == [*counted, later, later]


@pytest.mark.parametrize(
    "line",
    ["Warning: x", "an ERROR", "an Exception", "Traceback", "CRITICAL", "fatal: x", "Killed", "CUDA Out of Memory"],
)
def test_what_may_be_a_warning_is_important(line: str) -> None:
    assert is_important(line.encode())
    assert not is_important(b"loss 0.5, reward 3")


def test_a_traceback_is_shown_to_its_error_and_no_further(shown: list[str]) -> None:
    chosen = Filter(shown.append)
    chosen._budget = Budget(0, 0.0)
    lines = ["Traceback (most recent call last):", '  File "a.py"', "\traise x", "", "Unlucky: " + "z" * 500]
    chosen.line(b"File a.py", 0.0)
    for line in lines:
        chosen.line(line.encode(), 0.0)
        assert chosen.in_traceback is (line != lines[-1])
    chosen.line(b"  indented all the same", 0.0)
    assert shown == [line for line in lines if line]
    assert chosen.last_error == lines[-1][:500] + " … [9 bytes more in the full log]"
    assert chosen.hidden == 2


Take = Callable[..., LogGovernor]


@pytest.fixture
def governor(tmp_path: Path, shown: list[str]) -> Any:
    """A governor whose pipe is closed: what it takes is handed to it, at times that are set."""
    read, write = os.pipe()
    os.close(write)
    now, verdicts = [0.0], []
    made = LogGovernor(read, FullLog(tmp_path), shown.append, verdicts.append, clock=lambda: now[0])
    made.join(limit_s(30.0))
    made.now, made.verdicts = now, verdicts  # type: ignore[attr-defined]
    return made


def a_second_later(governor: Any) -> list[Flood]:
    """What is told once a flood has been measured."""
    governor.now[0] += 1.0
    governor.take(b"")
    told: list[Flood] = governor.verdicts
    return told


def test_200_lines_at_once_are_looked_at_one_by_one_and_of_more_only_those_with_a_warning(
    governor: Any, shown: list[str]
) -> None:
    governor.take(b"one\n" * 200)
    assert (shown, governor.hidden, governor.lines) == (
        ["one", "one  [10 times so far]", "one  [100 times so far]"],
        197,
        200,
    )
    governor.take(b"two\n" * 201)
    assert (len(shown), governor.hidden, governor.lines) == (3, 398, 401)
    governor.take(b"three\n" * 200 + b"a warning\n")
    assert shown[3:] == ["three", "three  [10 times so far]", "three  [100 times so far]", "a warning"]
    assert (governor.hidden, governor.lines) == (595, 602)


def test_a_traceback_goes_on_in_the_next_batch_however_large(governor: Any, shown: list[str]) -> None:
    governor.take(b"Traceback (most recent call last):\n")
    governor.take(b"  frame\n" * 200 + b"Unlucky: 7\n")
    assert shown[-1] == "Unlucky: 7"
    assert governor.last_error == "Unlucky: 7"


def test_the_rest_of_a_line_is_waited_for_and_its_end_of_either_kind_taken_off(governor: Any, shown: list[str]) -> None:
    governor.take(b"a b")
    governor.take(b"c\r\nd")
    assert (shown, governor.lines) == (["a bc"], 1)


def test_a_line_without_an_end_is_kept_to_a_mebibyte(governor: Any, shown: list[str]) -> None:
    governor.take(b"x" * ((1 << 20) + 5))
    governor.take(b"\n")
    assert shown[0].endswith(f" … [{(1 << 20) - 500:,} bytes more in the full log]")


@pytest.mark.parametrize(("each", "is_flood"), [(50, True), (150, False)])
def test_debug_lines_of_a_large_batch_are_estimated_from_each_fiftieth(
    each: int, is_flood: bool, governor: Any
) -> None:
    lines = [b"[DEBUG] x" if k % each == 0 else b"cell" for k in range(300)]
    governor.take(b"\n".join(lines) + b"\n")
    told = [replace(told, sample="") for told in a_second_later(governor)]
    assert told == [flood(300.0, 20.0, "debug output is on")] * is_flood


@pytest.mark.parametrize(("lines", "verdicts"), [(200, 1), (201, 0)])
def test_each_of_200_lines_is_looked_at_for_a_debug_tag_and_of_more_each_fiftieth(
    lines: int, verdicts: int, governor: Any
) -> None:
    for _ in range(2):
        governor.take(b"\n".join([b"cell", b"[DEBUG] x"] * (lines // 2) + [b"cell"] * (lines % 2) + [b""]))
    assert len(a_second_later(governor)) == verdicts


@pytest.mark.parametrize(("lines", "verdicts"), [(199, 0), (200, 1)])
def test_debug_lines_that_come_one_by_one_are_counted(lines: int, verdicts: int, governor: Any) -> None:
    for _ in range(lines):
        governor.take(b"[DEBUG] x\n")
    assert len(a_second_later(governor)) == verdicts


@pytest.mark.parametrize("tag", [b"DEBUG:", b"[DEBUG] x", b"  [DEBUG", b"<DEBUG_BC_GPU>", b"not at the start DEBUG"])
def test_a_debug_tag_stands_at_the_start_of_a_line(tag: bytes, governor: Any) -> None:
    governor.take((tag + b"\n") * 200)
    assert len(a_second_later(governor)) == (not tag.startswith(b"not"))


def test_a_flood_is_told_once_until_it_has_passed(governor: Any) -> None:
    told = []
    for second, lines in ((0, 1001), (1, 50), (2, 50), (10, 50), (11, 900), (12, 200), (13, 5), (14, 5)):
        governor.now[0] = float(second)
        governor.take(b"x\n" * lines)
        told.append(len(governor.verdicts))
    assert told == [0, 1, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("lines_per_s", [130, 1500, 5000, 40_000])
def test_a_flood_is_told_with_its_own_rate_and_not_with_that_of_the_limit(lines_per_s: int, governor: Any) -> None:
    for look in range(1000):
        governor.now[0] = look / 100
        governor.take(b"step done\n" * (lines_per_s // 100) + b"more\n" * (lines_per_s % 100 > look % 100))
    (told,) = governor.verdicts
    assert told.lines_per_s == pytest.approx(lines_per_s, rel=0.02)
    assert (told.limit, told.sample) == (100.0, "step done")


def test_the_sample_is_of_what_broke_the_limit(governor: Any) -> None:
    governor.take(b"cell 5\n" * 1001)
    governor.take(b"what came after it\n")
    assert [told.sample for told in a_second_later(governor)] == ["cell 5"]


def test_a_flood_that_is_followed_by_silence_is_told_all_the_same(tmp_path: Path) -> None:
    read, write = os.pipe()
    verdicts: list[Flood] = []
    governor = LogGovernor(read, FullLog(tmp_path), lambda line: None, verdicts.append)
    os.write(write, b"x\n" * 1500)
    until(lambda: verdicts)
    os.close(write)
    governor.join(limit_s(30.0))
    assert verdicts == [replace(flood(1500.0, 100.0, "too many lines"), sample="x")]


Held = Callable[[], LogGovernor]


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LogGovernor, int, Held]]:
    """A governor that is held while it shows its first line, the trainer's end of its pipe, and what lets it go on.

    It reads ten bytes at once; the trainer's end is closed before it goes on.
    """
    monkeypatch.setattr(log_governor, "CHUNK", 10)
    looking, go_on = threading.Event(), threading.Event()

    def show(line: str) -> None:
        looking.set()
        go_on.wait(limit_s(60.0))

    read, write = os.pipe()
    governor = LogGovernor(read, FullLog(tmp_path), show, lambda verdict: None)
    os.write(write, b"123456789\n")
    assert looking.wait(limit_s(30.0))

    def let_go() -> LogGovernor:
        os.close(write)
        governor._threads[0].join(limit_s(30.0))
        go_on.set()
        governor.join(limit_s(30.0))
        return governor

    yield governor, write, let_go
    go_on.set()


@pytest.mark.parametrize("backlog", [1000, 1009])
def test_what_comes_faster_than_it_can_be_looked_at_is_counted(
    backlog: int, held: tuple[LogGovernor, int, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    governor, write, let_go = held
    monkeypatch.setattr(log_governor, "MAX_BACKLOG", backlog)
    os.write(write, b"123456789\n" * 200)
    let_go()
    assert (governor.lines, governor.lost_bytes) == (1 + 101, 990)


@pytest.mark.parametrize(("waiting", "lost"), [(64 << 20, 0), ((64 << 20) + 1, 10)])
def test_64_mebibytes_may_wait(waiting: int, lost: int, held: tuple[LogGovernor, int, Held]) -> None:
    governor, write, let_go = held
    governor._waiting_bytes = waiting
    os.write(write, b"123456789\n")
    assert let_go().lost_bytes == lost


def test_what_was_looked_at_is_on_the_disk_and_the_pipe_is_closed(tmp_path: Path) -> None:
    read, write = os.pipe()
    governor = LogGovernor(read, FullLog(tmp_path), lambda line: None, lambda verdict: None)
    os.write(write, b"one\n")
    os.close(write)
    governor.join(limit_s(30.0))
    assert (tmp_path / "trainer.log").read_bytes() == b"one\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
