"""Every row of docs/faults.md: the message, the exit code, nothing lost, nothing pushed twice."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launcher.checks import trial
from launcher.cli import main
from launcher.runs import cancellation, follower
from launcher.runs import run as handles
from launcher.runs.look import look
from launcher.runs.records import Run
from launcher.runs.watch import Watch
from launcher.targets import kaggle as backend_module
from launcher.targets import storage
from launcher.targets.kaggle import KaggleBackend
from tests import wheels
from tests.limits import limit_s, until

from .faults import FETCH, FINISHED, PUSH, SECTIONS, UNKNOWN, WATCH, Fault
from .stage import ENDLESS, Stage, staged
from .test_preflight import GOOD, told

pytestmark = pytest.mark.slow
ROWS = [row for rows in SECTIONS.values() for row in rows]
GO = "go"
SCRIPT = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
for t in range(5, 101, 5):
    say("progress", num_timesteps=t, total_timesteps=100, steps_per_s=50.0, reward=t / 100, queue=5.0)
while not os.path.exists("{go}"):
    time.sleep(0.02)
say("result", status="finished", num_timesteps=100, total_timesteps=100, published_timesteps=50)
"""
"""It ends when the faults have done what they are set for."""
SILENT = """
begin()
say("training", num_timesteps=0, total_timesteps=100)
time.sleep(2.5)
say("result", status="finished", num_timesteps=100, total_timesteps=100, published_timesteps=100)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An embedded Kaggle whose user has the wheel that a bundle needs."""
    folder = tmp_path_factory.mktemp("faults")
    wheels.share(folder / "cache" / "kaglaunch")
    with pytest.MonkeyPatch.context() as patch, staged(folder) as made:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield made


