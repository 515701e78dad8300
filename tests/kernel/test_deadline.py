"""How much of a session is left, and by when each thing must be over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernel.process import process_age
from kernel.session.deadline import Deadline


def deadline(now: list[float], **kwargs: Any) -> Deadline:
    return Deadline(0.0, 43_200.0, clock=lambda: now[0], **kwargs)


def test_margin_covers_what_publishes_took_within_its_bounds() -> None:
    d = deadline([0.0])
    assert d.margin == 120.0
    d.published_in(100.0)
    assert d.margin == 300.0
    d.published_in(5000.0)
    for _ in range(30):
        d.published_in(100.0)
    assert d.margin == 300.0, "one outlier does not cost the session a quarter of an hour"
    assert deadline([0.0], measured=[4000.0]).margin == 900.0
    assert Deadline(0.0, 60.0, clock=lambda: 0.0).margin == 15.0


def test_deadline_orders_upload_stop_and_limit() -> None:
    now = [0.0]
    d = deadline(now)
    assert d.may_begin_upload
    now[0] = 43_200.0 - 200.0
    assert not d.may_begin_upload
    assert d.training_seconds_left > 0
    now[0] = 43_200.0 - 100.0
    assert d.training_seconds_left < 0 < d.upload_seconds_left < d.seconds_left


def test_process_age_is_told_by_no_wall_clock(tmp_path: Path) -> None:
    assert 0.0 < process_age() < 24 * 3600
    (tmp_path / "stat").write_text("1 (a) b) S " + " ".join(["0"] * 18) + " 5000 0")
    (tmp_path / "uptime").write_text("80.5 1.0")
    assert process_age(tmp_path / "stat", tmp_path / "uptime") == pytest.approx(30.5, abs=1.0)
    assert process_age(tmp_path / "none") == 0.0
