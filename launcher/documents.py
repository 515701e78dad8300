"""What `--json` prints: a frozen dataclass a document, from which docs/json.md and the JSON Schemas are made.

A command prints the `plain` of the very value that its class describes. A field is never taken away or given another
meaning without a new SCHEMA; new ones may come.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel.contract import typed
from kernel.contract.checks import Check, Verdict

SCHEMA = 1
NUMBER, INTEGER, TEXT, FLAG, OBJECT, ARRAY = "number", "integer", "string", "boolean", "object", "array"
OPTIONAL_INTEGER = "integer or null"


@dataclass(frozen=True)
class Kernel:
    """The kernel that a push starts."""

    id: str
    """owner/slug."""
    title: str
    """Its title, which is the slug."""
    is_private: bool
    """Always true."""
    enable_internet: bool
    """Always true: checkpoints leave by it."""
    accelerator: str | None
    """Machine shape; null for a CPU session."""
    session_timeout_s: int
    """Session limit that the platform is told [s]."""
    dataset_sources: tuple[str, ...]
    """owner/slug of each dataset that is mounted."""


@dataclass(frozen=True)
class Preflight:
    """The checklist of a push."""

    blocked: bool
    """Whether a check failed that was not waived."""
    checks: tuple[Check, ...]
    """Every check: see preflight.md."""
    waived: tuple[str, ...]
    """Names that were waived."""
    plan: Mapping[str, Any] | None
    """Hours, sessions and what they rest on; null where the speed is not known."""
    measured: Mapping[str, Any]
    """What the trial measured; empty where there was none."""


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """Exactly what a push sends, where each value came from and what was checked."""

    target: str
    """kaggle or local."""
    kernel: Kernel
    """What is started."""
    dataset: str
    """owner/slug that takes the checkpoints."""
    script_bytes: int
    """Size of the kernel script."""
    script_sha256: str
    """Its digest."""
    code_sha256: str
    """Digest of its members without the configuration."""
    files: Mapping[str, int]
    """Every member and its size in bytes."""
    left_out: tuple[str, ...]
    """Files that were not packed because their names say credentials."""
    configuration: Mapping[str, Any]
    """Section, key, `value` and its `source`: flag, environment, the file, --quick or default."""
    sent: Mapping[str, Any]
    """What the kernel is told."""
    preflight: Preflight
    """As `kaglaunch preflight --json` prints it."""

    def pushed(self, run_id: str, page: str) -> Pushed:
        """The same once it was pushed, as session 1 of `run_id`, to be seen at `page`."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Pushed(**own, run_id=run_id, session=1, page=page)


@dataclass(frozen=True, kw_only=True)
class Pushed(Proposed):
    """What was pushed."""

    run_id: str
    """Name of the run."""
    session: int
    """1."""
    page: str
    """Address of the kernel's page."""


@dataclass(frozen=True)
class KnownRun:
    """One run of this machine's."""

    run_id: str
    """Name of the run."""
    target: str
    """Where it was pushed: kaggle or local."""
    age_s: int
    """Seconds since it was pushed."""
    sessions: int
    """How many sessions it has had."""
    safe_timesteps: int
    """Furthest timestep that is safe."""
    total_timesteps: int
    """Timesteps of the whole run."""
    at_risk_timesteps: int | None
    """Done and not safe while its newest session lives; null where that is not known."""
    state: str
    """How its newest session stands, in words."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    folder: str
    """Folder of its scripts, logs and checkpoints."""
    note: str
    """What its owner wrote down about it."""
    tags: tuple[str, ...]
    """Words that its owner finds it by."""


@dataclass(frozen=True)
class RemoteRun:
    """One run that only the target knows."""

    run_id: str
    """Name of a run that only the target knows."""
    sessions: tuple[int, ...]
    """Numbers of its sessions that have a kernel there."""
    dataset: bool
    """Whether it has a dataset of checkpoints."""
    known: bool
    """False: this machine does not know it."""


@dataclass(frozen=True)
class Relay:
    """What a run's relay is about."""

    state: str
    """`on` until it has ended."""
    note: str
    """What it was about, or why it ended, in words."""
    process: int | None
    """The process that is at it; null where none is."""


@dataclass(frozen=True)
class Standing:
    """Where the newest session of a run stands."""

    run_id: str
    """Name of the run."""
    session: int
    """Number of its newest session."""
    target: str
    """Where that session runs: kaggle, local or here."""
    slug: str
    """Its kernel."""
    code_digest: str
    """sha256 of what it runs; empty where nobody here knows."""
    config_digest: str
    """sha256 of its configuration."""
    status: str
    """The platform's word, or NOT_FOUND."""
    message: str
    """What the platform says of a failure; empty without one."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    total_timesteps: int
    """Timesteps of the whole run."""
    done_timesteps: int | None
    """Furthest timestep that was seen; null where nobody can know."""
    safe_timesteps: int
    """Furthest timestep of the run that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while the session lives; null where that is not known."""
    steps_per_s: float | None
    """Speed that its log told; null where it was not read."""
    to_go_s: int | None
    """Time that the rest of the run takes [s]; null where it is not known."""
    published_age_s: int | None
    """Seconds since the newest dataset version was made; null where there is none or nobody told."""
    quota_used_h: float | None
    """GPU hours used this week; null for a CPU session, or where nobody told."""
    quota_left_h: float | None
    """GPU hours that are left of this week's."""
    relay: Relay | None
    """The run's relay; null without one."""


