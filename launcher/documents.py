"""What `--json` prints: one table of documents and fields, from which docs/json.md and the JSON Schemas are made.

A field is never taken away or given another meaning without a new SCHEMA; new ones may come.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1
NUMBER, INTEGER, TEXT, FLAG, OBJECT, ARRAY = "number", "integer", "string", "boolean", "object", "array"
OPTIONAL_TEXT, OPTIONAL_INTEGER, OPTIONAL_OBJECT = "string or null", "integer or null", "object or null"


@dataclass(frozen=True)
class Document:
    """What one command prints: an object, an array of objects, or one object a line."""

    command: str
    shape: str
    fields: Mapping[str, tuple[str, str]]
    """Field -> its type and its meaning."""
    inner: Mapping[str, Mapping[str, tuple[str, str]]] | None = None
    """Array field -> the fields of its objects."""
    open: bool = False
    """Whether further fields follow, which another page lists."""


_SESSION = {
    "session": (INTEGER, "number of the session in its run, from 1"),
    "slug": (TEXT, "its kernel"),
    "device": (TEXT, "device that it trains on; before its log told, the one that was asked for"),
    "target": (TEXT, "where it ran: kaggle, local or here"),
    "status": (TEXT, "the platform's last known state; empty before it was asked"),
    "result": (TEXT, "the kernel's own word; empty without one"),
    "from_timesteps": (INTEGER, "timestep that it started from"),
    "done_timesteps": (OPTIONAL_INTEGER, "furthest timestep that its log told; null where nobody can know"),
    "published_timesteps": (INTEGER, "furthest timestep that is safe"),
    "lost_timesteps": (OPTIONAL_INTEGER, "done less published at its end; null where nobody can know"),
    "bound": (TEXT, "the most that a kill of it can cost"),
    "ended": (TEXT, "how it ended, in words"),
}

_CHECK = {
    "name": (TEXT, "name of the check, as `--waive` takes it"),
    "verdict": (TEXT, "PASS, WARN or FAIL"),
    "evidence": (TEXT, "what was found"),
    "fix": (TEXT, "what to do about it; empty for a PASS"),
}
_PREFLIGHT = {
    "blocked": (FLAG, "whether a check failed that was not waived"),
    "checks": (ARRAY, "every check: see preflight.md"),
    "waived": (ARRAY, "names that were waived"),
    "plan": (OPTIONAL_OBJECT, "hours, sessions and what they rest on; null where the speed is not known"),
    "measured": (OBJECT, "what the trial measured; empty where there was none"),
}
_PUSH = {
    "target": (TEXT, "kaggle or local"),
    "kernel": (OBJECT, "`id`, `title`, `is_private`, `enable_internet`, `accelerator`, `session_timeout_s`, sources"),
    "dataset": (TEXT, "owner/slug that takes the checkpoints"),
    "script_bytes": (INTEGER, "size of the kernel script"),
    "script_sha256": (TEXT, "its digest"),
    "code_sha256": (TEXT, "digest of its members without the configuration"),
    "files": (OBJECT, "every member and its size in bytes"),
    "left_out": (ARRAY, "files that were not packed because their names say credentials"),
    "configuration": (
        OBJECT,
        "section, key, `value` and its `source`: flag, environment, the file, --quick or default",
    ),
    "sent": (OBJECT, "what the kernel is told"),
    "preflight": (OBJECT, "as `kaglaunch preflight --json` prints it"),
}

_SKIPPED = {"path": (TEXT, "the file"), "reason": (TEXT, "why")}
_FINDING = {
    "path": (TEXT, "the file"),
    "line": (INTEGER, "where the call begins"),
    "rule": (TEXT, "why it is one: see debug-prints.md"),
    "text": (TEXT, "the first line of the call"),
    "lines": (INTEGER, "lines of output for each `per`"),
    "per": (TEXT, "timestep, episode, iteration, call, thread or import"),
    "at_least": (FLAG, "whether more may come"),
    "at_most": (FLAG, "whether a condition on data may hold it back"),
    "lines_per_timestep": (OPTIONAL_INTEGER, "the estimate; null where nothing ties it to timesteps"),
    "basis": (TEXT, "what the estimate rests on"),
    "compiled": (FLAG, "whether it stands in jitted code"),
}

DOCUMENTS: Mapping[str, Document] = {
    "push": Document(
        "kaglaunch push --json",
        "lines",
        {
            "run_id": (TEXT, "name of the run"),
            "session": (INTEGER, "1"),
            "page": (TEXT, "address of the kernel's page"),
            **_PUSH,
        },
    ),
    "push-dry-run": Document("kaglaunch push --dry-run --json", "object", _PUSH),
    "preflight": Document("kaglaunch preflight --json", "object", _PREFLIGHT, {"checks": _CHECK}),
    "runs": Document(
        "kaglaunch runs --json",
        "array",
        {
            "run_id": (TEXT, "name of the run"),
            "target": (TEXT, "where it was pushed: kaggle or local"),
            "age_s": (INTEGER, "seconds since it was pushed"),
            "sessions": (INTEGER, "how many sessions it has had"),
            "safe_timesteps": (INTEGER, "furthest timestep that is safe"),
            "total_timesteps": (INTEGER, "timesteps of the whole run"),
            "state": (TEXT, "how its newest session stands, in words"),
            "folder": (TEXT, "folder of its scripts, logs and checkpoints"),
        },
    ),
    "runs-remote": Document(
        "kaglaunch runs --remote --json",
        "array",
        {
            "run_id": (TEXT, "name of a run that only the target knows"),
            "sessions": (ARRAY, "numbers of its sessions that have a kernel there"),
            "dataset": (FLAG, "whether it has a dataset of checkpoints"),
            "known": (FLAG, "false: this machine does not know it"),
        },
    ),
    "status": Document(
        "kaglaunch status --json",
        "object",
        {
            "run_id": (TEXT, "name of the run"),
            "session": (INTEGER, "number of its newest session"),
            "target": (TEXT, "where that session runs: kaggle, local or here"),
            "slug": (TEXT, "its kernel"),
            "code_digest": (TEXT, "sha256 of what it runs; empty where nobody here knows"),
            "config_digest": (TEXT, "sha256 of its configuration"),
            "status": (TEXT, "the platform's word, or NOT_FOUND"),
            "message": (TEXT, "what the platform says of a failure; empty without one"),
            "relay": (OPTIONAL_OBJECT, "`state`, `note` and `process` of the run's relay; null without one"),
        },
    ),
    "report": Document(
        "kaglaunch report --json",
        "object",
        {
            "run_id": (TEXT, "name of the run"),
            "target": (TEXT, "where it was pushed"),
            "total_timesteps": (INTEGER, "timesteps of the whole run"),
            "sessions": (ARRAY, "its sessions, first to last"),
        },
        {"sessions": _SESSION},
    ),
    "quota": Document(
        "kaglaunch quota --json",
        "object",
        {
            "target": (TEXT, "who was asked"),
            "used_h": (NUMBER, "GPU hours used this week"),
            "reserved_h": (NUMBER, "GPU hours that running sessions may still use"),
            "allowed_h": (NUMBER, "GPU hours of a week"),
            "left_h": (NUMBER, "GPU hours that a new session can count on"),
            "refresh": (OPTIONAL_TEXT, "when the week begins anew, ISO 8601; null where it is not told"),
        },
    ),
    "logs": Document(
        "kaglaunch logs --json",
        "lines",
        {
            "time": (NUMBER, "seconds since the session began"),
            "stream": (TEXT, "stdout or stderr"),
            "text": (TEXT, "the line"),
        },
    ),
    "watch": Document(
        "kaglaunch watch --json",
        "lines",
        {"event": (TEXT, "watch, state, log, alert, note, or an event of the session: see events.md")},
        open=True,
    ),
    "fetch-checkpoints": Document(
        "kaglaunch fetch-checkpoints --json",
        "array",
        {
            "num_timesteps": (INTEGER, "timestep of the checkpoint"),
            "origin": (TEXT, "where it came from"),
            "path": (OPTIONAL_TEXT, "the file; null where none verified"),
            "size": (INTEGER, "bytes"),
            "verdict": (TEXT, "verified, or what is wrong with it"),
            "metrics": (OBJECT, "training metrics that its manifest holds"),
        },
    ),
    "debug-prints": Document(
        "kaglaunch debug-prints --json",
        "object",
        {
            "files": (INTEGER, "how many were looked into"),
            "findings": (ARRAY, "unconditional debug output"),
            "skipped": (ARRAY, "files that cannot be read as Python"),
        },
        {"findings": _FINDING, "skipped": _SKIPPED},
    ),
    "debug-prints-fix": Document(
        "kaglaunch debug-prints --fix --json",
        "object",
        {
            "findings": (ARRAY, "what was found, and what became of each"),
            "skipped": (ARRAY, "files that cannot be read as Python"),
            "written": (ARRAY, "files that were rewritten"),
        },
        {
            "findings": {
                **_FINDING,
                "done": (TEXT, "rewritten, removed or left"),
                "reason": (TEXT, "why it was left; empty otherwise"),
            },
            "skipped": _SKIPPED,
        },
    ),
    "debug-prints-restore": Document(
        "kaglaunch debug-prints --restore --json",
        "object",
        {"restored": (ARRAY, "files that are as before, byte for byte"), "refused": (ARRAY, "files that are not")},
        {"refused": _SKIPPED},
    ),
    "evaluate": Document(
        "kaglaunch evaluate --json",
        "object",
        {
            "scenario": (TEXT, "what was simulated"),
            "demand": (TEXT, "its demand profile"),
            "seeds": (ARRAY, "demand seeds of the episodes, the same for all"),
            "baseline": (TEXT, "the controller that differences are taken to: the first"),
            "figures": (OBJECT, "figure -> its meaning and unit"),
            "controllers": (ARRAY, "what was compared, in the order asked for, agents last"),
        },
        {
            "controllers": {
                "name": (TEXT, "the controller, or the agent's run and timestep"),
                "decision_interval_s": (INTEGER, "how often it decided"),
                "means": (OBJECT, "figure -> mean and half-width of its 95 % confidence interval"),
                "difference": (OBJECT, "figure -> the same of the paired difference to the baseline"),
                "episodes": (OBJECT, "figure -> its value in each episode"),
            }
        },
    ),
    "local-status": Document(
        "kaglaunch local status --json",
        "object",
        {
            "running": (
                FLAG,
                "whether it runs; if so its settings, sessions, quota, datasets and faults follow",
            )
        },
        open=True,
    ),
    "doctor": Document(
        "kaglaunch doctor --json",
        "object",
        {
            "healthy": (FLAG, "whether no check failed"),
            "checks": (ARRAY, "what was looked at"),
        },
        {
            "checks": {
                "name": (TEXT, "what was looked at"),
                "verdict": (TEXT, "PASS, WARN or FAIL"),
                "found": (TEXT, "the evidence"),
                "fix": (TEXT, "what to do about it; empty for a PASS"),
            }
        },
    ),
}


def text(value: dict[str, Any] | list[dict[str, Any]]) -> str:
    """`value` as a command prints it: with the schema's number, in plain ASCII."""
    marked = [_marked(one) for one in value] if isinstance(value, list) else _marked(value)
    return json.dumps(marked, indent=2)


