"""Shows the trainer's events without filling the log: frequent ones within a budget, of each kind the newest.

Standard library only; the clock is a parameter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kernel.session.log_governor import Budget

FREQUENT = ("progress", "checkpoint", "published", "evaluation", "publish_failed", "checkpoint_failed")
SHOWN_AT_ONCE = 400
SHOWN_PER_S = 1 / 30
MAX_REASON = 600


class EventGovernor:
    """Frequent events wait for their budget, replaced by newer ones of their kind; others go at once."""

    def __init__(self, emit: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._budget = Budget(SHOWN_AT_ONCE, SHOWN_PER_S)
        self._waiting: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def event(self, name: str, **fields: Any) -> None:
        """Show it now, or when there is room for it."""
        if isinstance(fields.get("reason"), str):
            fields["reason"] = fields["reason"][:MAX_REASON]
        with self._lock:
            if name in FREQUENT:
                self._waiting.pop(name, None)
                if not self._budget.take(self._clock()):
                    self._waiting[name] = fields
                    return
        self._emit(name, **fields)

    def pump(self) -> None:
        """Show what has waited, as far as the budget goes."""
        with self._lock:
            while self._waiting and self._budget.take(self._clock()):
                name = next(iter(self._waiting))
                self._emit(name, **self._waiting.pop(name))

    def flush(self) -> None:
        """Show everything that waits: the session ends."""
        with self._lock:
            for name, fields in self._waiting.items():
                self._emit(name, **fields)
            self._waiting.clear()
