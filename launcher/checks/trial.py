"""The checks that train: the bundle is unpacked and its own kernel tries a few episodes, as a session would.

A trial that passed is remembered by what it depends on (code, recipe, device, interpreter), so that the next push of
the same does not repeat it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kernel.contract import events
from kernel.contract.checks import Check, Verdict, failed, warned
from kernel.contract.config import Configuration, canonical_json
from kernel.contract.events import Gate, Phase
from kernel.contract.files import write_aside
from kernel.contract.names import CONFIGURATION
from launcher import paths, system, training_extra

NAMES = ("checkpointing", "signals", "disk", "environment", "speed")
TIMEOUT_S = 600.0
LOOK_S = 0.1
"""Between two looks at what a trial has printed."""
_REMEMBERED = 50


@dataclass(frozen=True)
class Measured:
    """What a trial that came to its end measured."""

    steps_per_s: float
    """Timesteps a second, updates included."""
    evaluation_s: float
    """One evaluation [s]."""
    evaluation_over: bool
    """Whether that evaluation was over; `evaluation_s` is a lower bound where not."""
    startup_s: float
    """Until training is at speed [s]."""
    device: str
    """That it ran on."""
    played_timesteps: int
    """In all."""
    lines_per_timestep: float
    """Lines that the recipe printed."""
    longest_pause_s: float = 0.0
    """The longest time without a sign of life [s]."""
    checkpoint_bytes: int = 0
    """A checkpoint without its replay buffer [B]; 0 where that was not measured."""
    replay_bytes_per_timestep: float = 0.0
    """What a timestep adds to the replay buffer on the disk [B]."""


@dataclass(frozen=True)
class Told:
    """What the process of a trial said."""

    gate: Gate
    lines: int = 0
    """Lines that it printed besides events."""


@dataclass(frozen=True)
class Found:
    """What the session's configuration says because of what the trial found out."""

    environment_state: str = ""
    """How the state of the environments must be taken, where it is another way than usual."""
    inexact_because: str = ""
    """Why no way leads to the same training again."""


@dataclass(frozen=True)
class Trial:
    """What the trial found, and what it measured."""

    checks: list[Check]
    measured: Measured | None = None
    ends_training: bool = False
    """Whether what failed would end the training too: then no waiver helps."""
    found: Found = field(default_factory=Found)


def run(
    configuration: Configuration,
    code_digest: str,
    folder: Path,
    *,
    note: Callable[[str], None],
    again: bool = False,
    kills: int = 0,
) -> Trial:
    """Try `configuration` with the bundle that is unpacked in `folder`; `again` forgets what is remembered.

    With `kills` a longer training is gone on from at so many instants more.

    `note` is told of each phase as it begins.
    """
    if not system.has_posix():
        evidence = f"{', '.join(NAMES)} cannot be tried on {platform.system()}: a trial needs POSIX ({system.WHY})."
        return Trial([warned(NAMES[0], evidence, "The session tries them before it trains.")])
    if missing := training_extra.missing(training_extra.TRAINING):
        evidence = f"It cannot be tried here without {', '.join(missing)}."
        fix = f"The session tries it before it trains. To try it here, install the extra {training_extra.how()}."
        return Trial([warned(name, evidence, fix) for name in NAMES])
    remembered = paths.cache_dir() / "trials" / f"{_key(configuration, code_digest, kills)}.json"
    if not again and (told := _recall(remembered)) is not None:
        return _trial(told)
    note("Trying a few episodes and a resume on this machine")
    told = _run(folder, note, kills)
    trial = _trial(told)
    if not any(check.verdict is Verdict.FAIL for check in trial.checks):
        _remember(remembered, told)
    return trial


