"""One function decides how a session ended, from its row and what the target says now."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kernel.contract.endings import Ending
from launcher.runs.endings import DELETED, Submission, ending
from launcher.runs.records import ENDED, Session
from launcher.targets.base import SessionState, Status


def _session(**values: Any) -> Session:
    return Session(**{**{field.name: "" for field in dataclasses.fields(Session)}, **values})


LIMIT = "Your notebook was stopped because it exceeded the max allowed execution duration."
ASKED = "The kernel was killed due to a requested cancel."


@pytest.mark.parametrize(
    ("row", "state", "expected"),
    [
        ({}, None, None),
        ({"status": "RUNNING"}, None, None),
        ({"status": "RUNNING"}, SessionState(Status.COMPLETE), Ending.silent),
        ({"status": "COMPLETE", "result": "finished"}, None, Ending.finished),
        ({"status": "COMPLETE", "result": "of a newer kernel"}, None, Ending.silent),
        ({"status": "ERROR", "result": "crashed"}, None, Ending.crashed),
        ({"status": "ERROR"}, None, Ending.failed),
        ({"status": "CANCEL_ACKNOWLEDGED", "message": LIMIT}, None, Ending.cut),
        ({"status": "CANCEL_ACKNOWLEDGED", "message": ASKED}, None, Ending.cancelled),
        ({"status": "CANCEL_ACKNOWLEDGED", "message": "cancelled from here"}, None, Ending.cancelled),
        ({}, SessionState(Status.CANCEL_ACKNOWLEDGED, ASKED), Ending.cancelled),
        ({}, SessionState(Status.CANCEL_ACKNOWLEDGED, LIMIT), Ending.cut),
        ({"status": "CANCEL_ACKNOWLEDGED", "result": "deadline"}, None, Ending.deadline),
        ({"status": "NEW_SCRIPT"}, None, Ending.never_ran),
        ({"status": DELETED}, None, Ending.deleted),
    ],
)
def test_an_ending_follows_from_row_and_state(
    row: dict[str, str], state: SessionState | None, expected: Ending | None
) -> None:
    assert ending(_session(**row), state) is expected


def test_every_state_has_its_row_and_exactly_the_final_ones_an_ending() -> None:
    assert {status.value for status in Status if status.final} | {DELETED} == set(ENDED)
    for status in [*(status.value for status in Status), DELETED]:
        assert (ending(_session(status=status)) is not None) is (status in ENDED)


def test_the_words_of_a_submission_are_those_that_a_new_session_has() -> None:
    assert Submission.pushing == "pushing"
    assert [str(word) for word in Submission] == ["pushing", "pushed", "unknown", "absent"]
