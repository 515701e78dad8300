"""Try again what the target does not answer: with longer and longer waits, each as long as the target asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from launcher.errors import BackendError, BackendUnavailable

T = TypeVar("T")


@dataclass
class Backoff:
    """Waits between tries, each twice the one before [s]."""

    first_s: float
    longest_s: float
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Something came: the next wait is the first one again."""
        self._next_s = self.first_s

    def wait_s(self, error: BackendError) -> float:
        """How long to wait after `error`: never shorter than the target asked for, if it did."""
        asked_s = error.retry_after_s if isinstance(error, BackendUnavailable) else None
        wait_s, self._next_s = max(self._next_s, asked_s or 0.0), min(self.longest_s, 2 * self._next_s)
        return wait_s


def patiently(
    call: Callable[[], T],
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    first_s: float = 1.0,
    longest_s: float = 1.0,
    within_s: float = math.inf,
    failed: Callable[[BackendUnavailable], object] = lambda error: None,
    before_retry: Callable[[], object] = lambda: None,
) -> T:
    """`call`, repeated for as long as the target cannot be reached.

    Parameters
    ----------
    first_s, longest_s : float
        The waits between tries grow from the one to the other [s].
    within_s : float
        No new try begins later than this after the first one [s].
    failed : callable
        Told of each failure before the wait.
    before_retry : callable
        Called after each wait; the embedded Kaggle may have to be started again.

    Raises
    ------
    BackendUnavailable
        The last failure, when `within_s` is over.
    """
    began, backoff = clock(), Backoff(first_s, longest_s)
    while True:
        try:
            return call()
        except BackendUnavailable as error:
            if clock() - began >= within_s:
                raise
            failed(error)
            sleep(backoff.wait_s(error))
            before_retry()
