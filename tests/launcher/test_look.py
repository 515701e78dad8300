"""`report`, `runs` and `status` say what is so now, or how old it is; nobody need have watched."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.config import RunConfig
from kernel.contract.names import version_note
from launcher.cli import main
from launcher.documents.runs import RunReport
from launcher.errors import BackendUnavailable, NotFound, Withheld
from launcher.runs import report, standings
from launcher.runs.ledger import Ledger
from launcher.runs.look import Look, listed, look, settled
from launcher.runs.progress import Progress
from launcher.runs.records import Run, new_run
from launcher.targets import target
from launcher.targets.base import Status
from launcher.targets.credentials import Credentials
from launcher.targets.quick_look import QuickLook
from tests.limits import limit_s

from .local_kaggle.callers import DATASETS, until
from .stage import FINISHED, Stage

AT_WORK = """
begin()
say("training", num_timesteps=0, total_timesteps=100, device="cpu")
for t in range(10, 61, 10):
    say("progress", num_timesteps=t, total_timesteps=100, steps_per_s=50.0)
time.sleep(600)
"""


ALL_DONE = """
begin()
say("training", num_timesteps=0, total_timesteps=100, device="cpu")
say("calibration", num_timesteps=1, steps_per_s=50.0, seconds_needed=0.05)
time.sleep(0.2)
say("published", num_timesteps=40)
say("progress", num_timesteps=100, total_timesteps=100, steps_per_s=50.0)
time.sleep(600)
"""
LATE = ALL_DONE.replace("num_timesteps=100, total", "num_timesteps=60, total")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time to answer."""
    monkeypatch.setitem(look.__kwdefaults__, "bound_s", 60.0)  # type: ignore[index]


def _publish(stage: Stage, run: Run, num_timesteps: int, session: int = 1, *, held: bool = True) -> None:
    """A second dataset version, whose note tells `num_timesteps`."""
    slug = run.dataset.split("/")[1]
    stage.publish(run, num_timesteps)
    name = f"checkpoint_t{num_timesteps}.zip.bin" if num_timesteps and held else "x"
    file = {"token": stage.call.upload(name, b"x"), "name": name}
    body = {"versionNotes": version_note(num_timesteps, session), "files": [file]}
    stage.call(DATASETS, "CreateDatasetVersion", ownerSlug="local", datasetSlug=slug, body=body)
    until(lambda: len(stage.backend().dataset_versions(run.dataset)) == 2)


def _ended(stage: Stage, run: Run) -> bool:
    return stage.backend().state(run.slug(1)).status.final


