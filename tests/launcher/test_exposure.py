"""How many minutes are at risk at most is told from publishes that were measured, and never made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.contract import events
from kernel.contract.checks import Verdict
from kernel.contract.config import RunConfig
from launcher import screen
from launcher.runs import exposure
from launcher.runs.exposure import Publish
from launcher.runs.ledger import Ledger
from launcher.runs.progress import Progress
from launcher.runs.records import new_run
from launcher.targets.base import LogLine

ON_CPU = {"device": "cpu", "accelerator": None, "max_seconds": 900.0}
MEASURED = Publish(10_000_000, 40.0, "run-before")


def test_the_longest_time_at_risk_is_from_one_capture_to_the_end_of_the_next_publish() -> None:
    assert exposure.most_s(20.0, 300.0, 60.0) == 20 + 300 + 20 + 60
    assert exposure.most_s(400.0, 300.0, 60.0) == 400 + 800 + 400 + 60, "publishes keep twice their time apart"


def test_preflight_says_minutes_from_what_a_publish_took_before() -> None:
    check = exposure.judge(MEASURED, 5_000_000, 0.0, 300.0, 0)
    assert check.verdict is Verdict.PASS
    assert "At most 7 min 20 s" in check.evidence
    assert "run-before" in check.evidence


def test_new_rows_of_a_replay_buffer_count() -> None:
    check = exposure.judge(MEASURED, 5_000_000, 50_000.0, 300.0, 0)
    assert "20.0 MB take 1 min 20 s" in check.evidence


def test_what_was_not_measured_is_said_to_be_unknown() -> None:
    for publish, size in ((None, 5_000_000), (MEASURED, 0)):
        check = exposure.judge(publish, size, 0.0, 300.0, 0)
        assert check.verdict is Verdict.PASS
        assert "not known" in check.evidence


def test_much_at_risk_is_warned_of() -> None:
    check = exposure.judge(MEASURED, 500_000_000, 0.0, 300.0, 0)
    assert check.verdict is Verdict.WARN
    assert "max_timesteps_at_risk" in check.fix


def test_a_bound_in_timesteps_is_the_bound() -> None:
    assert "300 timesteps" in exposure.judge(None, 0, 0.0, 300.0, 300).evidence


def test_the_largest_publish_of_an_account_is_found_again(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    for run_id, username, size in (
        ("run-small", "alice", 10),
        ("run-large", "alice", 900),
        ("run-other", "bob", 5_000),
    ):
        run = new_run(run_id, "kaggle", username, RunConfig(run_id, 100, 10), tmp_path)
        book.add_run(run)
        book.begin_session(run, after=0, publish_interval_seconds=300.0, max_timesteps_at_risk=0, **ON_CPU)
        book.update_session(run_id, 1, publish_bytes=size, publish_s=12.0)
    assert exposure.measured(book.sessions_of("kaggle", "alice")) == Publish(900, 12.0, "run-large")
    assert exposure.measured(book.sessions_of("kaggle", "carol")) is None


def tell(progress: Progress, when: float, event: events.Event) -> None:
    line = json.dumps({**event.plain(), "time": when})
    progress.observe(LogLine(when, "stdout", events.PREFIX + line))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_watch_says_it_once_a_publish_was_measured(width: int) -> None:
    progress = Progress(total_timesteps=1_000_000, publish_interval_s=300.0)
    tell(progress, 1.0, events.Training(num_timesteps=0, total_timesteps=1_000_000))
    tell(progress, 50.0, events.Checkpoint(num_timesteps=400_000))
    assert "at most" not in screen.picture("run", "RUNNING", progress, 60.0, 43_200.0, width=width)
    tell(progress, 110.0, events.Checkpoint(num_timesteps=800_000))
    tell(progress, 130.0, events.Published(num_timesteps=800_000, bytes=10**7, seconds=20.0))
    shown = screen.picture("run", "RUNNING", progress, 150.0, 43_200.0, width=width)
    assert "at most 6 min 40 s at risk" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert progress.known()["publish_bytes"] == 10**7
