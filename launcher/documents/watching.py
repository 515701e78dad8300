"""What a session said, line by line, and what a watch says of it: `event` tells the kinds of its lines apart.

Between them come the events of the session as it told them: kernel/contract/events.py has their classes.
"""

from __future__ import annotations

from typing import Literal

from kernel.contract.record import Record


class LoggedLine(Record):
    """One line of a session's log."""

    time: float
    """Seconds since the session began."""
    stream: str
    """stdout or stderr."""
    text: str
    """The line."""


class WatchBegan(Record, kw_only=True):
    """A session is watched from here on; in a relay, the next one."""

    event: Literal["watch"] = "watch"
    """Which kind of line this is."""
    run_id: str
    """Name of the run."""
    session: int
    """Number of the session in its run."""
    target: str
    """Where the run was pushed: kaggle or local."""


class StateTold(Record, kw_only=True):
    """How the session stands, where the platform says something else than before."""

    event: Literal["state"] = "state"
    """Which kind of line this is."""
    status: str
    """The platform's word."""
    message: str
    """What it says of a failure; empty without one."""


class LogTold(Record, kw_only=True):
    """A line of the log that is no event of the session."""

    event: Literal["log"] = "log"
    """Which kind of line this is."""
    time: float
    """Seconds since the session began."""
    stream: str
    """stdout or stderr."""
    text: str
    """The line."""


class AlertRaised(Record, kw_only=True):
    """Something that goes wrong with the session."""

    event: Literal["alert"] = "alert"
    """Which kind of line this is."""
    level: str
    """WARN, ALERT where somebody should act, or STOP where the session ends by it."""
    rule: str
    """Name of what was found, such as flood or silence."""
    message: str
    """What was found, with its figure."""


class NoteSaid(Record, kw_only=True):
    """What the watch itself does: takes up a connection again, waits for an end."""

    event: Literal["note"] = "note"
    """Which kind of line this is."""
    message: str
    """That in words."""
