"""The real incident, lived through again: its silence warns, its flood alarms at once, and nothing is lost by its end.

The recorded lines are printed by a real session at the rate at which they came. The twelve hours of silence before
them pass on two clocks that the test holds: the embedded Kaggle's, and the watch's. So does the time in which the
kernel could say that it stops the flood itself.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from launcher import screen
from launcher.cli import main
from launcher.config import WatchSettings
from launcher.errors import AlertStop
from launcher.runs.alerts import Alert, Level
from launcher.runs.progress import Progress
from launcher.runs.watch import Watch
from launcher.targets.base import LogLine, SessionState, Status
from tests.limits import limit_s, until

from .stage import FINISHED, Stage

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded logs in ../shared/data are not here"),
    pytest.mark.alone,
]

SILENCE_S = 43_204.9
"""What the incident's log begins after."""
INCIDENT = r"""
import gzip
{begin}
open({pid!r}, "w").write(str(os.getpid()))
lines = []
with gzip.open({log!r}, "rt", encoding="utf-8", errors="replace") as file:
    for raw in file:
        stamp, _, rest = raw.partition("s ")
        number, _, text = rest.partition(" ")
        if number.strip().isdigit():
            lines.append((float(stamp) - {silence}, text.rstrip("\n")))
while not os.path.exists({go!r}):
    time.sleep(0.01)
start, first = time.monotonic(), True
for when, text in lines:
    while time.monotonic() - start < when:
        time.sleep(0.001)
    if first:
        open({flood!r}, "w").write(repr(time.time()))
        first = False
    print(text, flush=True)
time.sleep(600)
"""


class _Noted(screen.PlainScreen):
    """Notes when alerts come."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.alerts: list[tuple[float, Alert]] = []
        self.lines: list[LogLine] = []
        self.runs = False

    def state(self, state: SessionState) -> None:
        self.runs = state.status is Status.RUNNING

    def line(self, line: LogLine, event: dict[str, Any] | None, progress: Progress) -> None:
        self.lines.append(line)

    def alert(self, alert: Alert) -> None:
        self.alerts.append((time.time(), alert))


def _watch(stage: Stage, run: Any, shown: screen.Screen, **more: Any) -> Watch:
    (session,) = stage.book.sessions(run.run_id)
    return Watch(run, session, stage.backend(), stage.book, shown, WatchSettings(), **more)


@pytest.mark.parametrize("tells_its_id", [True, False])
def test_the_incident_warns_in_its_silence_alarms_within_a_second_of_its_flood_and_is_ended_after_the_grace(
    stage: Stage, tmp_path: Path, tells_its_id: bool
) -> None:
    pid, go, flood = (tmp_path / name for name in ("pid", "go", "flood"))
    values = {"pid": str(pid), "go": str(go), "flood": str(flood), "silence": SILENCE_S}
    values |= {"log": str(SHARED / "incident-2025-10-21.log.gz"), "begin": "begin()" if tells_its_id else ""}
    stage.kaggle.change_settings(session_limit_s=50_000.0)
    run = stage.new_run()
    stage.publish(run, 50)
    stage.start(run, INCIDENT.format(**values), timeout_s=50_000)

    offset, shown = [0.0], _Noted()
    running: list[bool] = []

    def clock() -> float:
        """The silence passes on both clocks at the first look after the session runs; then the flood comes."""
        if not offset[0] and pid.exists() and shown.runs and (shown.lines or not tells_its_id):
            offset[0] = SILENCE_S
            stage.kaggle.advance_clock(SILENCE_S)
        elif offset[0] and not go.exists() and any(alert.rule == "silent" for _, alert in shown.alerts):
            go.touch()
        elif offset[0] == SILENCE_S and any(alert.level is Level.STOP for _, alert in shown.alerts):
            running.append(_alive(int(pid.read_text())))
            offset[0] += WatchSettings().grace_s
        return time.monotonic() + offset[0]

    with pytest.raises(AlertStop) as caught:
        _watch(stage, run, shown, clock=clock).to_the_end()

    assert caught.value.exit_code == 4
    assert running == [True], "no force before the grace has passed"
    levels = [(alert.level, alert.rule) for _, alert in shown.alerts]
    assert levels.index((Level.WARN, "silent")) < levels.index((Level.STOP, "flood"))
    stopped = next(when for when, alert in shown.alerts if alert.level is Level.STOP)
    assert 0.0 <= stopped - float(flood.read_text()) <= limit_s(1 / 3)

    # The session has really ended, and its end is what the target says too.
    process = int(pid.read_text())
    until(lambda: not _alive(process))
    assert stage.sessions(run) == (["CANCEL_ACKNOWLEDGED"] if tells_its_id else [])
    assert "[DEBUG_BC_GPU]" in run.log(1).read_text(encoding="utf-8")
    (session,) = stage.book.sessions(run.run_id)
    assert session.alert_rule == "flood"
    assert re.match(r"\d+ \[DEBUG lines (within 0\.\d+ s|at once) \(limit 20 per s\)$", session.alert_message)

    assert main(["fetch-checkpoints", run.run_id]) == 0
    assert stage.verified(run) == [50]


def test_a_real_session_without_a_flood_is_not_stopped_at_its_densest(stage: Stage, tmp_path: Path) -> None:
    with gzip.open(SHARED / "kaggle-session-log.json.gz", "rt", encoding="utf-8") as file:
        events = [(float(event["time"]), event["stream_name"], event["data"]) for event in json.load(file)]
    times = [when for when, _, _ in events]
    seconds = 8.0
    begin = max(times, key=lambda start: sum(start <= when < start + seconds for when in times))
    chosen = [event for event in events if begin <= event[0] < begin + seconds]
    assert len(chosen) > 1_000
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps(chosen))
    script = f"""
start = time.monotonic()
for when, stream, text in json.load(open({str(recorded)!r})):
    while time.monotonic() - start < when - {begin}:
        time.sleep(0.001)
    out = sys.stdout if stream == "stdout" else sys.stderr
    out.write(text)
    out.flush()
"""
    shown = _Noted()
    run = stage.begins(script + FINISHED)
    _watch(stage, run, shown).to_the_end()
    assert len(shown.lines) > len(chosen)
    assert not [alert for _, alert in shown.alerts if alert.level is Level.STOP]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