def line(value: dict[str, Any]) -> str:
    """`value` as one line of a command that prints one object a line."""
    return json.dumps(_marked(value))


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what one command prints; of one line for those that print lines."""
    document = DOCUMENTS[name]
    one = _object(document.fields, document.inner or {}, document.open)
    return {"type": "array", "items": one} if document.shape == "array" else one


def page() -> Iterator[str]:
    """Lines of the tables of docs/json.md."""
    for name, document in DOCUMENTS.items():
        prints = {"object": "One object.", "array": "An array of objects.", "lines": "One object a line."}
        yield from (f"## {name}", "", f"`{document.command}`. {prints[document.shape]}", "")
        yield from _table(document.fields)
        for field, fields in (document.inner or {}).items():
            yield from (f"Each of `{field}`:", "")
            yield from _table(fields)


def _table(fields: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, (kind, meaning) in fields.items():
        yield f"| `{name}` | {kind} | {meaning} |"
    yield ""


def _marked(value: dict[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, **value}


def _object(
    fields: Mapping[str, tuple[str, str]], inner: Mapping[str, Mapping[str, tuple[str, str]]], is_open: bool
) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": kind.split(" or ")} for name, (kind, _) in fields.items()}
    for name, own in inner.items():
        properties[name] = {"type": "array", "items": _bare(own)}
    properties["schema"] = {"const": SCHEMA}
    return {
        "type": "object",
        "properties": properties,
        "required": [*fields, "schema"],
        "additionalProperties": is_open,
    }


def _bare(fields: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind.split(" or ")} for name, (kind, _) in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
