"""A relay finishes its run whatever ends its sessions or itself, pushes nothing twice, and knows when to stop."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher import locks
from launcher.cli import main
from launcher.config import Settings
from launcher.errors import AlertStop, SessionCut
from launcher.local_kaggle import quota
from launcher.local_kaggle.service import LocalKaggle
from launcher.runs import next_step as stepping
from launcher.runs import submission as pushing
from launcher.runs.bound_run import BoundRun
from launcher.runs.ledger import Ledger
from launcher.runs.progress import Progress
from launcher.runs.records import Relay, Run, Session, new_run
from launcher.runs.relay import RelayGaveUp, Relaying, fruitless
from launcher.targets.base import Backend, SessionState, Status
from launcher.targets.kaggle import KaggleBackend
from launcher.targets.target import Target, TargetName, local_kaggle
from launcher.transfers import PlainTransfers
from tests.limits import limit_s, until

from .local_kaggle.callers import DATASETS, FAST, Caller
from .relayed import CONFIG, RUN_ID, Sessions

GPU = {"device": "cuda", "accelerator": "NvidiaTeslaT4"}


class ServerClock:
    """The embedded Kaggle's: to sleep is to put it forward."""

    def __init__(self, kaggle: LocalKaggle) -> None:
        self._kaggle = kaggle
        self.slept: list[float] = []

    def now(self) -> float:
        return time.time() + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self._kaggle.advance_clock(seconds)
        self.slept.append(seconds)


@pytest.fixture
def kaggle(home: Path) -> Iterator[LocalKaggle]:
    service = local_kaggle()
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(**FAST)
    yield service
    service.stop()


@pytest.fixture
def book(home: Path) -> Ledger:
    return Ledger()


@pytest.fixture
def backend(kaggle: LocalKaggle) -> Backend:
    found = Target(TargetName.local, "a test").connect()
    assert isinstance(found, KaggleBackend)
    return found


def _begin(kaggle: LocalKaggle, book: Ledger, backend: Backend, folder: Path, device: str = "cpu") -> Run:
    """The run with its first session pushed, and the dataset that later ones mount."""
    call = Caller(kaggle)
    run = new_run(RUN_ID, "local", "local", CONFIG, folder)
    call.dataset(f"{RUN_ID}-ckpt", run__json=b"{}")

    def ready() -> bool:
        try:
            answer = call(DATASETS, "GetDatasetStatus", ownerSlug="local", datasetSlug=f"{RUN_ID}-ckpt")
        except OSError:
            return False
        return str(answer["status"]).upper() == "READY"

    until(ready)
    settings = Settings()
    session = dataclasses.replace(settings.session, device=device, max_hours=1.0)
    settings = dataclasses.replace(settings, session=session)
    bound = BoundRun(run, book, target=Target(TargetName.local, "a test"), backend=backend)
    pushing.start(bound, pushing.prepare(bound, 1, settings, resumes=False), settings, after=0)
    return run


def _relaying(
    run: Run, book: Ledger, backend: Backend, kaggle: LocalKaggle, said: list[str], **wish: Any
) -> tuple[Relaying, ServerClock]:
    clock = ServerClock(kaggle)
    values = {"device": "cpu", "accelerator": "", "max_hours": 1.0, "since": 0, **wish}
    asked: Relay = book.begin_relay(run.run_id, **values)

    def follow(session: Session) -> SessionState:
        """What a watch leaves in the ledger, without its patience."""
        slug, progress = run.slug(session.number), Progress()
        state = until(lambda: (found := backend.state(slug)).status.final and found)
        for line in backend.log_lines(slug) if state.status is Status.COMPLETE else ():
            progress.observe(line)
        result = progress.result.status if progress.result else ""
        book.update_session(run.run_id, session.number, status=state.status.value, result=result)
        return state

    target = Target(TargetName.local, "a test")
    bound = BoundRun(run, book, PlainTransfers(said.append), target=target, backend=backend)
    return Relaying(bound, asked, follow, 6 * 3600.0, clock), clock


