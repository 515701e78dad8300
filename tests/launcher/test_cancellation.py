"""A session that is to end does end, by its id or with its kernel, whatever the target answers; its log is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.config import RunConfig
from launcher import Kaglaunch
from launcher.cli import main
from launcher.commands import cancel
from launcher.errors import BackendUnavailable, NotFound
from launcher.local_kaggle.service import LocalKaggle
from launcher.runs import cancellation
from launcher.runs.cancellation import LOG_WAIT_S, Cancelled, LastWords, cancel_session
from launcher.runs.endings import DELETED
from launcher.runs.kept_log import kept_lines
from launcher.runs.ledger import Ledger
from launcher.runs.records import Run, Session, new_run
from launcher.targets.base import Kernel, Status
from launcher.targets.kaggle import KaggleBackend
from launcher.targets.target import Target, TargetName, local_kaggle
from tests.limits import limit_s, until

from .local_kaggle.callers import FAST, Caller

RUN_ID = "quick-cancel"
TELLS = """
import json, os, time
number = int(os.environ["KAGGLE_CONTAINER_NAME"].split("-")[-2])
print('@kaglaunch {"event": "session", "schema": 1, "time": 0.0, "session_id": %d}' % number, flush=True)
for line in range(500):
    print("line", line, flush=True)
time.sleep(600)
"""
TELLS_NOTHING = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def kaggle(home: Path) -> Iterator[LocalKaggle]:
    service = local_kaggle()
    service.ensure_running(timeout_s=limit_s(20))
    service.change_settings(**FAST)
    yield service
    service.stop()


@pytest.fixture
def backend(kaggle: LocalKaggle) -> KaggleBackend:
    found = Target(TargetName.local, "a test").connect()
    assert isinstance(found, KaggleBackend)
    found._patience_s = 0.0
    return found


def _running(backend: KaggleBackend, home: Path, script: str) -> tuple[Run, Session]:
    run = new_run(RUN_ID, "local", "local", RunConfig(RUN_ID, 100, 10), home)
    book = Ledger()
    book.add_run(run)
    arguments: dict[str, Any] = {"device": "cpu", "accelerator": None, "max_seconds": 600, "max_timesteps_at_risk": 0}
    book.begin_session(run, **arguments, publish_interval_seconds=1.0, after=0, submission="pushed")
    backend.push(Kernel(run.slug(1), script.encode(), None, 600))
    until(lambda: backend.state(run.slug(1)).status is Status.RUNNING)
    return run, book.sessions(RUN_ID)[0]


def _told_id(backend: KaggleBackend, run: Run, session: Session) -> int | None:
    """The session's id, as its log tells it, which is kept."""
    with LastWords(backend, run, session) as log:
        log.read(LOG_WAIT_S)
    return log.progress.session_id


def _cancel(backend: KaggleBackend, run: Run, session: Session) -> Cancelled:
    session_id = _told_id(backend, run, session)
    return cancel_session(backend, run, session, session_id, sleep=lambda seconds: None)


def test_a_session_that_told_its_id_is_cancelled_by_it_and_its_log_is_kept(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path
) -> None:
    run, session = _running(backend, home, TELLS)
    done = _cancel(backend, run, session)
    assert done.status == "CANCEL_ACKNOWLEDGED"
    assert backend.state(run.slug(1)).status is Status.CANCEL_ACKNOWLEDGED
    lines = run.log(1).read_text().splitlines()
    assert lines[-1].endswith("line 499")
    assert len(lines) == 501


def test_a_session_that_told_nothing_is_ended_with_its_kernel_after_its_log_was_saved(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path
) -> None:
    run, session = _running(backend, home, TELLS_NOTHING)
    done = _cancel(backend, run, session)
    assert done.status == DELETED
    assert "did not tell its id" in str(done)
    with pytest.raises(NotFound):
        backend.state(run.slug(1))
    assert run.log(1).read_text().splitlines()[0].endswith(" up")


def test_a_longer_log_that_is_here_is_not_replaced_by_a_shorter_one(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path
) -> None:
    run, session = _running(backend, home, TELLS_NOTHING)
    run.log(1).parent.mkdir(parents=True)
    run.log(1).write_text("0.000 stdout what the target has lost since\n" * 9)
    _told_id(backend, run, session)
    assert run.log(1).read_text().count("\n") == 9
    assert {found.name for found in run.folder.iterdir()} == {"session-1.log", "logs.lock"}


@pytest.mark.parametrize(
    ("fault", "value", "status"),
    [
        ("answer_lost", {"method": "CancelKernelSession"}, "CANCEL_ACKNOWLEDGED"),
        ("http_error", {"method": "GetKernelSessionStatus", "status": 503, "times": 2}, "CANCEL_ACKNOWLEDGED"),
        ("http_error", {"method": "CancelKernelSession", "status": 500, "times": 9}, DELETED),
        ("http_error", {"method": "CancelKernelSession", "status": 404, "times": 9}, DELETED),
    ],
    ids=["cancel-answer-lost", "status-503", "cancel-500", "cancel-404"],
)
def test_a_cancel_ends_the_session_whatever_fails_on_the_way(
    kaggle: LocalKaggle,
    backend: KaggleBackend,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    value: dict[str, Any],
    status: str,
) -> None:
    monkeypatch.setattr(cancellation, "LOST_ANSWER_S", limit_s(0.2))
    run, session = _running(backend, home, TELLS)
    session_id = _told_id(backend, run, session)
    kaggle.set_fault(fault, value)
    done = cancel_session(backend, run, session, session_id, sleep=lambda seconds: None)
    assert done.status == status
    assert all(one["state"] == "CANCEL_ACKNOWLEDGED" for one in kaggle.status()["sessions"])