@dataclass(frozen=True)
class SessionReport:
    """One session of a run, in timesteps."""

    session: int
    """Number of the session in its run, from 1."""
    slug: str
    """Its kernel."""
    device: str
    """Device that it trains on; before its log told, the one that was asked for."""
    target: str
    """Where it ran: kaggle, local or here."""
    status: str
    """The platform's last known state; empty before it was asked."""
    result: str
    """The kernel's own word; empty without one."""
    from_timesteps: int
    """Timestep that it started from."""
    done_timesteps: int | None
    """Furthest timestep that was seen; null where nobody can know."""
    published_timesteps: int
    """Furthest timestep that is safe."""
    safe_timesteps: int
    """Furthest timestep that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while the session lives, 0 after its end; null where that is not known."""
    lost_timesteps: int | None
    """Done and not safe at its end; null while it lives, and where nobody followed it to its end."""
    live: bool
    """Whether it waits or runs, as last seen."""
    seen_at: str | None
    """When state and published timesteps were last seen, ISO 8601; null before that."""
    bound: str
    """The most that a kill of it can cost."""
    ended: str
    """How it ended, or how it stands, in words."""


@dataclass(frozen=True)
class RunReport:
    """What a run has done, what is safe, and what a kill has cost."""

    run_id: str
    """Name of the run."""
    target: str
    """Where it was pushed."""
    total_timesteps: int
    """Timesteps of the whole run."""
    safe_timesteps: int
    """Furthest timestep that is published, or fetched and verified."""
    at_risk_timesteps: int | None
    """Done and not safe while its newest session lives; null where that is not known."""
    finished: bool
    """Whether all timesteps are done and safe."""
    as_of: str
    """When all of this was last seen to be so, ISO 8601."""
    seen_age_s: int
    """Seconds since then; 0 where the target answered."""
    unanswered: str
    """Why the target did not answer; empty where it did, or need not be asked."""
    note: str
    """What its owner wrote down about it."""
    tags: tuple[str, ...]
    """Words that its owner finds it by."""
    sessions: tuple[SessionReport, ...]
    """Its sessions, first to last."""


@dataclass(frozen=True)
class QuotaLeft:
    """GPU hours of this week."""

    target: str
    """Who was asked."""
    used_h: float
    """GPU hours used this week."""
    reserved_h: float
    """GPU hours that running sessions may still use."""
    allowed_h: float
    """GPU hours of a week."""
    left_h: float
    """GPU hours that a new session can count on."""
    refresh: str | None
    """When the week begins anew, ISO 8601; null where it is not told."""


@dataclass(frozen=True)
class LoggedLine:
    """One line of a session's log."""

    time: float
    """Seconds since the session began."""
    stream: str
    """stdout or stderr."""
    text: str
    """The line."""