def _pushed(kaggle: LocalKaggle) -> Counter[str]:
    return Counter(session["kernel"].split("/")[1] for session in kaggle.status()["sessions"])


def test_sessions_follow_each_other_until_the_run_is_done(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    said: list[str] = []
    relay, _ = _relaying(run, book, backend, kaggle, said)
    assert relay.to_the_end().num_timesteps == 100
    assert _pushed(kaggle) == {run.slug(number): 1 for number in (1, 2, 3, 4)}
    assert [session.result for session in book.sessions(RUN_ID)] == ["deadline"] * 3 + ["finished"]
    assert [session.resumed_timesteps for session in book.sessions(RUN_ID)] == [None, 25, 50, 75]


def test_a_quota_that_is_out_is_waited_for_until_saturday(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home, device="cuda")
    kaggle.set_fault("quota_used_h", 29.9)
    said: list[str] = []
    relay, clock = _relaying(run, book, backend, kaggle, said, **GPU)
    before = clock.now()
    assert relay.to_the_end().num_timesteps == 100
    (waits,) = [line for line in said if "waits for the quota" in line]
    assert "Sat" in waits
    assert "00:00 UTC" in waits
    assert quota.week_start(clock.now()) > quota.week_start(before)
    assert clock.now() < quota.next_refresh(before) + 6 * 3600
    assert max(_pushed(kaggle).values()) == 1


def test_the_rest_of_a_week_is_used_before_the_next_one_is_waited_for(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home, device="cuda")
    kaggle.set_fault("quota_used_h", 29.0)
    relay, clock = _relaying(run, book, backend, kaggle, [], **GPU, max_hours=11.5)
    relay.to_the_end()
    assert clock.slept == []
    limits = [session["limit_s"] / 3600 for session in kaggle.status()["sessions"]]
    assert limits[1:] == pytest.approx([0.89] * 3, abs=0.02)


def test_two_sessions_without_a_new_timestep_end_the_relay(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    Sessions(home, gain=0, status="crashed").put_in_place(monkeypatch)
    relay, _ = _relaying(run, book, backend, kaggle, [])
    with pytest.raises(RelayGaveUp, match=r"still t25.*\n.*kaglaunch logs"):
        relay.to_the_end()
    assert len(_pushed(kaggle)) == 3


@pytest.mark.parametrize("result", ["flood", "unhealthy"])
def test_a_session_that_stopped_itself_is_followed_by_no_other(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    Sessions(home, status=result).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    relay, _ = _relaying(run, book, backend, kaggle, [])
    with pytest.raises(AlertStop, match=result):
        relay.to_the_end()
    assert len(_pushed(kaggle)) == 1


def test_a_cancelled_session_ends_the_relay(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home, seconds=600).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    relay, _ = _relaying(run, book, backend, kaggle, [])
    follow = relay.follow

    def cancel_and_follow(session: Session) -> SessionState:
        until(lambda: backend.state(run.slug(1)).status.value == "RUNNING")
        backend.cancel(kaggle.status()["sessions"][0]["session_id"])
        return follow(session)

    relay.follow = cancel_and_follow
    with pytest.raises(SessionCut, match="was cancelled"):
        relay.to_the_end()
    assert len(_pushed(kaggle)) == 1


def test_a_target_that_cannot_be_reached_is_waited_for(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    assert isinstance(backend, KaggleBackend)
    backend._patience_s = 0.0
    kaggle.set_fault("http_error", {"method": "GetDataset", "status": 503, "times": 3})
    said: list[str] = []
    relay, clock = _relaying(run, book, backend, kaggle, said)
    assert relay.to_the_end().num_timesteps == 100
    assert clock.slept[:3] == [5.0, 10.0, 20.0]
    assert sum("The relay tries again" in line for line in said) == 1


def test_a_push_whose_answer_is_lost_is_found_and_followed(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    kaggle.set_fault("answer_lost", {"method": "SaveKernel", "times": 2})
    relay, _ = _relaying(run, book, backend, kaggle, [])
    assert relay.to_the_end().num_timesteps == 100
    assert _pushed(kaggle) == {run.slug(number): 1 for number in (1, 2, 3, 4)}


def test_no_free_session_is_waited_for(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sessions(home).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)
    until(lambda: backend.state(run.slug(1)).status.final)
    call = Caller(kaggle)
    for number in range(5):
        call.push(f"other-kernel-{number}", sessionTimeoutSeconds=100)
    said: list[str] = []
    relay, clock = _relaying(run, book, backend, kaggle, said)
    assert relay.to_the_end().num_timesteps == 100
    assert any("waits for a free session" in line for line in said)
    assert clock.slept
    assert all(0 < slept <= stepping.SLOT_WAIT_S for slept in clock.slept)


def _start_relay(home: Path) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    code = (
        f"import pathlib, sys; from tests.launcher import relayed; sys.exit(relayed.main(pathlib.Path({str(home)!r})))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_relay_that_is_killed_at_any_instant_goes_on_and_pushes_nothing_twice(
    kaggle: LocalKaggle, book: Ledger, backend: Backend, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sessions long enough that no relay of the kills below, each alive for less than two seconds, can see the last end.
    Sessions(home, seconds=2.0).put_in_place(monkeypatch)
    run = _begin(kaggle, book, backend, home)

    def killed_when(true: Any) -> None:
        process = _start_relay(home)

        def come_true() -> bool:
            assert process.poll() is None, process.communicate()[0]
            return bool(true())

        until(come_true, 60, poll_s=0.0)
        process.kill()
        process.communicate()

    # In the middle of a push that the target has not taken, and right after one that it has.
    kaggle.set_fault("hang", {"method": "SaveKernel"})
    killed_when(lambda: kaggle.faults()["hang"][0]["taken"])
    assert book.sessions(RUN_ID)[-1].submission == "pushing"
    assert book.relay(RUN_ID) is not None
    kaggle.set_fault("answer_lost", {"method": "SaveKernel"})
    before = len(_pushed(kaggle))
    killed_when(lambda: len(_pushed(kaggle)) > before)
    chance = random.Random(3)
    for _ in range(2):
        began, seconds = time.monotonic(), chance.uniform(0.5, 2.0)
        if book.sessions(RUN_ID)[-1].result == "finished":
            break
        killed_when(lambda began=began, seconds=seconds: time.monotonic() - began > seconds)

    first = _start_relay(home)
    while locks.holder(home / "runs" / RUN_ID / "relay.lock") != first.pid:
        assert first.poll() is None
        time.sleep(0.01)
    assert main(["relay"]) == 3
    out, _ = first.communicate(timeout=limit_s(120))
    assert first.returncode == 0, out
    assert "is finished: 100 timesteps" in out
    assert set(_pushed(kaggle).values()) == {1}
    assert len(_pushed(kaggle)) == 4
    sessions = book.sessions(RUN_ID)
    assert {run.slug(s.number) for s in sessions if s.submission == "pushed"} == set(_pushed(kaggle))
    assert [s.submission for s in sessions].count("absent") >= 1
    ended = book.relay(RUN_ID)
    assert ended is not None
    assert ended.state == "finished"


def _session(number: int, resumed: int, submission: str = "pushed") -> Session:
    values: dict[str, Any] = {field.name: "" for field in dataclasses.fields(Session)}
    return Session(**{**values, "number": number, "resumed_timesteps": resumed, "submission": submission})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_sessions_are_fruitless_as_far_back_as_none_gained_anything(gains: list[int]) -> None:
    reached = [sum(gains[:index]) for index in range(len(gains) + 1)]
    sessions = [_session(number, resumed) for number, resumed in enumerate(reached[:-1], 1)]
    lost = _session(len(sessions) + 1, reached[-1], "absent")
    expected = next((back for back, gain in enumerate(reversed(gains)) if gain), len(gains))
    assert fruitless([*sessions, lost], reached[-1]) == expected


@given(st.floats(0, 4e9))
def test_the_quota_is_refreshed_on_saturdays_as_the_embedded_kaggle_says(now: float) -> None:
    assert stepping.next_refresh(now) == pytest.approx(quota.next_refresh(now), abs=1e-3)
