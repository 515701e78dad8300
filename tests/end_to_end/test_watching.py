"""Watching a run changes nothing about its end; one run of each case of `python -m benchmarks.watching`."""

from __future__ import annotations

import pytest

from benchmarks import watching
from tests.limits import limit_s

pytestmark = [pytest.mark.slow, pytest.mark.timeout(limit_s(200))]


@pytest.mark.parametrize("name", watching.CASES)
def test_a_run_ends_with_nothing_lost_however_it_is_watched(name: str) -> None:
    outcomes = watching.campaign((name,), runs=1)[name]
    assert watching.as_wanted(name, outcomes), outcomes
