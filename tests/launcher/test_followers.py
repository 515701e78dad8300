"""Any number of processes follow one session, and none is in another's way, however each of them ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.contract.config import RunConfig
from launcher import Kaglaunch
from launcher.cli import main
from launcher.runs import checkpoints
from launcher.runs.kept_log import Copy, kept_lines
from launcher.runs.records import Run, new_run
from launcher.targets.base import LogLine
from launcher.transfers import OnBytes, PlainTransfers
from tests.limits import limit_s

from .local_kaggle.callers import until
from .stage import ENDLESS, FINISHED, Stage

TALKS = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
number = 0
while number < 40 or not os.path.exists({go!r}):
    print("line", number, file=sys.stderr, flush=True)
    number += 1
    time.sleep(0.05)
say("published", num_timesteps=100)
say("result", status="finished", num_timesteps=100, total_timesteps=100, published_timesteps=100)
"""


class Typed:
    """A command in a process of its own; what it says goes to a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out = folder / f"{arguments[0]}-{len(list(folder.glob('*.out')))}.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kaglaunch", *arguments], cwd=folder, stdout=out, stderr=out
            )

    @property
    def said(self) -> str:
        return self._out.read_text("utf-8")

    def sees(self, text: str) -> None:
        until(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said

    def ends(self) -> int:
        return self.process.wait(limit_s(60))


def _written(lines: list[LogLine]) -> str:
    return "".join(f"{line.time:.3f} {line.stream} {line.text}\n" for line in lines)


@pytest.mark.slow
def test_a_relay_and_watches_of_one_session_end_as_they_should_and_its_log_is_whole(
    stage: Stage, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    run = stage.begins(TALKS.format(go=str(go)))
    stage.publish(run, 100)
    relay = Typed(tmp_path, "relay", run.run_id)
    relay.sees("line 1\n")
    watches = [Typed(tmp_path, "watch", run.run_id) for _ in range(3)]
    for watch in watches:
        watch.sees("line 9\n")
    killed = watches.pop()
    killed.process.send_signal(signal.SIGKILL)
    assert killed.ends() == -signal.SIGKILL
    go.touch()
    for watch in watches:
        assert watch.ends() == 0, watch.said
        assert "is finished: 100 of 100 timesteps" in watch.said
    assert relay.ends() == 0, relay.said
    assert "is finished: 100 timesteps" in relay.said
    assert run.log(1).read_text("utf-8") == _written(list(stage.backend().log_lines(run.slug(1))))
    assert {path.name for path in run.folder.iterdir() if "log" in path.name} == {"session-1.log", "logs.lock"}


@pytest.mark.slow
def test_a_watch_leaves_alone_what_another_process_is_just_pushing(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.new_run()
    stage.book.add_run(run)
    stage.book.begin_session(
        run, device="cpu", accelerator=None, max_seconds=60, max_timesteps_at_risk=0, publish_interval_seconds=1,
        after=0, submission="pushing",
    )  # fmt: skip
    assert main(["watch", run.run_id]) == 1
    assert "is being pushed" in capsys.readouterr().err
    (session,) = stage.book.sessions(run.run_id)
    assert session.submission == "pushing"


@pytest.mark.parametrize("script", [ENDLESS, FINISHED], ids=["it runs on", "it has ended"])
def test_a_log_that_was_kept_in_part_is_shown_to_its_end(
    stage: Stage, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    run = stage.begins(script)
    until(lambda: stage.sessions(run) == ["RUNNING" if script == ENDLESS else "COMPLETE"])
    whole = until(lambda: len(found := _read(stage, run, script)) > 1 and found)
    with Copy(run, 1) as copy:
        copy.write(whole[0])
    assert main(["logs", run.run_id, "--raw"]) == 0
    assert capsys.readouterr().out == _written(whole)
    assert _written(list(itertools.islice(Kaglaunch().logs(run.run_id), len(whole)))) == _written(whole)

    # What the target does not give any more is here as far as it was kept.
    stage.backend().delete(run.slug(1))
    assert main(["logs", run.run_id, "--raw"]) == 0
    assert capsys.readouterr().out == _written(whole[:1])


def _read(stage: Stage, run: Run, script: str) -> list[LogLine]:
    """What the log of the session tells by now; that of a running one has no end."""
    lines = stage.backend().log_lines(run.slug(1))
    return list(itertools.islice(lines, 2) if script == ENDLESS else lines)


class Held(PlainTransfers):
    """Says what it is told, and holds the first download at its beginning."""

    def __init__(self, go_on: threading.Event | None = None) -> None:
        self.said: list[str] = []
        self.begun = threading.Event()
        self._go_on = go_on
        super().__init__(self.said.append)

    @contextlib.contextmanager
    def file(self, name: str, origin: str) -> Iterator[OnBytes]:
        def on_bytes(got: int, total: int) -> None:
            self.begun.set()
            if self._go_on is not None:
                self._go_on.wait(limit_s(60))

        yield on_bytes


def test_who_fetches_beside_another_takes_what_that_one_brings(stage: Stage) -> None:
    run = stage.begins(FINISHED)
    stage.publish(run, 40)
    stage.publish(run, 50)
    until(lambda: len(stage.backend().dataset_versions(run.dataset)) == 2)
    go_on = threading.Event()
    shown = [Held(go_on), Held()]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(checkpoints.fetch, run, stage.backend(), stage.book, transfers=shown[0])
        assert shown[0].begun.wait(limit_s(30))
        second = pool.submit(checkpoints.fetch, run, stage.backend(), stage.book, transfers=shown[1])
        until(lambda: second.done() or shown[1].said)
        go_on.set()
        results = [*first.result(limit_s(60)), *second.result(limit_s(60))]
    assert [(result.num_timesteps, result.verdict) for result in results] == [(50, "verified"), (50, "already here")]
    assert shown[1].said == ["checkpoint_t50.zip: waiting for another process that fetches of this run."]


@pytest.fixture
def run(home: Path) -> Run:
    return new_run("quick-copies", "local", "local", RunConfig("quick-copies", 100, 10), home)


LINES = [LogLine(float(number), "stdout", f"line {number} \ud83d") for number in range(9)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(0, len(LINES)), min_size=1, max_size=5), st.data())
def test_the_longest_copy_is_kept_in_whatever_order_followers_end(
    run: Run, seen: list[int], data: st.DataObject
) -> None:
    run.log(1).unlink(missing_ok=True)
    copies = [Copy(run, 1) for _ in seen]
    rounds = itertools.zip_longest(*(LINES[:count] for count in seen))
    for lines in rounds:  # they write side by side
        for copy, line in zip(copies, lines, strict=True):
            if line is not None:
                copy.write(line)
    for at in data.draw(st.permutations(range(len(seen)))):
        with copies[at]:
            pass
    kept = [line.text.encode().decode() for line in kept_lines(run.log(1))]
    assert kept == [f"line {number} \\ud83d" for number in range(max(seen))]
    assert {path.name for path in run.folder.iterdir()} == {"session-1.log", "logs.lock"}


def test_what_was_kept_amid_a_following_is_followed_by_the_rest(run: Run) -> None:
    with Copy(run, 1) as copy:
        for line in LINES:
            copy.write(line)
            copy.keep()
            assert len(list(kept_lines(run.log(1)))) == line.time + 1


def test_a_following_that_is_broken_off_keeps_what_it_saw(run: Run) -> None:
    def follow() -> None:
        with Copy(run, 1) as copy:
            copy.write(LINES[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow()
    assert len(list(kept_lines(run.log(1)))) == 1