@pytest.fixture(autouse=True)
def impatient(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every wait is short, as far as the machine allows, no trial is run, and nothing is left for the next row."""
    monkeypatch.setattr(trial, "_run", lambda folder, note, kills: told(GOOD))
    monkeypatch.setattr(follower, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(storage, "READ_TIMEOUT_S", limit_s(0.7))
    monkeypatch.setitem(look.__kwdefaults__, "bound_s", limit_s(0.7))  # type: ignore[index]
    monkeypatch.setattr(backend_module, "wait_s_of", _short_wait_s)
    monkeypatch.setattr(backend_module, "STREAM_SILENCE_S", limit_s(0.3))
    monkeypatch.setattr(backend_module, "LOOKS_AFTER_S", (0.05, 0.1))
    monkeypatch.setattr(cancellation, "LOST_ANSWER_S", limit_s(0.1))
    monkeypatch.setitem(KaggleBackend.__init__.__kwdefaults__, "patience_s", limit_s(1.0))  # type: ignore[index]
    stage.kaggle.change_settings(queue_s=0.0)
    (stage.folder / GO).unlink(missing_ok=True)
    yield
    stage.kaggle.clear_faults()
    _end_all(stage)


def _short_wait_s(state: Any) -> float:
    """What the target asks for, and else next to nothing."""
    asked = getattr(state.outcome.exception(), "retry_after_s", None)
    return 0.05 if asked is None else float(asked)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.happens)
def test_what_the_table_of_faults_says_is_what_happens(
    row: Fault, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = None if row.command == PUSH else _begun(row, stage)
    words = ["push", "--quick", "--device", "cpu"] if run is None else [row.command.split()[1], run.run_id]
    if run is None:
        stage.kaggle.change_settings(queue_s=600.0)
    before = {known.run_id for known in stage.book.runs()}
    capsys.readouterr()
    around = AROUND.get(row.around, lambda *given: contextlib.nullcontext())
    with around(stage, run, monkeypatch):
        for name, value in row.faults.items():
            stage.kaggle.set_fault(name, value)
        if row.command == WATCH and row.around != "killed_server":
            threading.Thread(target=_let_go, args=(stage,), daemon=True).start()
        code = main([*words, *row.options])
        if row.around == "then_watch":
            code = main(["watch"])
    seen = capsys.readouterr()
    said = seen.out + seen.err
    new = sorted({known.run_id for known in stage.book.runs()} - before)
    name = run.run_id if run else "".join(new)
    assert row.says.replace("RUN", name) in said
    assert code == row.code
    assert "Traceback" not in said
    assert _worked(stage)

    stage.kaggle.clear_faults()
    if run is None:
        kernels = [slug for slug in stage.backend().kernels() if slug.startswith("quick-")]
        assert len(kernels) == row.sessions, "nothing is pushed twice, and no empty kernel stays"
        # What may have been taken stays known, so that `watch` can settle it; what was refused leaves nothing.
        assert len(new) == (1 if row.sessions or row.says == UNKNOWN else 0)
        return
    assert len(stage.sessions(run)) == row.sessions
    if row.says == FINISHED:
        assert run.log(1).read_text(encoding="utf-8").count('"progress"') == 20, "every line once"
    if row.command != FETCH or row.code:
        assert main(["fetch-checkpoints", run.run_id]) == 0
    assert stage.verified(run) == list(row.safe)


def test_every_kind_of_thing_that_the_table_names_is_tried() -> None:
    assert len({row.happens for row in ROWS}) == len(ROWS)
    assert {row.around for row in ROWS if row.around} - {"then_watch"} == set(AROUND)


def _begun(row: Fault, stage: Stage) -> Run:
    """A run with a checkpoint at timestep 50 whose first session is there."""
    run = stage.new_run()
    stage.publish(run, 50)
    if row.command == WATCH:
        script = SILENT if row.around == "half_an_hour_of_silence" else SCRIPT
        limits = {"session_limit_at_log", "out_of_memory_at_log", "machine_lost_at_log"} & set(row.faults)
        for name in limits:
            stage.kaggle.set_fault(name, row.faults[name])
        stage.start(run, script.replace("{go}", str(stage.folder / GO)))
    else:
        stage.start(run, ENDLESS)
        until(lambda: stage.sessions(run) == ["RUNNING"])
    return run


def _worked(stage: Stage) -> bool:
    """Whether every fault that is set has struck, and as often as it was to."""
    rules = [rule for many in stage.kaggle.faults().values() for rule in many if rule["times"] is not None]
    return all(rule["taken"] if rule["times"] > 99 else not rule["times"] for rule in rules)


def _let_go(stage: Stage) -> None:
    """Let the session end once the faults have struck; those that are for good end the watch instead."""
    with contextlib.suppress(AssertionError):
        until(lambda: _worked(stage), seconds=20)
    (stage.folder / GO).touch()


def _end_all(stage: Stage) -> None:
    backend = stage.backend()
    for slug in backend.kernels():
        backend.delete(slug)


@contextlib.contextmanager
def _occupied(stage: Stage, count: int, **extra: object) -> Iterator[None]:
    for number in range(count):
        stage.call.push(f"other-session-{number}", **extra)
    yield


@contextlib.contextmanager
def _empty_shell(stage: Stage, run: Run | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The name that comes next has an empty kernel already."""
    from launcher import config

    monkeypatch.setattr(config, "new_run_id", lambda kind: "quick-shell2")
    stage.kaggle.set_fault("quota_used_h", 30)
    refused = stage.call.push("quick-shell2-s1", enableGpu=True)
    assert "Maximum weekly GPU quota" in refused["error"]
    stage.kaggle.clear_faults()
    assert stage.call.push("quick-shell2-s1")["error"] == "Notebook not found"
    yield


@contextlib.contextmanager
def _silence(stage: Stage, run: Run | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of the watch's own clock half an hour passes in two seconds."""
    fast = functools.partial(Watch, clock=lambda: 900.0 * time.monotonic())
    monkeypatch.setattr(handles, "Watch", fast)
    monkeypatch.setattr(backend_module, "STREAM_SILENCE_S", 0.5)
    yield


@contextlib.contextmanager
def _killed_server(stage: Stage, run: Run | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    endpoint = stage.kaggle.find()
    assert endpoint is not None

    def kill() -> None:
        os.kill(endpoint.pid, signal.SIGKILL)
        (stage.folder / GO).touch()

    killer = threading.Timer(0.5, kill)
    killer.start()
    yield
    killer.join()
    again = stage.kaggle.find()
    assert again is not None
    assert again.pid != endpoint.pid


@contextlib.contextmanager
def _second_version(stage: Stage, run: Run | None, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> Iterator[None]:
    assert run is not None
    if fault:
        stage.kaggle.set_fault(fault, True)
    stage.publish(run, 100, wait=not fault)
    yield


@contextlib.contextmanager
def _at_once(stage: Stage, run: Run | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert run is not None
    both = [threading.Thread(target=stage.publish, args=(run, step)) for step in (75, 100)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    yield


AROUND: dict[str, Callable[..., contextlib.AbstractContextManager[None]]] = {
    "two_gpu_sessions": lambda stage, run, patch: _occupied(stage, 2, enableGpu=True),
    "five_cpu_sessions": lambda stage, run, patch: _occupied(stage, 5),
    "empty_shell": _empty_shell,
    "half_an_hour_of_silence": _silence,
    "killed_server": _killed_server,
    "second_version": _second_version,
    "second_version_processing": functools.partial(_second_version, fault="dataset_stuck"),
    "second_version_failed": functools.partial(_second_version, fault="dataset_failed"),
    "two_versions_at_once": _at_once,
}
