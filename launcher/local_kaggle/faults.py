"""Faults that can be ordered: one table of what there is, and the rules that are set now.

A rule belongs to one kind, has its kind's fields, and works a counted number of times (`times`, null: until it is
cleared) after letting `skip` occasions pass. No chance is involved: the same orders give the same failures.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from launcher.local_kaggle.store import Store

ANY_METHOD = "*"


@dataclass(frozen=True)
class Kind:
    """One kind of fault. A bare value sets the first field; an object sets several; a list sets several rules."""

    name: str
    does: str
    fields: dict[str, Any]
    """Field -> default. None: must be given."""
    times: int | None
    """How often a rule works unless it says so itself; None: until cleared."""
    example: Any


KINDS: tuple[Kind, ...] = (
    Kind(
        "session_limit_at_log",
        "A session reaches its hard time limit the moment its log has a line that matches.",
        {"pattern": None},
        1,
        "checkpoint .*300",
    ),
    Kind("session_limit_s", "No session may run longer than this [s].", {"seconds": None}, None, 30),
    Kind(
        "out_of_memory_at_log",
        "A session is killed for memory (ERROR) the moment its log has a line that matches.",
        {"pattern": None},
        1,
        "episode 5",
    ),
    Kind(
        "machine_lost_at_log",
        "A session and all of its processes vanish, without an exit status, when its log has a line that matches.",
        {"pattern": None},
        1,
        "episode 5",
    ),
    Kind("exit_nonzero_keeps_outputs", "A session that ends in ERROR keeps its outputs.", {"on": True}, None, True),
    Kind("keep_log_on_limit", "A session that is cut off or cancelled keeps its log.", {"on": True}, None, True),
    Kind(
        "http_error",
        "A request is answered with `status` and not carried out; as JSON, as HTML (`html`), or in the form of "
        "Google's front end (`google`); `retry_after` [s] adds that header.",
        {"method": ANY_METHOD, "status": 500, "retry_after": 0, "html": False, "google": False, "message": ""},
        1,
        {"method": "SaveKernel", "status": 429, "retry_after": 2, "times": 3},
    ),
    Kind(
        "connection_reset",
        "The connection is reset before the request is carried out.",
        {"method": ANY_METHOD},
        1,
        {"method": "GetKernelSessionStatus"},
    ),
    Kind(
        "answer_lost",
        "A request is carried out; then the connection is reset instead of answered.",
        {"method": ANY_METHOD},
        1,
        {"method": "SaveKernel"},
    ),
    Kind(
        "hang",
        "A request gets no answer for as long as its connection stays open.",
        {"method": ANY_METHOD},
        1,
        {"method": "ListKernelSessionOutput"},
    ),
    Kind("stream_cut", "A log stream is reset after this many events.", {"events": 0}, 1, {"events": 5, "times": 2}),
    Kind(
        "stream_end_unmarked",
        "A log stream is closed cleanly, without its end mark, after this many events.",
        {"events": 0},
        1,
        {"events": 5},
    ),
    Kind(
        "stream_silence",
        "A log stream says nothing more, not even heartbeats, after this many events.",
        {"events": 0},
        1,
        {"events": 5},
    ),
    Kind(
        "upload_interrupted",
        "A PUT is answered 503 once this many of its bytes have arrived; the rest can be sent.",
        {"bytes": 0},
        1,
        {"bytes": 100000},
    ),
    Kind("upload_error", "A PUT is answered with this status.", {"status": 500}, 1, {"status": 404}),
    Kind(
        "upload_reset",
        "The connection of a PUT is reset once this many of its bytes have arrived.",
        {"bytes": 0},
        1,
        {"bytes": 100000},
    ),
    Kind(
        "download_cut",
        "The download of a file whose name matches is reset once this many of its bytes have gone.",
        {"bytes": 0, "pattern": ""},
        1,
        {"bytes": 100000, "pattern": "checkpoint_"},
    ),
    Kind(
        "download_wrong",
        "The download of a file whose name matches has this byte altered.",
        {"bytes": 0, "pattern": ""},
        1,
        {"bytes": 5000, "pattern": "chunk_"},
    ),
    Kind("dataset_stuck", "Dataset versions stay where they are in their processing.", {"on": True}, None, True),
    Kind("dataset_failed", "The next dataset version to be processed ends FAILED.", {"on": True}, 1, {"times": 2}),
    Kind(
        "dataset_denied",
        "CreateDatasetVersion answers 403 Permission 'datasets.update' was denied.",
        {"on": True},
        1,
        {"times": 3},
    ),
    Kind(
        "quota_used_h",
        "This many GPU hours count as used this week, besides the sessions'.",
        {"hours": None},
        None,
        28.5,
    ),
    Kind("quota_unreadable", "The quota answer has no GPU row.", {"on": True}, None, True),
    Kind("token_inactive", "IntrospectToken calls the token inactive.", {"on": True}, 1, {"times": 2}),
    Kind(
        "api_version",
        "Every answer names this newer version of the client, which makes clients warn.",
        {"version": None},
        None,
        "99.0.0",
    ),
)

BY_NAME = {kind.name: kind for kind in KINDS}


def parse(name: str, value: Any) -> list[dict[str, Any]]:
    """The rules that `value` orders, every field filled in, with `times` and `skip`.

    Raises ValueError that names what is known.
    """
    if name not in BY_NAME:
        raise ValueError(f"unknown fault {name!r}; the faults are: {', '.join(sorted(BY_NAME))}")
    kind = BY_NAME[name]
    if isinstance(value, list):
        return [rule for one in value for rule in parse(name, one)]
    rule = {**kind.fields, "times": kind.times, "skip": 0}
    given = value if isinstance(value, dict) else {next(iter(kind.fields)): value}
    for key, one in given.items():
        if key not in rule:
            raise ValueError(f"fault {name!r} has no field {key!r}; its fields are: {', '.join(rule)}")
        rule[key] = one
    missing = [key for key in kind.fields if rule[key] is None]
    if missing:
        raise ValueError(f"fault {name!r} needs {', '.join(missing)}; for example {json.dumps(kind.example)}")
    _check(name, rule)
    return [rule]


def _check(name: str, rule: dict[str, Any]) -> None:
    for key in ("seconds", "hours", "status", "retry_after", "events", "bytes", "skip", "times"):
        if rule.get(key) is None:
            continue
        try:
            number = float(rule[key])
        except (TypeError, ValueError):
            raise ValueError(f"fault {name!r}: {key} takes a number, got {rule[key]!r}") from None
        if number < 0:
            raise ValueError(f"fault {name!r}: {key} takes a number >= 0, got {rule[key]!r}")
        rule[key] = number if key in ("seconds", "hours") else int(number)
    if "pattern" in rule:
        try:
            re.compile(rule["pattern"])
        except (re.error, TypeError) as error:
            raise ValueError(f"fault {name!r}: {rule['pattern']!r} is no regular expression: {error}") from None


class Faults:
    """The rules that are set, kept in the store: they survive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def set(self, name: str, value: Any, now: float) -> None:
        """Replace the rules of `name`. Raises ValueError."""
        rules = parse(name, value)
        with self._store.transaction():
            self._store.execute("DELETE FROM faults WHERE name = ?", name)
            for rule in rules:
                times, skip = rule.pop("times"), rule.pop("skip")
                self._store.insert("faults", name=name, value=json.dumps(rule), times=times, skip=skip, set_at=now)

    def clear(self, name: str | None = None) -> None:
        if name is None:
            self._store.execute("DELETE FROM faults")
        else:
            self._store.execute("DELETE FROM faults WHERE name = ?", name)

    def listing(self) -> dict[str, list[dict[str, Any]]]:
        """name -> its rules, each with its fields, `times` (left; null: until cleared), `skip` and `taken`."""
        out: dict[str, list[dict[str, Any]]] = {}
        for row in self._store.rows("SELECT * FROM faults ORDER BY id"):
            rule = {**json.loads(row["value"]), "times": row["times"], "skip": row["skip"], "taken": row["taken"]}
            out.setdefault(row["name"], []).append(rule)
        return out

    def peek(self, name: str) -> dict[str, Any] | None:
        """The first rule of `name` that would work now, uncounted; with its `set_at`."""
        row = self._store.row(
            "SELECT * FROM faults WHERE name = ? AND skip = 0 AND (times IS NULL OR times > 0) ORDER BY id", name
        )
        return None if row is None else {**json.loads(row["value"]), "set_at": row["set_at"]}

    def take(self, name: str, method: str | None = None, file: str | None = None) -> dict[str, Any] | None:
        """Use up one occasion of `name` (for `method`, for `file`): the rule if it works this time, else None."""
        if self._store.row("SELECT 1 FROM faults WHERE name = ?", name) is None:
            return None
        with self._store.transaction():
            for row in self._store.rows("SELECT * FROM faults WHERE name = ? ORDER BY id", name):
                rule: dict[str, Any] = json.loads(row["value"])
                if method is not None and rule["method"] not in (ANY_METHOD, method):
                    continue
                if file is not None and not re.search(rule["pattern"], file):
                    continue
                if row["times"] == 0:
                    continue
                if row["skip"] > 0:
                    self._store.execute("UPDATE faults SET skip = skip - 1 WHERE id = ?", row["id"])
                    continue
                self._store.execute("UPDATE faults SET times = times - 1, taken = taken + 1 WHERE id = ?", row["id"])
                return rule
        return None
