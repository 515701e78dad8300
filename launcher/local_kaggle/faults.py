"""Faults that the embedded Kaggle can be told to have: one table, set through the admin API, deterministic.

A value is JSON. Faults that answer requests take `{"method": "SaveKernel", "times": 2}` and fail the next `times`
matching requests (`method` "*" matches all; `skip` lets that many pass first); the others take a number or a string.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from launcher.local_kaggle.store import Store


@dataclass(frozen=True)
class Fault:
    """One row of the table: what it takes and what it does."""

    kind: str
    """`request` ({"method", "times", "skip", ...}), `number`, `text` (a regular expression) or `flag`."""
    effect: str


FAULTS: dict[str, Fault] = {
    "session_limit_at_log": Fault("text", "A session reaches its hard limit the moment a log line matches."),
    "session_limit_s": Fault("number", "Every session's hard limit [s], whatever the push asked for."),
    "out_of_memory_at_log": Fault("text", "A session dies of lack of memory the moment a log line matches."),
    "exit_nonzero_keeps_outputs": Fault("flag", "A session that fails keeps its outputs."),
    "keep_log_on_limit": Fault("flag", "A session that hits its limit keeps its log."),
    "http_error": Fault(
        "request",
        'Answers `{"status": 500}` with that status; `"html": true` as HTML, `"retry_after": 2` with a header.',
    ),
    "connection_reset": Fault("request", "The connection breaks before anything is done."),
    "answer_lost": Fault("request", "The request is done and the connection breaks before the answer."),
    "hang": Fault("request", 'No answer for `{"seconds": 3600}`.'),
    "stream_cut": Fault("request", 'The log stream breaks after `{"events": 5}` events.'),
    "stream_end_unmarked": Fault(
        "request", 'The log stream ends cleanly after `{"events": 5}` events, without end mark.'
    ),
    "stream_silence": Fault("flag", "Log streams stay open and say nothing."),
    "upload_interrupted": Fault("request", 'A PUT answers 503 after `{"bytes": 1000}` bytes; the rest can be sent.'),
    "upload_error": Fault("request", 'A PUT answers `{"status": 500}`.'),
    "upload_reset": Fault("request", 'A PUT breaks after `{"bytes": 1000}` bytes.'),
    "dataset_stuck": Fault("flag", "Dataset versions stay in processing."),
    "dataset_failed": Fault("request", "The next dataset versions end in FAILED."),
    "dataset_denied": Fault("request", "CreateDatasetVersion answers 403."),
    "quota_used_h": Fault("number", "GPU hours already used this week."),
    "quota_unreadable": Fault("flag", "The quota answer has no GPU row."),
}
"""Every fault; docs/embedded-kaggle.md holds the same table."""


class UnknownFault(ValueError):
    """Raised for a fault that FAULTS does not name, or a value that it does not take."""


class Faults:
    """The faults that are set; each `take` counts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def set(self, name: str, value: Any) -> None:
        """Set one fault. Raises UnknownFault."""
        checked = _checked(name, value)
        times = checked.get("times", 1) if isinstance(checked, dict) else None
        skip = checked.get("skip", 0) if isinstance(checked, dict) else 0
        with self._store.transaction():
            self._store.execute("DELETE FROM faults WHERE name = ?", name)
            self._store.insert(
                "faults", name=name, value=json.dumps(checked), skip=skip, times=times, set_at=time.time()
            )

    def clear(self) -> None:
        """Unset all."""
        self._store.execute("DELETE FROM faults")

    def all(self) -> dict[str, Any]:
        """What is set, with what is left of it."""
        return {row["name"]: json.loads(row["value"]) | _left(row) for row in self._rows() if _is_request(row)} | {
            row["name"]: json.loads(row["value"]) for row in self._rows() if not _is_request(row)
        }

    def value(self, name: str) -> Any:
        """Value of a number, text or flag fault; None when it is not set."""
        row = self._store.row("SELECT value FROM faults WHERE name = ?", name)
        return None if row is None else json.loads(row["value"])

    def take(self, name: str, method: str) -> dict[str, Any] | None:
        """The value of a request fault if it strikes this request of `method`, which it then has done once more."""
        with self._lock, self._store.transaction():
            row = self._store.row("SELECT * FROM faults WHERE name = ?", name)
            if row is None:
                return None
            value: dict[str, Any] = json.loads(row["value"])
            if value.get("method", "*") not in ("*", method):
                return None
            if row["skip"] > 0:
                self._store.execute("UPDATE faults SET skip = skip - 1 WHERE name = ?", name)
                return None
            if row["times"] <= 1:
                self._store.execute("DELETE FROM faults WHERE name = ?", name)
            else:
                self._store.execute("UPDATE faults SET times = times - 1 WHERE name = ?", name)
            return value

    def _rows(self) -> list[Any]:
        return self._store.rows("SELECT * FROM faults ORDER BY name")


def _is_request(row: Any) -> bool:
    return FAULTS[row["name"]].kind == "request"


def _left(row: Any) -> dict[str, Any]:
    return {"times": row["times"], "skip": row["skip"]}


def _checked(name: str, value: Any) -> Any:
    if name not in FAULTS:
        raise UnknownFault(f"unknown fault {name!r}; the faults are: {', '.join(FAULTS)}")
    kind = FAULTS[name].kind
    if kind == "request":
        if isinstance(value, bool) and value:
            value = {}
        if not isinstance(value, dict):
            raise UnknownFault(
                f'fault {name} takes an object such as {{"method": "SaveKernel", "times": 1}}; got {value!r}'
            )
        for key, content in value.items():
            if key in ("times", "skip", "status", "bytes", "events") and (
                not isinstance(content, int) or isinstance(content, bool) or content < 0
            ):
                raise UnknownFault(f"fault {name}: {key} is a whole number of 0 or more; got {content!r}")
        if value.get("times", 1) < 1:
            raise UnknownFault(f"fault {name}: times is at least 1")
        return value
    if kind == "number" and (not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0):
        raise UnknownFault(f"fault {name} takes a number of 0 or more; got {value!r}")
    if kind == "flag" and value is not True:
        raise UnknownFault(f"fault {name} takes true; got {value!r} (clear it with `kaglaunch local fault --clear`)")
    if kind == "text":
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            raise UnknownFault(f"fault {name} takes a regular expression; got {value!r} ({error})") from error
    return value
