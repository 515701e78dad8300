"""What a session says to the world: one line of JSON an event, on standard output.

    @kaglaunch {"event": "checkpoint", "num_timesteps": 500, "schema": 1, "time": 12.5}

Each event is a record below; its docstring and those of its fields make docs/events.md. Who reads them meets
kernels of other versions: a field that this version does not know is kept in `extra`, an event that it does not know is
an `Unknown`, and one whose fields have other types than they should is a `Malformed`. None of them is an error.

Standard library only: the launcher reads with it what the kernel writes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, ClassVar, TextIO

from kernel.contract import typed
from kernel.contract.checks import Check
from kernel.contract.endings import Ending, ending_of
from kernel.contract.exactness import Exactness
from kernel.contract.record import Record

PREFIX = "@kaglaunch "
_QUOTED = "@kaglaunch> "
SCHEMA = 1
EVENTS: dict[str, type[Event]] = {}
"""Every event by its name on the wire."""
_ENVELOPE = ("event", "schema", "time")
_OWN = ("time", "extra")
_UNREAD = ("Unknown", "Malformed")
"""Classes that stand for what could not be read as one of ours."""


class Event(Record):
    """Something that a session says."""

    name: ClassVar[str] = ""
    """Its name on the wire."""

    time: float | None = field(default=None, kw_only=True)
    """Seconds since the session began; set when it is written."""
    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Fields that a newer kernel sent and this version does not know."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__ and not cls.__name__.startswith("_") and cls.__name__ not in _UNREAD:
            cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
            EVENTS[cls.name] = cls

    @property
    def fields(self) -> dict[str, Any]:
        """Its own fields as JSON values, the unknown ones of a newer kernel with them."""
        own = {f.name: typed.plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in _OWN}
        return {**own, **typed.plain(self.extra)}

    def revise(self, known: Exactness) -> Exactness:
        """What is known of the run's exactness once this was said."""
        return known

    def plain(self) -> dict[str, Any]:
        """The whole event as JSON has it."""
        return {"event": self.name, "schema": SCHEMA, "time": self.time, **self.fields}


class Session(Event):
    """The session began: who, where, which versions, the number that cancels it."""

    session_id: int | None = None
    """Cancels it on the platform."""
    run_id: str = ""
    """The run."""
    session: int = 0
    """Counts the sessions of the run."""
    total_timesteps: int = 0
    """Of the whole run."""
    dataset: str = ""
    """`owner/slug` that takes the checkpoints; empty without one."""
    device: str = ""
    """As asked for: auto, cpu or cuda."""
    max_seconds: float = 0.0
    """Session limit that the platform was told [s]."""
    python: str = ""
    """Version of the interpreter."""
    host: str = ""
    """Name of the machine."""
    cpus: int | None = None
    """Its cores."""


class WriteProved(Event):
    """The first dataset version is ready: checkpoints have a way out."""

    dataset: str
    """`owner/slug`."""
    version: int | None = None
    """Number of the version."""


class WriteFailed(Event):
    """No dataset version could be created at the start: only outputs can bring checkpoints back.

    Publishing is tried again later; `write_proved` follows if it works.
    """

    dataset: str
    """`owner/slug`."""
    reason: str = ""
    """What the service said."""


class Phase(Event):
    """What the session spends its time on from here on, until the training is at speed.

    `python -m kernel --config … --check` says those of the trial, and a comparison its own.
    """

    phase: str = ""
    """restoring, loading, trial, resume, proof, kills, environment, speed, preparing or first_step; comparing."""
    detail: str = ""
    """The same in words."""


class Gate(Event):
    """The trial before the training: a little of it, a resume, the environment, the speed.

    A FAIL that is not in the session's `waived` ends it before it trains. `python -m kernel --config … --check` says
    the same event with what it measured besides.
    """

    checks: tuple[Check, ...] = ()
    """Each with `name`, `verdict`, `evidence` and `fix`."""
    device: str | None = None
    """Device that it ran on."""
    environment_state: str | None = None
    """How their state must be taken, where it is another way than usual; `none`: no way leads to the same again."""
    inexact: str | None = None
    """Why a resume would not be bit-identical; null where it was, or was not tried."""
    startup_s: float | None = None
    """Imports and compiling, until the first training of it was over [s]."""
    steps_per_s: float | None = None
    """Measured speed of training; with `--check` only, as all that follows."""
    played_timesteps: int | None = None
    """Timesteps that were played in all."""
    timesteps: int | None = None
    """Timesteps that the speed was measured over."""
    played: int | None = None
    """Timesteps that measuring it played."""
    collect_s: float | None = None
    """Collecting, seconds a timestep."""
    update_s: float | None = None
    """Updating, seconds a timestep."""
    evaluation_s: float | None = None
    """One evaluation [s]."""
    evaluation_over: bool | None = None
    """Whether that evaluation was over; `evaluation_s` is a lower bound where not."""
    longest_pause_s: float | None = None
    """The longest time between two signs of life, imports and compiling left out [s]."""
    checkpoint_bytes: int | None = None
    """A checkpoint without its replay buffer [B]."""
    replay_bytes_per_timestep: float | None = None
    """What a timestep adds to the replay buffer on the disk, as measured [B]; 0 without one."""
    ends_training: bool | None = None
    """Whether what failed would end the training too, waived or not."""