@dataclass(frozen=True)
class FetchedCheckpoint:
    """One checkpoint, brought here or found here."""

    num_timesteps: int
    """Timestep of the checkpoint."""
    origin: str
    """Where it came from."""
    path: str | None
    """The file; null where none verified."""
    size: int
    """Bytes."""
    verdict: str
    """verified, or what is wrong with it."""
    metrics: Mapping[str, Any]
    """Training metrics that its manifest holds."""


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` looked at."""

    name: str
    """What was looked at."""
    verdict: Verdict
    """PASS, WARN or FAIL."""
    found: str
    """The evidence."""
    evidence: str
    """The same, by the name that checks of a push have for it."""
    fix: str
    """What to do about it; empty for a PASS."""


@dataclass(frozen=True)
class Health:
    """Whether this machine can launch."""

    healthy: bool
    """Whether no check failed."""
    checks: tuple[Finding, ...]
    """What was looked at."""


@dataclass(frozen=True)
class Document:
    """What one command prints: an object, an array of objects, or one object a line."""

    command: str
    shape: str
    value: type | None = None
    """The dataclass of the object; None where `fields` stand for it."""
    fields: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Field -> its type and its meaning."""
    inner: Mapping[str, Mapping[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)
    """Array field -> the fields of its objects."""
    open: bool = False
    """Whether further fields follow, which another page lists."""


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
    "push": Document("kaglaunch push --json", "lines", Pushed),
    "push-dry-run": Document("kaglaunch push --dry-run --json", "object", Proposed),
    "preflight": Document("kaglaunch preflight --json", "object", Preflight),
    "runs": Document("kaglaunch runs --json", "array", KnownRun),
    "runs-remote": Document("kaglaunch runs --remote --json", "array", RemoteRun),
    "status": Document("kaglaunch status --json", "object", Standing),
    "report": Document("kaglaunch report --json", "object", RunReport),
    "quota": Document("kaglaunch quota --json", "object", QuotaLeft),
    "logs": Document("kaglaunch logs --json", "lines", LoggedLine),
    "watch": Document(
        "kaglaunch watch --json",
        "lines",
        fields={"event": (TEXT, "watch, state, log, alert, note, or an event of the session: see events.md")},
        open=True,
    ),
    "fetch-checkpoints": Document("kaglaunch fetch-checkpoints --json", "array", FetchedCheckpoint),
    "debug-prints": Document(
        "kaglaunch debug-prints --json",
        "object",
        fields={
            "files": (INTEGER, "how many were looked into"),
            "findings": (ARRAY, "unconditional debug output"),
            "skipped": (ARRAY, "files that cannot be read as Python"),
        },
        inner={"findings": _FINDING, "skipped": _SKIPPED},
    ),
    "debug-prints-fix": Document(
        "kaglaunch debug-prints --fix --json",
        "object",
        fields={
            "findings": (ARRAY, "what was found, and what became of each"),
            "skipped": (ARRAY, "files that cannot be read as Python"),
            "written": (ARRAY, "files that were rewritten"),
        },
        inner={
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
        fields={
            "restored": (ARRAY, "files that are as before, byte for byte"),
            "refused": (ARRAY, "files that are not"),
        },
        inner={"refused": _SKIPPED},
    ),
    "evaluate": Document(
        "kaglaunch evaluate --json",
        "object",
        fields={
            "scenario": (TEXT, "what was simulated"),
            "demand": (TEXT, "its demand profile"),
            "seeds": (ARRAY, "demand seeds of the episodes, the same for all"),
            "baseline": (TEXT, "the controller that differences are taken to: the first"),
            "figures": (OBJECT, "figure -> its meaning and unit"),
            "controllers": (ARRAY, "what was compared, in the order asked for, agents last"),
        },
        inner={
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
        fields={
            "running": (
                FLAG,
                "whether it runs; if so its settings, sessions, quota, datasets and faults follow",
            )
        },
        open=True,
    ),
    "doctor": Document("kaglaunch doctor --json", "object", Health),
}


def text(value: Any) -> str:
    """A document, or several, as a command prints it: with the schema's number, in plain ASCII."""
    many = isinstance(value, Sequence)
    return json.dumps([_marked(one) for one in value] if many else _marked(value), indent=2)


def line(value: Any) -> str:
    """A document as one line of a command that prints one object a line."""
    return json.dumps(_marked(value))


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what one command prints; of one line for those that print lines."""
    document = DOCUMENTS[name]
    one = typed.json_schema(document.value) if document.value else _object(document)
    one["properties"]["schema"] = {"const": SCHEMA}
    one["required"] = [*one["required"], "schema"]
    return {"type": "array", "items": one} if document.shape == "array" else one


def page() -> Iterator[str]:
    """Lines of the tables of docs/json.md."""
    for name, document in DOCUMENTS.items():
        prints = {"object": "One object.", "array": "An array of objects.", "lines": "One object a line."}
        yield from (f"## {name}", "", f"`{document.command}`. {prints[document.shape]}", "")
        if document.value:
            yield from _described(document.value)
            continue
        yield from _table(document.fields)
        for field, fields in document.inner.items():
            yield from (f"Each of `{field}`:", "")
            yield from _table(fields)


def _described(cls: type) -> Iterator[str]:
    """The table of a class, and those of the classes that its fields hold."""
    hints, meanings = typed.hints_of(cls), typed.field_docs(cls)
    yield from _table({name: (typed.type_words(hint), meanings[name]) for name, hint in hints.items()})
    for name, hint in hints.items():
        for held in filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))):
            assert isinstance(held, type)
            yield from (f"Each of `{name}`:" if typing.get_origin(hint) is tuple else f"`{name}`:", "")
            yield from _described(held)


def _table(fields: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, (kind, meaning) in fields.items():
        yield f"| `{name}` | {kind} | {' '.join(meaning.split())} |"
    yield ""


def _marked(value: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, **typed.plain(value)}


def _object(document: Document) -> dict[str, Any]:
    schema = _bare(document.fields, is_open=document.open)
    for name, fields in document.inner.items():
        schema["properties"][name] = {"type": "array", "items": _bare(fields)}
    return schema


def _bare(fields: Mapping[str, tuple[str, str]], *, is_open: bool = False) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind.split(" or ")} for name, (kind, _) in fields.items()},
        "required": list(fields),
        "additionalProperties": is_open,
    }
