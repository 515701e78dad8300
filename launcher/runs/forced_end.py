"""When a session is ended by force: only where its kernel has not decided, or has not kept what it promised.

Force costs what is not published, for a target knows no gentler end than a kill. Pure; clocks are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.contract import events
from kernel.contract.endings import Ending
from kernel.contract.events import Event
from kernel.contract.stopping import END_SECONDS
from launcher.runs.alerts import Alert, Level


@dataclass
class ForcedEnd:
    """Decides for one watched session; every `now` is of the watch's clock [s]."""

    grace_s: float
    """How long the kernel has for a word of its own."""
    limit_s: float = 0.0
    """Of the session; at this instant the target ends it (0: none known)."""
    _condemned_by: Alert | None = None
    _condemned_at: float = 0.0
    _answered: bool = False
    _ends_by: float | None = None
    _heard_at: float = 0.0

    def condemn(self, alert: Alert, now: float) -> None:
        """A rule of the launcher asks for the end; the first one counts."""
        if self._condemned_by is None:
            self._condemned_by, self._condemned_at = alert, now

    def hear(self, event: Event, ending: Ending | None, now: float) -> None:
        """The kernel said something; `ending` is the end that it is making, None where it goes on."""
        self._heard_at = now
        self._answered |= isinstance(event, events.Flood)
        if ending is None:
            self._ends_by = None
        elif self._ends_by is None:
            left_s = self.limit_s - event.time if self.limit_s and event.time is not None else END_SECONDS
            self._ends_by = now + min(END_SECONDS, max(0.0, left_s))

    def deafen(self, until: float) -> None:
        """Nothing can be heard before `until`: until then nobody's patience is spent."""
        self._condemned_at, self._heard_at = max(self._condemned_at, until), max(self._heard_at, until)

    def due(self, now: float) -> Alert | None:
        """The alert that the session is to be ended for by force now, or None."""
        if self._ends_by is not None:
            if now <= self._ends_by or now - self._heard_at <= self.grace_s:
                return None
            silent_s = now - self._heard_at
            return Alert(Level.STOP, "no end", f"the kernel said that it stops, and nothing for {silent_s:.0f} s since")
        if self._answered or now - self._condemned_at <= self.grace_s:
            return None
        return self._condemned_by
