"""What a relay does next: a pure function of facts. The loop around it sleeps and calls.

The first row that fits counts:

| facts | next step |
|---|---|
| the newest session may be alive | `Follow` |
| all timesteps are safe | `Done` |
| the session that was followed was stopped by an alert, or by its kernel for a flood or its health | `GiveUp` |
| it was cancelled, its kernel was deleted, or the platform never ran it | `GiveUp` |
| two sessions one after the other brought no new timestep | `GiveUp` |
| every place for a session was taken when the target was last asked | `WaitUntil` a while after that |
| the target refused for want of quota, and nothing was added to it since | `WaitUntil` its refreshment |
| on the CPU, or the target does not tell the quota | `Push`, as long as wished |
| the quota has what is wished, and its margin | `Push`, as long as wished |
| the quota has a rest that is worth a session | `Push`, as long as the rest |
| otherwise | `WaitUntil` the quota's refreshment |

A session that is alive comes first, all timesteps safe or not: its result is still to be heard, and nobody looks for
checkpoints before. Only a session that this relay has followed is judged: whoever starts a relay after an alert means
to go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kernel.contract.endings import Ending
from launcher.checks.quota import MARGIN_H
from launcher.targets.base import Quota

SHORTEST_H = 0.5
"""A rest of the weekly quota that is shorter than this is not worth a session."""
SPARE_H = MARGIN_H + 0.01
"""Left of the quota by a session that takes its rest."""
SLOT_WAIT_S = 60.0
FIRST_WAIT_S = 5.0
"""The shortest wait: a refreshment that is due may take a moment to show."""
FRUITLESS = 2
"""So many sessions without a new timestep, one after the other, end a relay."""
WEEK_S = 7 * 86_400.0
FIRST_SATURDAY_S = 2 * 86_400.0
"""1970-01-03 00:00 UTC; the quota is refreshed on Saturdays at that hour."""


class Lacking(Enum):
    """What a push was refused for, that comes back with time."""

    slot = "a free session"
    quota = "the quota"


@dataclass(frozen=True)
class Refusal:
    """The target took no session."""

    lacking: Lacking
    reason: str
    at: float
    """When [s since the epoch]."""
    quota: Quota | None = None
    """What it told of the quota then."""


class Why(Enum):
    """Why a relay gives up."""

    alert = "alert"
    cancelled = "cancelled"
    deleted = "deleted"
    never_ran = "never ran"
    no_gain = "no gain"


@dataclass(frozen=True)
class Facts:
    """What is known when a relay asks what to do."""

    now: float
    """[s since the epoch]."""
    may_be_alive: bool
    """The newest session is not known to be over; a push whose answer was lost may run too."""
    total_timesteps: int
    safe_timesteps: int = 0
    """In the newest checkpoint that verifies; looked for once no session may be alive."""
    ending: Ending | None = None
    """Of the session that this relay has followed last; None where it followed none yet."""
    alert: bool = False
    """That session was stopped by an alert of a watch."""
    fruitless: int = 0
    """The relay's newest sessions that brought no new timestep, one after the other."""
    on_gpu: bool = True
    wished_h: float = 12.0
    """Session limit that is asked for [h]."""
    quota: Quota | None = None
    """What the target tells now; None where it does not."""
    refusal: Refusal | None = None
    """Of the last push, when it was refused for what comes back with time."""


@dataclass(frozen=True)
class Follow:
    """Watch the newest session to its end."""


@dataclass(frozen=True)
class Push:
    """Push the next session, of `max_hours` at the most."""

    max_hours: float


@dataclass(frozen=True)
class WaitUntil:
    """Let time pass until `when` [s since the epoch], looking at the quota now and then."""

    when: float
    lacking: Lacking
    reason: str


@dataclass(frozen=True)
class Done:
    """Nothing is left to do."""


@dataclass(frozen=True)
class GiveUp:
    """End the relay before it spends more."""

    why: Why


Step = Follow | Push | WaitUntil | Done | GiveUp
_JUDGED = {
    Ending.flood: Why.alert,
    Ending.unhealthy: Why.alert,
    Ending.cancelled: Why.cancelled,
    Ending.deleted: Why.deleted,
    Ending.never_ran: Why.never_ran,
}
"""Endings that no other session should follow by itself."""


def next_step(facts: Facts) -> Step:
    """The step that the module's table has for `facts`."""
    if facts.may_be_alive:
        return Follow()
    if facts.safe_timesteps >= facts.total_timesteps:
        return Done()
    if facts.alert:
        return GiveUp(Why.alert)
    if facts.ending in _JUDGED:
        return GiveUp(_JUDGED[facts.ending])
    if facts.fruitless >= FRUITLESS:
        return GiveUp(Why.no_gain)
    if waiting := _refused(facts):
        return waiting
    if not facts.on_gpu or facts.quota is None or facts.quota.left_h >= facts.wished_h + MARGIN_H:
        return Push(facts.wished_h)
    rest_h = facts.quota.left_h - SPARE_H
    if rest_h >= min(SHORTEST_H, facts.wished_h):
        return Push(rest_h)
    return _until_refreshed(facts, facts.quota, facts.now, f"{facts.quota.left_h:.2f} h of GPU left")


def _refused(facts: Facts) -> WaitUntil | None:
    """The wait that the last refusal asks for; None once it is over."""
    refusal = facts.refusal
    if refusal is None:
        return None
    if refusal.lacking is Lacking.slot:
        until = refusal.at + SLOT_WAIT_S
        return WaitUntil(until, Lacking.slot, refusal.reason) if until > facts.now else None
    if refusal.quota and facts.quota and facts.quota.left_h > refusal.quota.left_h + SPARE_H:
        return None
    waiting = _until_refreshed(facts, refusal.quota, refusal.at, refusal.reason)
    return waiting if _refreshed(refusal.quota, refusal.at) > facts.now else None


def _until_refreshed(facts: Facts, quota: Quota | None, since: float, reason: str) -> WaitUntil:
    return WaitUntil(max(_refreshed(quota, since), facts.now + FIRST_WAIT_S), Lacking.quota, reason)


def _refreshed(quota: Quota | None, since: float) -> float:
    """When the quota is refreshed, as the target tells, else as the calendar does [s since the epoch]."""
    return quota.refresh.timestamp() if quota and quota.refresh else next_refresh(since)


def next_refresh(now: float) -> float:
    """The next Saturday 00:00 UTC after `now` [s since the epoch]."""
    return now + WEEK_S - (now - FIRST_SATURDAY_S) % WEEK_S
