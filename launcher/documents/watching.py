"""What a session said, line by line, and what a watch says of it: `event` tells the kinds of its lines apart.

Between them come the events of the session as it told them: kernel/contract/events.py has their classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoggedLine:
    """One line of a session's log."""

    time: float
    """Seconds since the session began."""
    stream: str
    """stdout or stderr."""
    text: str
    """The line."""


@dataclass(frozen=True, kw_only=True)
class WatchBegan:
    """A session is watched from here on; in a relay, the next one."""

    event: Literal["watch"] = "watch"
    """Which kind of line this is."""
    run_id: str
    """Name of the run."""
    session: int
    """Number of the session in its run."""
    target: str
    """Where the run was pushed: kaggle or local."""


@dataclass(frozen=True, kw_only=True)
class StateTold:
    """How the session stands, where the platform says something else than before."""

    event: Literal["state"] = "state"
    """Which kind of line this is."""
    status: str
    """The platform's word."""
    message: str
    """What it says of a failure; empty without one."""


@dataclass(frozen=True, kw_only=True)
class LogTold:
    """A line of the log that is no event of the session."""

    event: Literal["log"] = "log"
    """Which kind of line this is."""
    time: float
    """Seconds since the session began."""
    stream: str
    """stdout or stderr."""
    text: str
    """The line."""


@dataclass(frozen=True, kw_only=True)
class AlertRaised:
    """Something that goes wrong with the session."""

    event: Literal["alert"] = "alert"
    """Which kind of line this is."""
    level: str
    """WARN, ALERT where somebody should act, or STOP where the session ends by it."""
    rule: str
    """Name of what was found, such as flood or silence."""
    message: str
    """What was found, with its figure."""


@dataclass(frozen=True, kw_only=True)
class NoteSaid:
    """What the watch itself does: takes up a connection again, waits for an end."""

    event: Literal["note"] = "note"
    """Which kind of line this is."""
    message: str
    """That in words."""