def _run(folder: Path, note: Callable[[str], None], kills: int) -> Told:
    """The `gate` event of `python -m kernel --check`, with the lines that it printed besides; or one that failed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KAGLAUNCH_"))}
    environ |= {"KAGLAUNCH_BUNDLE": str(folder), "PYTHONPATH": str(folder)} | paths.compiled_kernels()
    command = [
        sys.executable,
        "-m",
        "kernel",
        "--config",
        str(folder / CONFIGURATION),
        "--check",
        "--kills",
        str(kills),
    ]
    heard = _Heard(note)
    with tempfile.TemporaryDirectory(prefix="kaglaunch-check-") as temporary:
        working, printed = Path(temporary, "working"), Path(temporary, "output")
        working.mkdir()
        # A file, and no pipe: what outlives the trial cannot hold it open.
        with printed.open("wb") as output, printed.open("rb") as so_far:
            process = subprocess.Popen(
                command,
                cwd=working,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            timeout_s = TIMEOUT_S * (1 + kills)
            until = time.monotonic() + timeout_s
            try:
                while (code := process.poll()) is None and time.monotonic() < until:
                    heard.take(so_far.read())
                    time.sleep(LOOK_S)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            heard.take(so_far.read())
            heard.end()
    if heard.result is not None:
        return Told(heard.result, heard.lines)
    how = f"no result within {timeout_s:.0f} s" if code is None else f"it ended with {_ending(code)}"
    said = f"The trial failed: {how}; its last line: {heard.last[:200]}"
    return Told(Gate(checks=(failed("checkpointing", said, "Run your recipe by hand."),)))


class _Heard:
    """What a trial has printed so far; `note` is told of each phase in it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.result: Gate | None = None
        self.lines, self.last = 0, ""
        self._note, self._rest = note, b""

    def take(self, printed: bytes) -> None:
        """More of it has come."""
        *lines, self._rest = (self._rest + printed).split(b"\n")
        for line in lines:
            self._hear(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self.take(b"\n")

    def _hear(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").rstrip()
        match events.parse(line):
            case Gate() as told:
                self.result = told
            case Phase(detail=doing):
                self._note(doing[:1].upper() + doing[1:])
            case _:
                self.lines += 1
                self.last = line or self.last


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _trial(told: Told) -> Trial:
    gate = told.gate
    known = {check.name for check in gate.checks}
    unreached = [warned(name, "Not reached: the trial failed before it.") for name in NAMES if name not in known]
    found = Found(gate.environment_state or "", gate.inexact or "")
    return Trial([*gate.checks, *unreached], _measured(told), bool(gate.ends_training), found)


def _measured(told: Told) -> Measured | None:
    gate = told.gate
    if not gate.steps_per_s or gate.startup_s is None or gate.device is None or not gate.played_timesteps:
        return None
    return Measured(
        gate.steps_per_s,
        gate.evaluation_s or 0.0,
        gate.evaluation_over is not False,
        gate.startup_s,
        gate.device,
        gate.played_timesteps,
        told.lines / gate.played_timesteps,
        gate.longest_pause_s or 0.0,
        gate.checkpoint_bytes or 0,
        gate.replay_bytes_per_timestep or 0.0,
    )


def _key(configuration: Configuration, code_digest: str, kills: int) -> str:
    recipe = {**dataclasses.asdict(configuration.run), "run_id": "", "total_timesteps": 0}
    depends = [
        code_digest,
        kills,
        recipe,
        configuration.session.device,
        configuration.session.disk_bytes,
        sys.version,
        sys.executable,
        platform.node(),
    ]
    depends += [importlib.metadata.version(name) for name in training_extra.TRAINING]
    return hashlib.sha256(canonical_json(depends).encode()).hexdigest()


def _recall(path: Path) -> Told | None:
    try:
        values = json.loads(path.read_text("utf-8"))
        gate, lines = events.from_plain(values["gate"]), int(values["lines"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Told(gate, lines) if isinstance(gate, Gate) else None


def _remember(path: Path, told: Told) -> None:
    write_aside(path, json.dumps({"gate": told.gate.plain(), "lines": told.lines}, sort_keys=True).encode())
    older = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)[_REMEMBERED:]
    for file in older:
        file.unlink(missing_ok=True)
