"""Own time is the same on a busy machine: it counts work and sleep, and no waiting for a processor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .limits import until
from .own_time import LOOK_S, OwnTime, Spent

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not tell of threads")
SPIN = "while True: pass"
PINNED = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
WAITS = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
THREAD = "import threading; threading.Thread(target=eval, args=('[0 for _ in iter(int, 1)]',)).start()"

Start = Callable[[str], OwnTime]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python on a text, and end it after the test."""
    with ExitStack() as stack:

        def started(text: str) -> OwnTime:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", text], start_new_session=True))
            stack.callback(os.killpg, process.pid, 9)
            return OwnTime(process.pid)

        yield started


def looked(own: OwnTime, worked_s: float = 0.0, slept_s: float = 0.0) -> Spent:
    """Look until that much was worked and slept."""

    def reached() -> bool:
        own.look()
        return own.spent.worked_s >= worked_s and own.spent.slept_s >= slept_s

    until(reached, 60.0, poll_s=LOOK_S)
    return own.spent


def test_sleep_is_counted_and_is_no_work(start: Start) -> None:
    assert looked(start("import time; time.sleep(1000)"), slept_s=1.0).worked_s < 1.0


@pytest.mark.parametrize("text", [SPIN, WAITS.format(SPIN), THREAD], ids=["itself", "its child", "its thread"])
def test_work_is_counted_and_is_no_sleep(text: str, start: Start) -> None:
    assert looked(start(text), worked_s=1.5).slept_s < 0.5


def test_waiting_for_a_processor_is_neither(start: Start) -> None:
    for _ in range(3):
        start(PINNED + SPIN)
    began, own = time.monotonic(), start(PINNED + "os.nice(19)\n" + SPIN)
    while (taken_s := time.monotonic() - began) < 4.0:
        own.look()
        time.sleep(LOOK_S)
    assert sum(own.spent) < 0.5 * taken_s


def test_what_was_spent_stays_when_the_process_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as process:
        own = OwnTime(process.pid)
        spent = looked(own, worked_s=0.5)
        process.kill()
    own.look()
    assert own.spent == spent


@pytest.mark.parametrize(("spent", "exceeds"), [((1, 2), False), ((1.1, 0), True), ((0, 2.1), True)])
def test_a_limit_is_exceeded_by_either(spent: tuple[float, float], exceeds: bool) -> None:
    assert Spent(*spent).exceeds(Spent(1, 2)) is exceeds
