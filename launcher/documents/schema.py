"""Which command prints which document, and what is made of that: the JSON Schemas and the tables of docs/json.md."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernel.contract import typed
from launcher.documents.comparison import Comparison
from launcher.documents.debug_prints import DebugPrints, FixedDebugPrints, RestoredFiles
from launcher.documents.local_kaggle import RunningLocalKaggle, StoppedLocalKaggle
from launcher.documents.machine import Health, QuotaLeft
from launcher.documents.printed import SCHEMA
from launcher.documents.pushes import Preflight, Proposed, Pushed
from launcher.documents.runs import FetchedCheckpoint, KnownRun, RemoteRun, RunReport, Standing
from launcher.documents.watching import AlertRaised, LoggedLine, LogTold, NoteSaid, StateTold, WatchBegan


@dataclass(frozen=True)
class Document:
    """What one command prints: an object, an array of objects, or one object a line."""

    command: str
    shape: str
    kinds: tuple[type, ...]
    """The dataclass of the object; several where their one literal field tells which of them it is."""
    has_events: bool = False
    """Whether events of the session, as docs/events.md lists them, come between those of `kinds`."""


def _object(command: str, *kinds: type) -> Document:
    return Document(command, "object", kinds)


def _array(command: str, kind: type) -> Document:
    return Document(command, "array", (kind,))


def _lines(command: str, *kinds: type, has_events: bool = False) -> Document:
    return Document(command, "lines", kinds, has_events)


DOCUMENTS: Mapping[str, Document] = {
    "push": _lines("kaglaunch push --json", Pushed),
    "push-dry-run": _object("kaglaunch push --dry-run --json", Proposed),
    "preflight": _object("kaglaunch preflight --json", Preflight),
    "runs": _array("kaglaunch runs --json", KnownRun),
    "runs-remote": _array("kaglaunch runs --remote --json", RemoteRun),
    "status": _object("kaglaunch status --json", Standing),
    "report": _object("kaglaunch report --json", RunReport),
    "quota": _object("kaglaunch quota --json", QuotaLeft),
    "logs": _lines("kaglaunch logs --json", LoggedLine),
    "watch": _lines("kaglaunch watch --json", WatchBegan, StateTold, LogTold, AlertRaised, NoteSaid, has_events=True),
    "fetch-checkpoints": _array("kaglaunch fetch-checkpoints --json", FetchedCheckpoint),
    "debug-prints": _object("kaglaunch debug-prints --json", DebugPrints),
    "debug-prints-fix": _object("kaglaunch debug-prints --fix --json", FixedDebugPrints),
    "debug-prints-restore": _object("kaglaunch debug-prints --restore --json", RestoredFiles),
    "evaluate": _object("kaglaunch evaluate --json", Comparison),
    "local-status": _object("kaglaunch local status --json", RunningLocalKaggle, StoppedLocalKaggle),
    "doctor": _object("kaglaunch doctor --json", Health),
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what one command prints; of one line for those that print lines."""
    document = DOCUMENTS[name]
    kinds = [_marked(kind) for kind in document.kinds]
    if document.has_events:
        kinds.append(_event(document.kinds))
    one = kinds[0] if len(kinds) == 1 else {"oneOf": kinds}
    return {"type": "array", "items": one} if document.shape == "array" else one


def page() -> Iterator[str]:
    """Lines of the tables of docs/json.md."""
    prints = {"object": "One object", "array": "An array of objects", "lines": "One object a line"}
    for name, document in DOCUMENTS.items():
        of_these = ", one of these" if len(document.kinds) > 1 else ""
        or_event = ", or an [event](events.md) of the session" if document.has_events else ""
        yield from (f"## {name}", "", f"`{document.command}`. {prints[document.shape]}{of_these}{or_event}.", "")
        for kind in document.kinds:
            if of_these:
                yield from ((kind.__doc__ or "").strip(), "")
            yield from _described(kind)


def _marked(kind: type) -> dict[str, Any]:
    schema = typed.json_schema(kind)
    schema["properties"]["schema"] = {"const": SCHEMA}
    schema["required"] = [*schema["required"], "schema"]
    return schema


def _event(others: tuple[type, ...]) -> dict[str, Any]:
    """Any event of a session, of whatever version: none of `others`, which have the same field for their names."""
    taken = [name for kind in others for name in typing.get_args(typed.hints_of(kind)["event"])]
    return {
        "type": "object",
        "properties": {
            "event": {"type": "string", "not": {"enum": taken}},
            "schema": {"type": "integer"},
            "time": {"type": ["number", "null"]},
        },
        "required": ["event", "schema", "time"],
    }


def _described(cls: type) -> Iterator[str]:
    """The table of a class, and those of the classes that its fields hold."""
    hints, meanings = typed.hints_of(cls), typed.field_docs(cls)
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, hint in hints.items():
        yield f"| `{name}` | {typed.type_words(hint)} | {' '.join(meanings[name].split())} |"
    yield ""
    for name, hint in hints.items():
        for held in filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))):
            assert isinstance(held, type)
            many = typing.get_origin(hint) in (tuple, Mapping)
            yield from (f"Each of `{name}`:" if many else f"`{name}`:", "")
            yield from _described(held)