def _told(capsys: pytest.CaptureFixture[str], verb: str, *words: str) -> Any:
    capsys.readouterr()
    assert main([verb, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_that_nobody_watched_is_reported_finished_and_safe(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.begins(FINISHED)
    _publish(stage, run, 100)
    until(lambda: _ended(stage, run))
    told = _told(capsys, "report", run.run_id)
    (row,) = told["sessions"]
    assert (told["safe_timesteps"], told["finished"], told["seen_age_s"], told["unanswered"]) == (100, True, 0, "")
    assert (row["done_timesteps"], row["lost_timesteps"], row["ended"], row["live"]) == (100, 0, "finished", False)
    (listed,) = [one for one in _told(capsys, "runs") if one["run_id"] == run.run_id]
    assert (listed["state"], listed["safe_timesteps"]) == ("finished", 100)


def test_what_a_living_session_has_not_published_is_at_risk_and_not_lost(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.begins(AT_WORK)
    _publish(stage, run, 40)
    until(lambda: stage.backend().state(run.slug(1)).status is Status.RUNNING)

    def row() -> dict[str, Any]:
        return dict(_told(capsys, "report", run.run_id)["sessions"][0])

    found = until(lambda: (now := row())["done_timesteps"] == 60 and now)
    assert (found["safe_timesteps"], found["at_risk_timesteps"], found["lost_timesteps"]) == (40, 20, None)
    standing = _told(capsys, "status", run.run_id)
    assert (standing["status"], standing["safe_timesteps"], standing["at_risk_timesteps"]) == ("RUNNING", 40, 20)
    assert standing["published_age_s"] is not None
    assert main(["report", run.run_id]) == 0
    said = capsys.readouterr().out
    assert "20 at risk" in said
    assert "60 lost" not in said
    assert main(["status", run.run_id]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("  digests")

    # Killed without a watcher: the end of its log is gone, so nobody knows what it cost.
    stage.backend().delete(run.slug(1))
    stage.book.update_session(run.run_id, 1, status="CANCEL_ACKNOWLEDGED")
    found = row()
    assert (found["safe_timesteps"], found["at_risk_timesteps"], found["lost_timesteps"]) == (40, 0, None)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (ALL_DONE, "50.0 timesteps/s, all timesteps are done; the last publish is to come\n"),
        (LATE, "50.0 timesteps/s\n"),
    ],
    ids=["all done, not published", "later than was calculated"],
)
def test_what_is_still_to_come_never_takes_no_time(
    stage: Stage, capsys: pytest.CaptureFixture[str], script: str, says: str
) -> None:
    run = stage.begins(script)
    until(lambda: (_told(capsys, "status", run.run_id)["done_timesteps"] or 0) >= 60)
    assert _told(capsys, "status", run.run_id)["to_go_s"] is None
    assert main(["status", run.run_id]) == 0
    assert says in capsys.readouterr().out


def test_less_than_a_second_to_go_is_a_second(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path)
    progress = Progress(total_timesteps=100, num_timesteps=99, steps_per_s=10.0)
    assert standings._standing(run, book, Look({1: progress})).to_go_s == 1


def test_a_version_without_a_checkpoint_is_no_publish(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    run = stage.begins(AT_WORK)
    _publish(stage, run, 0)
    until(lambda: stage.backend().state(run.slug(1)).status is Status.RUNNING)
    assert _told(capsys, "status", run.run_id)["published_age_s"] is None
    assert main(["cancel", run.run_id, "--yes"]) == 0
    assert f"published  0 versions of {run.dataset}\n" in capsys.readouterr().out
    other = stage.begins(AT_WORK)
    _publish(stage, other, 40)
    until(lambda: stage.backend().state(other.slug(1)).status is Status.RUNNING)
    assert _told(capsys, "status", other.run_id)["published_age_s"] >= 0
    assert main(["cancel", other.run_id, "--yes"]) == 0
    assert f"published  1 version of {other.dataset}, the newest at t40\n" in capsys.readouterr().out


def test_a_note_without_its_checkpoint_is_not_believed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    run = stage.begins(AT_WORK)
    _publish(stage, run, 40, held=False)
    until(lambda: stage.backend().state(run.slug(1)).status is Status.RUNNING)
    assert _told(capsys, "report", run.run_id)["safe_timesteps"] == 0
    assert main(["cancel", run.run_id, "--yes"]) == 0


def test_what_was_published_is_taken_back_when_the_dataset_is_gone(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage.begins(FINISHED)
    _publish(stage, run, 40)
    until(lambda: _ended(stage, run))
    stage.book.update_session(run.run_id, 1, published_timesteps=40, status="CANCEL_ACKNOWLEDGED")
    quick = target.of_run(run).quick_look(time.monotonic() + 60.0, time.monotonic)
    assert [version.number for version in listed(quick, run.dataset, 1)] == [2, 1]
    stage.kaggle.set_fault("http_error", {"method": "GetDataset", "status": 403, "times": 1000})
    with pytest.raises(Withheld, match="not taken for gone"):
        listed(quick, run.dataset, 1)
    stage.kaggle.clear_faults()
    stage.call(DATASETS, "DeleteDataset", ownerSlug="local", datasetSlug=run.dataset.split("/")[1])
    assert listed(quick, run.dataset, 1) == []
    look([run], stage.book)
    assert stage.book.sessions(run.run_id)[0].published_timesteps == 0


@pytest.mark.parametrize(("method", "again"), [("ListKernels", "not known"), ("GetDataset", "all the same")])
def test_a_session_whose_status_is_refused_is_not_taken_for_gone(method: str, again: str, stage: Stage) -> None:
    run = stage.begins(AT_WORK)
    with pytest.raises(NotFound):
        stage.backend().state("no-such-kernel")
    denied = [{"method": name, "status": 403, "times": 1000} for name in ("GetKernelSessionStatus", method)]
    stage.kaggle.set_fault("http_error", denied)
    with pytest.raises(Withheld, match=again):
        stage.backend().state(run.slug(1))
    found = look([run], stage.book)[run.run_id]
    assert found.missing == frozenset()
    assert isinstance(found.error, Withheld)
    stage.kaggle.clear_faults()
    assert main(["cancel", run.run_id, "--yes"]) == 0


def test_what_is_not_known_of_a_session_that_lives_is_not_called_lost(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path)
    book.update_session(run.run_id, 1, status="RUNNING")
    told = report.report(run, book)
    assert (told.sessions[0].at_risk_timesteps, told.sessions[0].lost_timesteps) == (None, None)
    assert report.cost(told.sessions[0]).replace("\N{NO-BREAK SPACE}", " ") == "unknown at risk"
    book.update_session(run.run_id, 1, status="ERROR")
    assert report.cost(report.report(run, book).sessions[0]) == "unknown"


def test_a_target_that_does_not_answer_costs_the_bound_and_leaves_figures_with_their_age(stage: Stage) -> None:
    run = stage.begins(AT_WORK)
    until(lambda: stage.backend().state(run.slug(1)).status is Status.RUNNING)
    (seen,) = look([run], stage.book).values()
    assert seen.error is None
    stage.kaggle.set_fault("hang", {"method": "*", "times": 1000})
    try:
        (found,) = look([run], stage.book, bound_s=0.3).values()
    finally:
        stage.kaggle.clear_faults()
    assert isinstance(found.error, BackendUnavailable)
    (session,) = stage.book.sessions(run.run_id)
    told = report.report(run, stage.book, found, now=lambda: session.seen_at + 125)
    assert told.seen_age_s == 125
    text = " ".join(report.as_table(run, told).split())
    assert "2 min 05 s ago. No answer from" in text
    assert "Is the network up?" in text


def test_a_target_that_answers_500_and_then_nothing_has_answered_500(stage: Stage) -> None:
    run = stage.begins(AT_WORK)
    until(lambda: stage.backend().state(run.slug(1)).status is Status.RUNNING)
    method = {"method": "GetKernelSessionStatus"}
    stage.kaggle.set_fault("http_error", {**method, "status": 500})
    stage.kaggle.set_fault("hang", {**method, "skip": 1, "times": 1000})
    try:
        (found,) = look([run], stage.book, bound_s=limit_s(0.5)).values()
        (refused,), (hung,) = stage.kaggle.faults()["http_error"], stage.kaggle.faults()["hang"]
    finally:
        stage.kaggle.clear_faults()
    assert (refused["taken"], hung["taken"]) == (1, 1)
    assert "answered 500" in str(found.error)
    assert "Is the network up" not in str(found.error)


def test_no_question_outlasts_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float] = []
    now = [100.0]
    answered = urllib.request.OpenerDirector.open

    def silent(self: Any, request: Any, data: Any = None, timeout: Any = None) -> Any:
        if request.host != "kaggle.invalid":  # a thread that an earlier look has left behind
            return answered(self, request, data, timeout)
        timeouts.append(timeout)
        now[0] += 0.5
        raise TimeoutError

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", silent)
    quick = QuickLook("https://kaggle.invalid", Credentials("a test", "token"), 102.0, lambda: now[0], sleep)
    with pytest.raises(BackendUnavailable, match="Is the network up"):
        quick.state("alice", "a-kernel")
    assert timeouts == pytest.approx([2.0, 1.3, 0.6])


def test_what_cannot_change_any_more_is_not_asked(tmp_path: Path, home: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path, target="kaggle")
    (session,) = book.sessions(run.run_id)
    assert not settled(session, time.time())
    assert look([run], book)[run.run_id].error is not None, "no credentials: it could not be asked"
    book.update_session(run.run_id, 1, status="COMPLETE", result="deadline", seen_timesteps=50, published_timesteps=50)
    (found,) = look([run], book).values()
    assert found.error is None
    told = report.report(run, book, found)
    assert (told.sessions[0].lost_timesteps, told.seen_age_s) == (0, 0)


def test_figures_are_as_old_as_what_was_last_seen_of_what_may_still_change(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path)
    now = time.time()
    book.update_session(run.run_id, 1, status="CANCEL_ACKNOWLEDGED", seen_at=now + 100.0)
    _begin(book, run, after=1)
    book.update_session(run.run_id, 2, status="RUNNING", seen_at=now + 900.0)
    assert report.as_of(book.sessions(run.run_id), None, now + 1000.0) == now + 900.0
    book.update_session(run.run_id, 2, status="CANCEL_ACKNOWLEDGED")
    assert report.as_of(book.sessions(run.run_id), None, now + 1000.0) == now + 900.0


def test_a_killed_session_is_asked_about_until_its_versions_are_settled(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path)
    book.update_session(run.run_id, 1, status="CANCEL_ACKNOWLEDGED", seen_at=time.time())
    (session,) = book.sessions(run.run_id)
    assert not settled(session, time.time())
    book.update_session(run.run_id, 1, seen_at=session.pushed + 2 * 86_400)
    assert settled(book.sessions(run.run_id)[0], time.time())


def test_fetched_checkpoints_are_safe_whatever_the_target_says(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path)
    book.update_session(run.run_id, 1, status="ERROR", seen_timesteps=50, published_timesteps=30, log_complete=True)
    assert report.report(run, book).sessions[0].lost_timesteps == 20
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "checkpoint_t50.zip").write_bytes(b"")
    (run.checkpoints / "checkpoint_t60.zip.part").write_bytes(b"")
    told = report.report(run, book)
    assert (told.safe_timesteps, told.sessions[0].lost_timesteps) == (50, 0)


def test_the_table_fits_a_terminal_of_eighty_columns(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = _run(book, tmp_path, total=20_000_000)
    book.update_session(
        run.run_id, 1, status="CANCEL_ACKNOWLEDGED", alert_rule="flood", alert_message="too much", trains_on="cuda",
        seen_timesteps=12_345_678, published_timesteps=12_300_000, log_complete=True,
    )  # fmt: skip
    _begin(book, run, after=1)
    book.update_session(run.run_id, 2, target="here", resumed_timesteps=12_300_000, seen_timesteps=13_345_678)
    told: RunReport = report.report(run, book, now=lambda: time.time() + 90)
    text = report.as_table(run, told)
    assert max(map(len, text.splitlines())) <= 80
    assert "1,045,678 at risk" in text


def _run(book: Ledger, folder: Path, target: str = "local", total: int = 100) -> Run:
    run = new_run("quick-abcdef", target, "local", RunConfig("quick-abcdef", total, 10), folder)
    book.add_run(run)
    _begin(book, run, after=0)
    return run


def _begin(book: Ledger, run: Run, *, after: int) -> None:
    book.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=60,
        max_timesteps_at_risk=20,
        publish_interval_seconds=0,
        after=after,
        submission="pushed",
    )