class Training(Event):
    """The trainer starts learning, from scratch or from a checkpoint."""

    num_timesteps: int
    """Timestep that it starts at."""
    total_timesteps: int = 0
    """Of the whole run, rounded up to whole rollouts."""
    requested_timesteps: int | None = None
    """As the configuration asks for."""
    algorithm: str = ""
    """What learns."""
    device: str = ""
    """In use."""
    checkpoint: str | None = None
    """File that it resumes from."""
    exact: bool = True
    """False where the continuation is known to be another one than without an interruption."""
    exactness: Exactness | None = None
    """What is known of the run up to here; null from a kernel that does not say it."""
    replay_bytes: int | None = None
    """What its replay buffer takes in memory when it is full [B]; null without one."""
    replay_row_bytes: int | None = None
    """What a row of it takes there, one step of all environments [B]."""

    def revise(self, known: Exactness) -> Exactness:
        """What it brings along."""
        return self.exactness or (known if self.exact else known.inexact(self.num_timesteps, ""))


class Calibration(Event):
    """Measured speed and what it means for the clock, evaluation included.

    Told from the second step on (the first one compiles), and again when an evaluation or a wait was timed.
    """

    num_timesteps: int
    """Where it was measured."""
    steps_per_s: float
    """Speed of training [1/s]."""
    seconds_needed: float
    """For the rest of the run [s]."""
    seconds_left: float | None = None
    """Of this session [s]."""
    evaluation_seconds: float | None = None
    """Of `seconds_needed` for evaluations; null until one was timed."""
    waiting_seconds: float | None = None
    """Of `seconds_needed` for publishes that the training waits for; 0 until one was waited for."""
    fits: bool | None = None
    """Whether the rest fits this session."""


class Progress(Event):
    """How far the training is: with each checkpoint, and every 5 s."""

    num_timesteps: int
    """Done."""
    total_timesteps: int | None = None
    """Of the whole run."""
    steps_per_s: float | None = None
    """Of this session, without evaluation and waiting."""
    reward: float | str | None = None
    """Mean reward a step over the last 200 vector steps; the text of a number that is not finite."""
    queue: float | str | None = None
    """The same of `queue`, where the environment's info tells it."""


class Evaluation(Event):
    """An evaluation on an environment of its own."""

    num_timesteps: int
    """When it was."""
    mean_reward: float | str | None = None
    """Mean return of its episodes."""
    std_reward: float | str | None = None
    """Their standard deviation."""
    mean_ep_length: float | str | None = None
    """Their mean length."""
    seconds: float | None = None
    """What it took [s]."""


class Checkpoint(Event):
    """A complete training state lies on the session's disk."""

    num_timesteps: int
    """Its timestep."""
    bytes: int | None = None
    """Its size."""
    seconds: float | None = None
    """What the writing took, in the background [s]."""
    state_digest: str = ""
    """sha256 of the training state."""
    exactness: Exactness | None = None
    """What is known of the run up to here; null from a kernel that does not say it."""

    def revise(self, known: Exactness) -> Exactness:
        """What its manifest says."""
        return self.exactness or known


class CheckpointFailed(Event):
    """A checkpoint could not be written; training goes on, and a crash would cost what was done since the last one.

    On a full disk older checkpoints were deleted first, and it was tried again.
    """

    num_timesteps: int
    """Its timestep."""
    reason: str = ""
    """What the system said."""
    in_a_row: int | None = None
    """Checkpoints that failed since one was written, this one included."""


class CheckpointRefused(Event):
    """A checkpoint did not verify, or cannot be put back; the one before it is used."""

    file: str
    """Its name."""
    reason: str = ""
    """What is wrong with it."""


class Cadence(Event):
    """Checkpoints would cost too much time or bandwidth: they come less often now."""

    asked: str
    """What was asked for."""
    seconds_between: float
    """From now on [s]."""
    reason: str = ""
    """Why."""
    num_timesteps: int | None = None
    """When."""


class Published(Event):
    """A checkpoint is in a dataset version, listed back with its size."""

    num_timesteps: int
    """Its timestep."""
    bytes: int | None = None
    """Of the version, and of the replay chunks that were sent for it."""
    files: int | None = None
    """Of both."""
    seconds: float | None = None
    """From its staging to being ready [s]."""
    version: int | None = None
    """Number of the version."""


