"""What a run says is published and lost is so, whatever fails; a sample of `python -m benchmarks.publishing`."""

from __future__ import annotations

import pytest

from benchmarks import publishing
from tests.limits import limit_s

pytestmark = [pytest.mark.slow, pytest.mark.timeout(limit_s(400))]


@pytest.mark.parametrize(
    ("faults", "cut"),
    [(("look 401",), True), (("deleted", "new version 500"), False)],
    ids=lambda value: " + ".join(value) if isinstance(value, tuple) else "cut" if value else "ends",
)
def test_what_a_run_says_of_its_publishes_is_what_is_fetched(faults: tuple[str, ...], cut: bool) -> None:
    told = publishing.trial(faults, cut)
    assert told.wrong == [], publishing.row(told)


def test_pairs_are_of_two_different_faults_and_spread_over_all() -> None:
    pairs = publishing.chosen_pairs(40)
    assert len(set(pairs)) == 40
    assert all(one != other for one, other in pairs)
    assert len({name for pair in pairs for name in pair}) > 20
