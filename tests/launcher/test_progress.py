"""What the log tells, as numbers and as a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract import events
from kernel.contract.config import RunConfig
from launcher import screen
from launcher.runs import report
from launcher.runs.ledger import Ledger, new_run
from launcher.runs.progress import Progress
from launcher.targets.base import LogLine


def _line(time: float, **event: Any) -> LogLine:
    return LogLine(time, "stdout", events.PREFIX + json.dumps({"schema": 1, "time": time, **event}))


def test_at_risk_is_what_was_done_since_the_last_published_checkpoint() -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(_line(1.0, event="training", num_timesteps=30))
    assert progress.at_risk == 0
    progress.observe(_line(2.0, event="progress", num_timesteps=50, steps_per_s=10.0))
    assert progress.at_risk == 20
    progress.observe(_line(3.0, event="published", num_timesteps=40))
    assert progress.at_risk == 10
    progress.observe(_line(4.0, event="result", status="finished", num_timesteps=100))
    assert progress.result is not None


def test_the_speed_with_waits_is_told_where_the_trainers_own_hides_them() -> None:
    progress = Progress()
    progress.observe(_line(10.0, event="training", num_timesteps=1000, total_timesteps=9000))
    progress.observe(_line(40.0, event="progress", num_timesteps=2000, steps_per_s=100.0))
    assert screen.told_speed(progress) == "100.0 steps/s"
    progress.observe(_line(110.0, event="progress", num_timesteps=5000, steps_per_s=100.0))
    assert screen.told_speed(progress) == "100.0 steps/s (40.0 with evaluations and waits)"
    assert progress.seconds_to_go(110.0) == pytest.approx(4000 / 40.0)
    progress.observe(_line(170.0, event="progress", num_timesteps=9000, steps_per_s=51.0))
    assert screen.told_speed(progress) == "51.0 steps/s"


@given(st.text(max_size=200))
def test_no_line_of_any_text_breaks_the_picture(text: str) -> None:
    progress = Progress(total_timesteps=100)
    progress.observe(LogLine(1.0, "stdout", text))
    progress.observe(LogLine(1.0, "stdout", events.PREFIX + text))
    assert "of 100 timesteps" in screen.picture("run", "RUNNING", progress, 1.0, 900.0)


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(sorted(events.EVENTS))},
        optional={
            name: st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text()
            | st.integers()
            for name in ("num_timesteps", "total_timesteps", "steps_per_s", "reward", "queue", "time", "session_id")
        },
    )
)
def test_no_event_with_odd_fields_breaks_what_is_shown(event: dict[str, Any]) -> None:
    out = io.StringIO()
    progress = Progress(total_timesteps=100)
    line = LogLine(1.0, "stdout", events.PREFIX + json.dumps(event))
    shown = screen.PlainScreen(out, every_s=0.0, clock=lambda: 0.0)
    shown.line(line, progress.observe(line), progress)
    assert "Traceback" not in out.getvalue()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_a_sparkline_has_a_bar_a_value_and_its_highest_at_the_maximum(values: list[float]) -> None:
    bars = screen.sparkline(values)
    assert len(bars) == len(values)
    assert bars[values.index(max(values))] == max(bars)


def test_durations_read_as_people_say_them() -> None:
    assert [screen.duration(s) for s in (0.4, 59, 61, 3_600, 43_200)] == [
        "0 s", "59 s", "1 min 01 s", "1 h 00 min", "12 h 00 min",
    ]  # fmt: skip


def test_the_report_counts_what_a_kill_has_cost_and_its_bound(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.sqlite")
    run = new_run("quick-abcdef", "local", "local", RunConfig("quick-abcdef", 100, 10), tmp_path)
    book.add_run(run)
    book.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=60,
        max_timesteps_at_risk=20,
        publish_interval_seconds=0,
        after=0,
    )
    book.update_session(
        run.run_id,
        1,
        submission="pushed",
        seen_timesteps=50,
        published_timesteps=30,
        status="CANCEL_ACKNOWLEDGED",
    )
    (row,) = report.report(run, book)
    assert (row.reached, row.published, row.lost, row.bound) == (50, 30, 20, "20 timesteps")
    assert "killed" in row.ended
    text = report.as_table(run, [row])
    assert "30 of 100 timesteps safe, not finished yet" in text
