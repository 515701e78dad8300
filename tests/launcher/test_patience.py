"""What the target does not answer is asked again, later and later, as long as it says and while there is time."""

from __future__ import annotations

import pytest

from launcher.errors import BackendError, BackendUnavailable
from launcher.runs.patience import Backoff, patiently


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self) -> float:
        return sum(self.slept)


class Unanswered:
    """A call that fails with each of `errors` before it answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answered"


def _down(retry_after_s: float | None = None) -> BackendUnavailable:
    return BackendUnavailable("down", retry_after_s=retry_after_s)


def test_waits_grow_to_the_longest_and_are_never_shorter_than_the_target_asks() -> None:
    clock, told, revived = Clock(), [], []
    call = Unanswered(_down(), _down(), _down(45.0), _down(), _down(0.1))
    answer = patiently(
        call,
        sleep=clock.slept.append,
        clock=clock,
        first_s=5.0,
        longest_s=30.0,
        failed=told.append,
        before_retry=lambda: revived.append(clock()),
    )
    assert answer == "answered"
    assert clock.slept == [5.0, 10.0, 45.0, 30.0, 30.0]
    assert len(told) == 5
    assert revived == [5.0, 15.0, 60.0, 90.0, 120.0]


@pytest.mark.parametrize(("within_s", "tries"), [(0.0, 1), (2.0, 3), (2.5, 4)])
def test_no_try_begins_after_the_time_is_over(within_s: float, tries: int) -> None:
    clock, call = Clock(), Unanswered(*(_down() for _ in range(9)))
    with pytest.raises(BackendUnavailable):
        patiently(call, sleep=clock.slept.append, clock=clock, within_s=within_s)
    assert 9 - len(call.errors) == tries


def test_another_error_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(BackendError, match="no"):
        patiently(Unanswered(BackendError("no")), sleep=clock.slept.append, clock=clock)
    assert clock.slept == []


def test_a_backoff_begins_anew_when_something_came() -> None:
    backoff = Backoff(1.0, 60.0)
    assert [backoff.wait_s(_down()) for _ in range(3)] == [1.0, 2.0, 4.0]
    backoff.reset()
    assert backoff.wait_s(_down()) == 1.0
