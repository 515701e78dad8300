"""What can go wrong between this machine and Kaggle, as a table: the tests try each row, docs/faults.md prints it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

PUSH = "kaglaunch push"
WATCH = "kaglaunch watch"
FETCH = "kaglaunch fetch-checkpoints"
STATUS = "kaglaunch status"
CANCEL = "kaglaunch cancel"
RUN = "RUN"

FINISHED = "Run RUN is finished: 100 of 100 timesteps."
UNKNOWN = "It was not pushed again. Type `kaglaunch watch` in a minute: it finds the session if it was taken."
NEVER_TAKEN = "it was not taken, and nothing was spent.\nPush it again."
RESUME = "Nothing published is lost: go on with `kaglaunch resume RUN`."
NOT_TAKEN = "was not taken; nothing was spent."
CREDENTIALS = "does not accept these credentials (401"


@dataclass(frozen=True)
class Fault:
    """One row: `faults` of the embedded Kaggle are set, `command` is typed, and this comes of it."""

    happens: str
    command: str
    code: int
    says: str
    faults: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Of the command."""
    sessions: int = 1
    """That the run has on the target in the end."""
    safe: tuple[int, ...] = ()
    """Timesteps of the checkpoints that lie here, verified, after a fetch."""
    around: str = ""
    """What the test does besides, by the name of its function there."""


def http(method: str, status: int, **more: Any) -> dict[str, Any]:
    """The fault that answers `method` with `status`."""
    return {"http_error": {"method": method, "status": status, **more}}


def pushed(happens: str, code: int, says: str, faults: dict[str, Any], sessions: int, **more: Any) -> Fault:
    """A fault of a push."""
    return Fault(happens, PUSH, code, says, faults, sessions=sessions, **more)


def watched(happens: str, code: int, says: str, faults: dict[str, Any], **more: Any) -> Fault:
    """A fault while a session is watched that published a checkpoint at timestep 50."""
    return Fault(happens, WATCH, code, says, faults, **{"safe": (50,), **more})


GPU = ("--device", "cuda", "--waive", "quota", "--waive", "session-slot")
CPU = ("--waive", "session-slot")
ALWAYS = {"times": 1000}
SAVE = "SaveKernel"
STATE = "GetKernelSessionStatus"

