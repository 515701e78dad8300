"""Shows the trainer's events without filling the log: frequent ones within a budget, of each kind the newest.

Standard library only; the clock is a parameter.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from kernel.contract.events import (
    Checkpoint,
    CheckpointFailed,
    Evaluation,
    Event,
    Progress,
    Published,
    PublishFailed,
    PublishLost,
)
from kernel.session.log_governor import Budget

FREQUENT = (Progress, Checkpoint, Published, Evaluation, PublishFailed, CheckpointFailed)
SHOWN_AT_ONCE = 400
SHOWN_PER_S = 1 / 30
MAX_REASON = 600


class EventGovernor:
    """Frequent events wait for their budget, replaced by newer ones of their kind; others go at once."""

    def __init__(self, emit: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._budget = Budget(SHOWN_AT_ONCE, SHOWN_PER_S)
        self._waiting: dict[type[Event], Event] = {}
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        """Show it now, or when there is room for it."""
        reason = getattr(event, "reason", "")
        if len(reason) > MAX_REASON:
            event = dataclasses.replace(event, reason=reason[:MAX_REASON])  # type: ignore[call-arg]
        with self._lock:
            if isinstance(event, PublishLost):
                self._waiting.pop(Published, None)  # it is not true any more
            if isinstance(event, FREQUENT):
                self._waiting.pop(type(event), None)
                if not self._budget.take(self._clock()):
                    self._waiting[type(event)] = event
                    return
        self._emit(event)

    def pump(self) -> None:
        """Show what has waited, as far as the budget goes."""
        with self._lock:
            while self._waiting and self._budget.take(self._clock()):
                self._emit(self._waiting.pop(next(iter(self._waiting))))

    def flush(self) -> None:
        """Show everything that waits: the session ends."""
        with self._lock:
            for event in self._waiting.values():
                self._emit(event)
            self._waiting.clear()