class PublishFailed(Event):
    """A publish did not succeed; a newer checkpoint is tried later.

    Also told when the trainer waited for a publish in vain.
    """

    num_timesteps: int | None = None
    """Timestep of the checkpoint; null where there was none yet."""
    reason: str = ""
    """What the service said."""
    status: int | None = None
    """Its HTTP status, if there was one."""
    retry_seconds: float | None = None
    """When it is tried again [s]."""
    fenced: bool = False
    """A later session of the run owns the dataset, and this one has stopped publishing."""


class PublishSlow(Event, kw_only=True):
    """A publish takes longer than usual; it is waited for all the same."""

    num_timesteps: int | None = None
    """Timestep of the checkpoint; null where there is none yet."""
    seconds: float
    """What it has taken so far [s]."""
    usual_seconds: float | None = None
    """The longest that one took before [s]; null for the first one."""
    waits_for: str = ""
    """What is to come, in words."""


class PublishLost(Event):
    """What was published cannot be had any more: it was deleted, or replay chunks of it. The newest goes again."""

    num_timesteps: int
    """Timestep that was published."""
    published_timesteps: int | None = None
    """Timestep of the newest checkpoint that the dataset lists now; null where it lists none."""
    reason: str = ""
    """What was found."""


class AtRisk(Event, kw_only=True):
    """A multiple of what was asked for would be lost with the session now: an alarm.

    Told once, and again only after a checkpoint was published in between. The training goes on at full speed, publishes
    are tried further, and the outputs of a session that ends well bring its checkpoints out at the end.
    """

    num_timesteps: int
    """Timesteps that are done."""
    published_timesteps: int | None = None
    """Timestep of the newest checkpoint that is in a dataset version; null without one."""
    at_risk_timesteps: int
    """Done and not published."""
    seconds: float
    """Since the last published checkpoint was taken up, or since the training began [s]."""
    limit_seconds: float | None = None
    """What `seconds` is held to [s]; null where timesteps alone were asked for."""
    limit_timesteps: int | None = None
    """What `at_risk_timesteps` is held to; null where time was asked for."""
    reason: str = ""
    """Why the last publish did not succeed."""
    final: bool = False
    """The service does not accept the session's credentials, again and again: only outputs can bring checkpoints."""


class Flood(Event):
    """The trainer prints more than the log may take."""

    lines_per_s: float | None = None
    """What it prints, in its fastest second [1/s]."""
    limit: float | None = None
    """What it may, on an average over ten seconds [1/s]."""
    reason: str = ""
    """Which rule it broke."""
    action: str = "stop"
    """What the kernel does: `stop` after a last checkpoint and its publish, or `throttle`."""
    sample: str = ""
    """One of the lines."""


class Health(Event):
    """The training looks wrong: constant reward, one action, NaN, memory, speed, silence."""

    rule: str = ""
    """constant_reward, one_action, alternating_actions, not_finite, slow, memory or silence."""
    figure: Any = None
    """What was found."""
    limit: Any = None
    """What it was held to."""
    message: str = ""
    """Both in words."""
    action: str = "warn"
    """What the kernel does: warn, stop or restart."""
    num_timesteps: int | None = None
    """When."""


class Inexact(Event):
    """Bit-identical continuation is not promised from here on, and why."""

    num_timesteps: int
    """From this timestep on."""
    reason: str = ""
    """Why."""

    def revise(self, known: Exactness) -> Exactness:
        """Inexact from here on."""
        return known.inexact(self.num_timesteps, self.reason)


class Proved(Event):
    """A fresh process began at an earlier checkpoint, beside the training, and came to the same state, bit for bit."""

    num_timesteps: int
    """Timestep of that state."""
    from_timesteps: int = 0
    """Timestep of the checkpoint that it began at."""
    seconds: float | None = None
    """What it took [s]."""

    def revise(self, known: Exactness) -> Exactness:
        """Proved up to here."""
        return known.proved(self.num_timesteps)


class Unproved(Event):
    """A proof was begun beside the training, or could not be begun, and came to no end."""

    reason: str = ""
    """Why."""

    def revise(self, known: Exactness) -> Exactness:
        """Nothing new, and why."""
        return known.unproved(self.reason)


