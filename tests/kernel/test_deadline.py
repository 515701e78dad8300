"""How much of a session is left, and by when each thing must be over."""

from __future__ import annotations

from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("measured", "max_seconds", "asked", "margin"),
    [
        ([], 43_200.0, 0.0, 120.0),
        ([40.0], 43_200.0, 0.0, 120.0),
        ([41.0], 43_200.0, 0.0, 123.0),
        ([299.0], 43_200.0, 0.0, 897.0),
        ([300.0], 43_200.0, 0.0, 900.0),
        ([301.0], 43_200.0, 0.0, 900.0),
        ([50.0, 200.0], 43_200.0, 0.0, 600.0),
        ([200.0, 50.0, 60.0], 43_200.0, 0.0, 600.0),
        ([*range(41, 60), 250.0], 43_200.0, 0.0, 3 * 59.0),
        ([*range(42, 61), 250.0, 260.0], 43_200.0, 0.0, 750.0),
        ([], 480.0, 0.0, 120.0),
        ([], 479.0, 0.0, 119.75),
        ([], 60.0, 0.0, 15.0),
        ([300.0], 1200.0, 0.0, 300.0),
        ([300.0], 43_200.0, 0.5, 0.5),
        ([], 43_200.0, 2000.0, 2000.0),
        ([], 60.0, 61.0, 60.0),
    ],
)
def test_margin_is_thrice_the_95th_percentile_of_what_publishes_took_within_its_bounds(
    measured: list[float], max_seconds: float, asked: float, margin: float
) -> None:
    """The percentile by nearest rank: the slowest of up to 19."""
    assert Deadline(0.0, max_seconds, asked, clock=lambda: 0.0, measured=list(measured)).margin == margin


@pytest.mark.parametrize(
    ("max_seconds", "now", "left", "training", "upload", "may_begin"),
    [
        (1000.0, 7.0, 1000.0, 880.0, 970.0, True),
        (1000.0, 766.5, 240.5, 120.5, 210.5, True),
        (1000.0, 767.0, 240.0, 120.0, 210.0, False),
        (1000.0, 1017.0, -10.0, -130.0, -40.0, False),
        (464.0, 7.0, 464.0, 348.0, 435.0, True),
        (80.0, 7.0, 80.0, 60.0, 75.0, True),
    ],
)
def test_each_thing_has_its_seconds_left(
    max_seconds: float, now: float, left: float, training: float, upload: float, may_begin: bool
) -> None:
    d = Deadline(7.0, max_seconds, clock=lambda: now)
    assert (d.seconds_left, d.training_seconds_left, d.upload_seconds_left) == (left, training, upload)
    assert d.may_begin_upload is may_begin


def test_the_longest_margin_leaves_thirty_seconds_after_the_last_upload() -> None:
    assert deadline([0.0], margin_seconds=900.0).upload_seconds_left == 43_200.0 - 30.0
    assert deadline([0.0], margin_seconds=120.0).upload_seconds_left == 43_200.0 - 30.0
    assert deadline([0.0], margin_seconds=119.0).upload_seconds_left == 43_200.0 - 29.75


def test_deadline_orders_upload_stop_and_limit() -> None:
    now = [0.0]
    d = deadline(now)
    assert d.may_begin_upload
    now[0] = 43_200.0 - 200.0
    assert not d.may_begin_upload
    assert d.training_seconds_left > 0
    now[0] = 43_200.0 - 100.0
    assert d.training_seconds_left < 0 < d.upload_seconds_left < d.seconds_left
