"""Alerts are raised by what happens in the log and in time, and only then."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from kernel.contract import events
from launcher.config import WatchSettings
from launcher.runs.alerts import Alert, Alerts, Level
from launcher.runs.progress import Progress
from launcher.targets.base import LogLine

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded logs in ../shared/data are not here")


def _judge(lines: list[LogLine]) -> list[tuple[LogLine, Alert]]:
    alerts = Alerts()
    return [(line, alert) for line in lines for alert in alerts.on_line(line, None)]


def _lines(per_second: float, seconds: float, text: str = "step done") -> list[LogLine]:
    return [LogLine(i / per_second, "stdout", text) for i in range(int(per_second * seconds))]


def test_more_lines_than_the_limit_for_a_whole_minute_is_a_stop() -> None:
    assert not _judge(_lines(95, 120))
    found = _judge(_lines(130, 120))
    assert [alert.level for _, alert in found] == [Level.STOP]
    assert found[0][0].time <= 60.0


def test_a_screenful_at_once_is_no_flood() -> None:
    assert not _judge([LogLine(60.0 * i, "stdout", "\n".join(["x"] * 800)) for i in range(10)])


def test_a_burst_beyond_any_screenful_stops_within_its_second() -> None:
    found = _judge(_lines(2_000, 3))
    assert found
    assert found[0][0].time <= 1.0


def test_debug_lines_stop_at_a_fifth_of_the_rate_within_a_second() -> None:
    assert not _judge(_lines(50, 10))
    found = _judge(_lines(50, 10, "[DEBUG_BC_GPU] inflow"))
    assert [alert.rule for _, alert in found] == ["flood"]
    assert found[0][0].time <= 1.0


def test_a_replayed_log_is_judged_by_its_own_times() -> None:
    assert not _judge(_lines(2, 3600))


@needs_shared
def test_the_incident_is_stopped_within_a_second_of_its_first_flooding_line() -> None:
    lines = []
    with gzip.open(SHARED / "incident-2025-10-21.log.gz", "rt", encoding="utf-8", errors="replace") as file:
        for raw in file:
            stamp, _, rest = raw.partition("s ")
            number, _, text = rest.partition(" ")
            if number.strip().isdigit():
                lines.append(LogLine(float(stamp), "stdout", text.rstrip("\n")))
    assert len(lines) > 16_000
    first_flood = next(line.time for line in lines if "[DEBUG" in line.text)
    stops = [line.time for line, alert in _judge(lines) if alert.level is Level.STOP]
    assert stops
    assert 0.0 <= stops[0] - first_flood <= 1.0


@needs_shared
def test_a_real_session_without_a_flood_is_not_stopped() -> None:
    with gzip.open(SHARED / "kaggle-session-log.json.gz", "rt", encoding="utf-8") as file:
        events = json.load(file)
    lines = [LogLine(float(e["time"]), e["stream_name"], e["data"].rstrip("\n")) for e in events]
    assert len(lines) > 50
    assert not [alert for _, alert in _judge(lines) if alert.level is Level.STOP]


def test_silence_warns_once_until_a_line_comes() -> None:
    alerts = Alerts(WatchSettings(silence_s=60))

    def rules(silent_s: float) -> list[str]:
        return [a.rule for a in alerts.on_time(silent_s=silent_s, progress=Progress(), now_s=silent_s)]

    assert rules(59) == []
    assert rules(61) == ["silent"]
    assert rules(90) == []
    assert rules(0) == []
    assert rules(61) == ["silent"]


def test_slow_training_warns_with_its_figure_once_it_is_warm() -> None:
    alerts = Alerts(WatchSettings(min_timesteps_per_s=5))
    assert not alerts.on_line(LogLine(10.0, "stdout", ""), events.Training(num_timesteps=0, total_timesteps=9))
    assert not alerts.on_line(LogLine(20.0, "stdout", ""), events.Progress(num_timesteps=1, steps_per_s=0.1))
    assert not alerts.on_line(LogLine(80.0, "stdout", ""), events.Progress(num_timesteps=1, steps_per_s=6.0))
    (alert,) = alerts.on_line(LogLine(81.0, "stdout", ""), events.Progress(num_timesteps=1, steps_per_s=0.5))
    assert (alert.level, alert.rule) == (Level.WARN, "slow")
    assert "0.50" in alert.message


def test_work_at_risk_that_is_not_published_warns() -> None:
    alerts = Alerts(WatchSettings(publish_silence_s=100))
    progress = Progress(num_timesteps=500, published_timesteps=400, published_time=50.0)
    assert not alerts.on_time(silent_s=0, progress=progress, now_s=149)
    assert [a.rule for a in alerts.on_time(silent_s=0, progress=progress, now_s=151)] == ["not publishing"]
