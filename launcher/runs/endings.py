"""Where a session stands, and how it ended: the words of the ledger, and the one function that decides an ending.

| `submission` | meaning |
|---|---|
| `pushing` | the push began; whether the target took it is not known yet |
| `pushed` | the target took it |
| `unknown` | the answer to the push was lost |
| `absent` | looked for in vain: it was not taken |

| `status` in the ledger | the session | its ending without a `result` |
|---|---|---|
| empty | was never asked for | none |
| QUEUED, RUNNING, CANCEL_REQUESTED | is not over | none |
| COMPLETE | ended in order | silent |
| ERROR | ended in an error | failed |
| CANCEL_ACKNOWLEDGED | was ended by force | cut; cancelled where the target says that it was asked to |
| NEW_SCRIPT | was taken and never ran | never_ran |
| DELETED | went with its kernel | deleted |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from kernel.contract.endings import Ending, ending_of
from launcher.runs.records import Session
from launcher.targets.base import SessionState, Status

DELETED = "DELETED"
"""Status in the ledger of a session whose kernel was deleted: the launcher's own word, no state of a platform."""


class Submission(StrEnum):
    """What is known of the push of a session."""

    pushing = "pushing"
    pushed = "pushed"
    unknown = "unknown"
    absent = "absent"


_WITHOUT_RESULT: Mapping[str, Ending | None] = {
    "": None,
    Status.QUEUED.value: None,
    Status.RUNNING.value: None,
    Status.CANCEL_REQUESTED.value: None,
    Status.COMPLETE.value: Ending.silent,
    Status.ERROR.value: Ending.failed,
    Status.CANCEL_ACKNOWLEDGED.value: Ending.cut,
    Status.NEW_SCRIPT.value: Ending.never_ran,
    DELETED: Ending.deleted,
}


def ending(session: Session, state: SessionState | None = None) -> Ending | None:
    """How `session` ended, by its row and by `state` where the target was just asked; None while it is not over.

    The kernel's own word counts before the platform's: it is said after the last publish.
    """
    if said := ending_of(session.result):
        return said
    status = state.status.value if state is not None else session.status
    found = _WITHOUT_RESULT.get(status)
    if found is not Ending.cut:
        return found
    told = (session.message, state.message if state is not None else "")
    cancelled = any(SessionState(Status.CANCEL_ACKNOWLEDGED, message).cancelled for message in told)
    return Ending.cancelled if cancelled else Ending.cut
