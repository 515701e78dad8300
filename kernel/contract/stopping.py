"""A kernel that stops itself: by which event it says so, and how long it may take for its last checkpoint and publish.

Standard library only: the launcher waits for what the kernel promises here.
"""

from __future__ import annotations

from kernel.contract import events
from kernel.contract.endings import Ending
from kernel.contract.events import Event

STOP_SECONDS = 60.0
"""Longest wait of the kernel for its trainer to reach its next consistent point."""
LAST_PUBLISH_SECONDS = 900.0
"""Longest time for the publish of the last checkpoint."""
END_SECONDS = STOP_SECONDS + LAST_PUBLISH_SECONDS + 60.0
"""A kernel that said that it stops has ended by then: both limits, and a minute for the checkpoint and the records."""


def told_ending(event: Event) -> Ending | None:
    """How the session ends by what its kernel says with `event`; None where it goes on."""
    match event:
        case events.Flood(action="stop"):
            return Ending.flood
        case events.Health(action="stop", rule=rule) if rule != "slow":
            # A training that is only slow is never stopped; kernels of schema 1 have told it with this action.
            return Ending.unhealthy
        case events.Deadline():
            return Ending.deadline
    return None