class Restart(Event):
    """The trainer ended unexpectedly and starts again from a checkpoint."""

    reason: str = ""
    """How it ended."""
    restarts: int = 0
    """So far."""
    from_timesteps: int = 0
    """Timestep of the checkpoint."""
    otherwise: str = ""
    """What is done otherwise this time, in words, where beginning as usual has led nowhere; empty as usual."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """`rss_bytes`, `peak_bytes`, `available_bytes`, `total_bytes`, `oom_kills` at its end."""


class Deadline(Event):
    """The session limit is near: last checkpoint, last publish, clean end."""

    seconds_left: float | None = None
    """Of the session [s]."""
    margin_seconds: float | None = None
    """Kept for it [s]."""


class Result(Event):
    """The last event: how the session ended. The same as `result.json`."""

    status: str
    """The ending's word: see the table of endings."""
    num_timesteps: int = 0
    """Timestep of the newest checkpoint that verifies."""
    total_timesteps: int = 0
    """Of the whole run."""
    published_timesteps: int | None = None
    """Timestep of the newest checkpoint that is in a dataset version; null when nothing was published."""
    restarts: int = 0
    """How often the trainer was started anew."""
    message: str = ""
    """What led to it."""
    run_id: str = ""
    """The run."""
    session: int = 0
    """Number of the session in its run."""
    seconds: float = 0.0
    """What the session took [s]."""
    exact: bool = True
    """False where the run is known to be another one than without an interruption."""
    exactness: Exactness | None = None
    """What is known of that; null from a kernel that does not say it."""
    log_lines: int = 0
    """Lines that the trainer printed."""
    hidden_lines: int = 0
    """Of them, those that only the full log has."""

    def revise(self, known: Exactness) -> Exactness:
        """What the session knew at its end."""
        return self.exactness or known

    @property
    def ending(self) -> Ending | None:
        """What `status` means; None for a word of a newer kernel."""
        return ending_of(self.status)


class Unknown(Event):
    """An event that this version does not know: a newer kernel's."""

    kind: str
    """Its name on the wire."""

    def plain(self) -> dict[str, Any]:
        """The event as it came."""
        return {"event": self.kind, "schema": SCHEMA, "time": self.time, **typed.plain(self.extra)}


class Malformed(Event):
    """An event that this version knows, with fields of another type than they have."""

    kind: str
    """Its name on the wire."""
    problem: str
    """Which field, what it should be, what it is."""

    def plain(self) -> dict[str, Any]:
        """The event as it came, with what is wrong with it."""
        sent = typed.plain(self.extra)
        return {"event": self.kind, "schema": SCHEMA, "time": self.time, **sent, "problem": self.problem}


_lock = threading.Lock()
_began = time.monotonic()


def emit(event: Event, stream: TextIO | None = None) -> None:
    """Write `event` as one line and flush it, so that it leaves a block-buffered process at once.

    Raises
    ------
    ValueError
        A value that JSON cannot hold (NaN included).
    """
    if event.time is None:
        event = dataclasses.replace(event, time=round(time.monotonic() - _began, 3))
    line = PREFIX + json.dumps(event.plain(), sort_keys=True, allow_nan=False) + "\n"
    out = stream or sys.stdout
    with _lock:
        out.write(line)
        out.flush()


def quoted(text: str) -> str:
    """`text`, which is not the session's own, as something that `parse` takes for no event."""
    return text.replace(PREFIX, _QUOTED)


def parse(line: str) -> Event | None:
    """The event that `line` holds, or None for any other text, a torn one included."""
    at = line.find(PREFIX)
    if at < 0:
        return None
    try:
        values = json.loads(line[at + len(PREFIX) :])
    except (ValueError, RecursionError):
        return None
    return from_plain(values) if isinstance(values, dict) and isinstance(values.get("event"), str) else None


def from_plain(values: Mapping[str, Any]) -> Event:
    """The event that `plain` gave, of whatever version wrote it."""
    kind, when = str(values["event"]), values.get("time")
    try:
        told = typed.value_of("time", when, float | None)
    except typed.WrongType:
        told = None
    rest = {name: value for name, value in values.items() if name not in _ENVELOPE}
    cls = EVENTS.get(kind)
    if cls is None:
        return Unknown(kind=kind, time=told, extra=rest)
    own = {f.name for f in dataclasses.fields(cls)} - set(_OWN)
    try:
        known = typed.read(cls, {name: value for name, value in rest.items() if name in own})
    except typed.WrongType as error:
        return Malformed(kind=kind, problem=str(error), time=told, extra=rest)
    return dataclasses.replace(known, time=told, extra={n: v for n, v in rest.items() if n not in own})


def page() -> Iterator[str]:
    """Lines of the tables of docs/events.md: every event, its fields, their types and meanings."""
    for name, cls in EVENTS.items():
        about = (cls.__doc__ or "").split("\n\n", 1)
        yield from (f"### `{name}`", "", about[0].strip(), "")
        if len(about) > 1:
            yield from (" ".join(about[1].split()), "")
        hints, docs = typed.hints_of(cls), typed.field_docs(cls)
        yield from ("| field | type | meaning |", "|---|---|---|")
        for one in dataclasses.fields(cls):
            if one.name not in _OWN:
                yield f"| `{one.name}` | {typed.type_words(hints[one.name])} | {docs[one.name]} |"
        yield ""