REFUSED: Sequence[Fault] = (
    pushed(
        "The weekly GPU quota is used up, and preflight sees it",
        3,
        "FAIL  quota",
        {"quota_used_h": 30},
        0,
        options=("--device", "cuda"),
    ),
    pushed(
        "The weekly GPU quota is used up, and only the push finds out",
        3,
        "Maximum weekly GPU quota of 30.00 hours reached.",
        {"quota_used_h": 30},
        0,
        options=GPU,
    ),
    pushed(
        "The quota cannot be read, which is not the same as used up",
        0,
        "The GPU quota cannot be read",
        {"quota_unreadable": True},
        1,
        options=("--device", "cuda"),
    ),
    pushed(
        "Two GPU sessions run already",
        3,
        "Maximum batch GPU session count of 2 reached.",
        {},
        0,
        options=GPU,
        around="two_gpu_sessions",
    ),
    pushed(
        "Five CPU sessions run already",
        3,
        "Maximum batch CPU session count of 5 reached.",
        {},
        0,
        options=CPU,
        around="five_cpu_sessions",
    ),
    pushed(
        "A refused push left an empty kernel, and it could not be removed then",
        0,
        "Pushed session 1 of run RUN",
        {},
        1,
        around="empty_shell",
    ),
)
ANSWERS: Sequence[Fault] = (
    pushed("The push is answered 400", 3, NOT_TAKEN, http(SAVE, 400), 0),
    pushed("The push is answered 401", 1, CREDENTIALS, http(SAVE, 401), 0),
    pushed("The push is answered 403", 3, NOT_TAKEN, http(SAVE, 403), 0),
    pushed("The push is answered 404", 3, NOT_TAKEN, http(SAVE, 404), 0),
    pushed("The push is answered 409", 3, NOT_TAKEN, http(SAVE, 409), 0),
    pushed("The push is answered 429 (JSON), then taken", 0, "Pushed session 1", http(SAVE, 429, retry_after=1), 1),
    pushed("The push is answered 429 (HTML), then taken", 0, "Pushed session 1", http(SAVE, 429, html=True), 1),
    pushed("The push is answered 429 for minutes", 1, "Try again in a while.", http(SAVE, 429, **ALWAYS), 0),
    pushed("The push is answered 500", 1, UNKNOWN, http(SAVE, 500), 0),
    pushed("The push is answered 503 (HTML)", 1, UNKNOWN, http(SAVE, 503, html=True), 0),
)
LOST: Sequence[Fault] = (
    pushed("The connection is reset before the push arrives", 1, UNKNOWN, {"connection_reset": {"method": SAVE}}, 0),
    pushed("A push is never answered", 1, UNKNOWN, {"hang": {"method": SAVE}}, 0),
    pushed("A push is taken and its answer is lost", 0, "Pushed session 1", {"answer_lost": {"method": SAVE}}, 1),
    pushed(
        "`watch` after a push that never arrived",
        1,
        NEVER_TAKEN,
        {"connection_reset": {"method": SAVE}},
        0,
        around="then_watch",
    ),
)
WATCHED: Sequence[Fault] = (
    watched("The log stream is cut 20 times", 0, FINISHED, {"stream_cut": [{"events": n + 1} for n in range(20)]}),
    watched(
        "The log stream is closed without its end mark, 5 times",
        0,
        FINISHED,
        {"stream_end_unmarked": {"events": 2, "times": 5}},
    ),
    watched("The log stream goes dead", 0, FINISHED, {"stream_silence": {"events": 3}}),
    watched(
        "The session says nothing for 30 minutes, then goes on",
        0,
        "WARN silent: no log line for",
        {},
        around="half_an_hour_of_silence",
    ),
    watched("The log stream is answered 429 (HTML), 3 times", 0, FINISHED, http("LogStream", 429, html=True, times=3)),
    watched("The log stream is answered 500, 3 times", 0, FINISHED, http("LogStream", 500, times=3)),
    watched("The status is answered 401", 1, CREDENTIALS, http(STATE, 401, **ALWAYS)),
    watched("The status is answered 403 for good", 1, "it is not taken for gone", http(STATE, 403, **ALWAYS)),
    watched("The status is answered 403, 3 times", 0, FINISHED, http(STATE, 403, times=3)),
    watched("The status is answered 404 twice", 0, FINISHED, http(STATE, 404, times=2)),
    watched("The status is answered 409 for good", 1, "answered 409", http(STATE, 409, **ALWAYS)),
    watched("The status is answered 429, 3 times", 0, FINISHED, http(STATE, 429, times=3)),
    watched("The status is answered 500, 3 times", 0, FINISHED, http(STATE, 500, times=3)),
    watched("The status is answered 503, 3 times", 0, FINISHED, http(STATE, 503, times=3, html=True)),
    watched(
        "The status connection is reset, 3 times", 0, FINISHED, {"connection_reset": {"method": STATE, "times": 3}}
    ),
    watched("A status request is never answered", 0, FINISHED, {"hang": {"method": STATE}}),
    watched("The server is killed and started again", 0, FINISHED, {}, around="killed_server"),
)
ENDS: Sequence[Fault] = (
    watched("The session is killed at its time limit", 6, RESUME, {"session_limit_at_log": '"num_timesteps": 70'}),
    watched("The session is killed for memory", 5, RESUME, {"out_of_memory_at_log": '"num_timesteps": 70'}),
    watched("The session's machine vanishes", 5, RESUME, {"machine_lost_at_log": '"num_timesteps": 70'}),
)
FETCHED: Sequence[Fault] = (
    Fault(
        "The newest dataset version is still processed",
        FETCH,
        0,
        "t50",
        safe=(50,),
        around="second_version_processing",
    ),
    Fault(
        "The newest dataset version failed in processing", FETCH, 0, "t50", safe=(50,), around="second_version_failed"
    ),
    Fault(
        "Two dataset versions are made at once",
        FETCH,
        0,
        "t100",
        options=("--all",),
        safe=(50, 75, 100),
        around="two_versions_at_once",
    ),
    Fault(
        "The download is cut 3 times",
        FETCH,
        0,
        "t50",
        {"download_cut": {"bytes": 700, "times": 3}},
        safe=(50,),
    ),
    Fault(
        "A byte of the newest checkpoint is altered on the way",
        FETCH,
        0,
        "t50",
        {"download_wrong": {"bytes": 700, "pattern": "checkpoint_t100.*zip", "times": 1000}},
        safe=(50,),
        around="second_version",
    ),
    Fault("The dataset is answered 401", FETCH, 1, CREDENTIALS, http("GetDataset", 401, **ALWAYS), safe=(50,)),
    Fault("The dataset is answered 429 twice", FETCH, 0, "t50", http("GetDataset", 429, times=2), safe=(50,)),
    Fault(
        "The dataset is answered 500 for minutes",
        FETCH,
        1,
        "answered 500",
        http("GetDataset", 500, **ALWAYS),
        safe=(50,),
    ),
    Fault(
        "The dataset is answered 403 although it is there",
        FETCH,
        1,
        "it is not taken for gone",
        http("GetDataset", 403, **ALWAYS),
        safe=(50,),
    ),
    Fault("A download is never answered", FETCH, 0, "t50", {"hang": {"method": "DownloadDataset"}}, safe=(50,)),
)
ASKED: Sequence[Fault] = (
    Fault("`status` is answered 401", STATUS, 1, CREDENTIALS, http(STATE, 401, **ALWAYS), safe=(50,)),
    Fault("`status` is answered 403", STATUS, 1, "it is not taken for gone", http(STATE, 403, **ALWAYS), safe=(50,)),
    Fault(
        "`status` is answered 500 for minutes",
        STATUS,
        1,
        "Try again in a while.",
        http(STATE, 500, **ALWAYS),
        safe=(50,),
    ),
    Fault(
        "`status` finds a machine without network",
        STATUS,
        1,
        "Is the network up?",
        {"connection_reset": {"method": STATE, "times": 1000}},
        safe=(50,),
    ),
    Fault(
        "A cancel is answered 500",
        CANCEL,
        0,
        "deleted",
        http("CancelKernelSession", 500, **ALWAYS),
        options=("--yes",),
        sessions=0,
        safe=(50,),
    ),
)
SECTIONS: dict[str, Sequence[Fault]] = {
    "Refused pushes": REFUSED,
    "Answers to a push": ANSWERS,
    "Pushes without an answer": LOST,
    "While a session is watched": WATCHED,
    "Sessions that are ended": ENDS,
    "Fetching": FETCHED,
    "Other commands": ASKED,
}


def page() -> Iterator[str]:
    """docs/faults.md, line by line."""
    yield "# Faults"
    yield ""
    yield "Each row is a test (`tests/launcher/test_faults.py`): the embedded Kaggle fails in that way, as often as the"
    yield "row says, the command is typed, and the exit code, the words, the number of sessions on the target and the"
    yield "checkpoints that verify here after a fetch are what stands here. Where a run has a session, it has published"
    yield "its checkpoint at timestep 50. Written by `make docs`; `make check` fails when it is stale."
    for title, rows in SECTIONS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| what happens | command | exit | it says | sessions | safe at |"
        yield "|---|---|--:|---|--:|---|"
        for row in rows:
            command = " ".join([row.command, *row.options])
            safe = ", ".join(f"t{step}" for step in row.safe) or "-"
            says = row.says.replace("\n", " ")
            yield f"| {row.happens} | `{command}` | {row.code} | {says} | {row.sessions} | {safe} |"