@pytest.mark.parametrize("fault", ["answer_lost", "connection_reset"])
def test_a_deletion_is_confirmed_although_its_answer_is_lost(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path, fault: str
) -> None:
    run, session = _running(backend, home, TELLS_NOTHING)
    kaggle.set_fault(fault, {"method": "DeleteKernel"})
    assert cancel_session(backend, run, session, None, sleep=lambda seconds: None).status == DELETED
    with pytest.raises(NotFound):
        backend.state(run.slug(1))


def test_a_cancel_that_the_target_only_acknowledges_for_ever_ends_in_a_deletion(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path
) -> None:
    kaggle.change_settings(cancel_s=3600.0)
    run, session = _running(backend, home, TELLS)
    session_id = _told_id(backend, run, session)
    passed = [0.0]
    done = cancel_session(
        backend,
        run,
        session,
        session_id,
        sleep=lambda seconds: passed.append(passed[-1] + 10),
        clock=lambda: passed[-1],
    )
    assert done.status == DELETED
    assert "still runs 60 s after the request" in str(done)


def test_an_end_that_cannot_be_confirmed_is_an_error_that_says_what_to_do(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path
) -> None:
    run, session = _running(backend, home, TELLS_NOTHING)
    kaggle.set_fault("http_error", {"method": "GetKernelSessionStatus", "status": 503, "times": 1000})
    passed = [0.0]
    with pytest.raises(BackendUnavailable, match="kaglaunch cancel"):
        cancel_session(
            backend,
            run,
            session,
            None,
            sleep=lambda seconds: passed.append(passed[-1] + 10),
            clock=lambda: passed[-1],
        )


def test_the_command_says_what_was_kept_and_the_ledger_knows_the_end(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = _running(backend, home, TELLS_NOTHING)
    assert main(["cancel", "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Run {RUN_ID} (the newest of this folder).\n")
    assert "was deleted, which ends its session" in said
    assert str(run.log(1)) in said
    assert f"0 versions of local/{RUN_ID}-ckpt" in said
    assert f"0 checkpoints in {run.checkpoints}" in said
    assert Ledger().sessions(RUN_ID)[0].status == DELETED
    assert main(["cancel"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out


STEPS = """
import json, os, sys, time
def say(event, **fields):
    print("@kaglaunch " + json.dumps({{"event": event, "schema": 1, "time": 0.1, **fields}}), flush=True)
say("training", num_timesteps=0, total_timesteps=100)
say("published", num_timesteps=40)
say("progress", num_timesteps=70)
while not os.path.exists({go!r}):
    time.sleep(0.02)
say("progress", num_timesteps=80)
time.sleep(600)
"""


def test_what_a_cancel_cost_is_what_the_log_told_to_the_end_and_every_verb_says_it(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go = home / "go"
    run, _ = _running(backend, home, STEPS.format(go=str(go)))
    asked = []

    def goes_on_while_it_is_asked(question: str) -> bool:
        asked.append(question)
        go.touch()
        next(line for line in backend.log_lines(run.slug(1)) if '"num_timesteps": 80' in line.text)
        return True

    cancel.cancel(run.run_id, agreed=goes_on_while_it_is_asked)
    assert "70 of 100 timesteps are done, 30 not published yet" in asked[0]
    assert sum("num_timesteps" in line.text for line in kept_lines(run.log(1))) == 4
    (row,) = Kaglaunch().report(run.run_id)["sessions"]
    assert (row["done_timesteps"], row["safe_timesteps"], row["lost_timesteps"]) == (80, 40, 40)
    status = Kaglaunch().status(run.run_id)
    assert (status["live"], status["at_risk_timesteps"], status["lost_timesteps"]) == (False, 0, 40)
    capsys.readouterr()
    assert main(["status"]) == 0
    assert "80 of 100 done, 40 safe, 40 lost\n" in capsys.readouterr().out


def test_a_watch_that_came_too_late_for_the_log_does_not_know_what_the_end_cost(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = _running(backend, home, STEPS.format(go="never"))
    Ledger().update_session(RUN_ID, 1, seen_timesteps=50, published_timesteps=40)
    Caller(kaggle).dataset(run.dataset.partition("/")[2], checkpoint_t40__zip__bin=b"a checkpoint")
    until(lambda: backend.dataset_versions(run.dataset) != [])
    backend.cancel(kaggle.status()["sessions"][0]["session_id"])
    until(lambda: backend.state(run.slug(1)).status.final)
    assert main(["watch"]) == 6
    said = capsys.readouterr().err
    assert "50 of 100 timesteps, t40 of them published;" in said
    assert Kaglaunch().report(RUN_ID)["sessions"][0]["lost_timesteps"] is None


def test_a_queued_session_is_ended_at_once(
    kaggle: LocalKaggle, backend: KaggleBackend, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.change_settings(queue_s=600.0)
    run = new_run(RUN_ID, "local", "local", RunConfig(RUN_ID, 100, 10), home)
    book = Ledger()
    book.add_run(run)
    arguments: dict[str, Any] = {"device": "cpu", "accelerator": None, "max_seconds": 600, "max_timesteps_at_risk": 0}
    book.begin_session(run, **arguments, publish_interval_seconds=1.0, after=0, submission="pushed")
    backend.push(Kernel(run.slug(1), TELLS.encode(), None, 600))
    assert main(["cancel", "-y"]) == 0
    assert "was deleted" in capsys.readouterr().out
