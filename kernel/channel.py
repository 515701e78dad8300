"""How the trainer speaks to its supervisor: lines of JSON on a pipe of their own, apart from whatever it prints.

    {"event": "checkpoint", ...}    an event for the world; the supervisor decides how often it is shown
    {"beat": 1200, "phase": …}      something was done, at this timestep and in this phase
    {"ended": "finished", ...}      why the trainer ends; without it the end was a crash

Standard library only. Without a supervisor events go to standard output and the rest nowhere.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernel.contract import events
from kernel.contract.events import Event

VARIABLE = "KAGLAUNCH_CHANNEL"
REFUSED = "refused"
"""The word of a trainer that no restart would help."""
BEAT_SECONDS = 0.25
LOADING, STEPPING, UPDATING = "loading", "stepping", "updating"
EVALUATING, REPLAYING, SAVING = "evaluating", "replaying", "saving"
"""What a trainer is at; the first one until its first step is done, for imports and compiling come before it."""


@dataclass(frozen=True)
class Beat:
    """The trainer did something, at this timestep; of an older one no phase is known."""

    num_timesteps: int
    phase: str = STEPPING


@dataclass(frozen=True)
class Ended:
    """Why the trainer ends: an ending's word, or REFUSED."""

    word: str
    num_timesteps: int
    message: str


Message = Event | Beat | Ended


class Channel:
    """The trainer's end."""

    def __init__(self, descriptor: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase, self._beat_at = "", float("-inf")
        self._file = None if descriptor is None else os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Channel:
        """The channel that the supervisor left open for us, or one to standard output."""
        number = os.environ.pop(VARIABLE, "")
        if number:
            os.set_inheritable(int(number), False)  # what an environment starts has nothing to say here
        return cls(int(number) if number else None)

    @classmethod
    def silent(cls) -> Channel:
        """One that tells nobody."""
        return cls(os.open(os.devnull, os.O_WRONLY))

    def event(self, event: Event) -> None:
        """Tell the world."""
        if self._file is None:
            events.emit(event)
        else:
            self._send(event.plain())

    def beat(self, num_timesteps: int, phase: str = STEPPING) -> None:
        """Tell the supervisor that something was done and what comes now; to be called at each bit of work that is.

        A phase that lasts is told every BEAT_SECONDS, and a change at once. Updates between steps may be brief and
        many: such a one passes for a part of the stepping.
        """
        if self._file is None:
            return
        now, lasts = self._clock(), phase == self._phase or (self._phase, phase) == (STEPPING, UPDATING)
        if lasts and now - self._beat_at < BEAT_SECONDS:
            return
        self._phase, self._beat_at = phase, now
        self._send({"beat": num_timesteps, "phase": phase})

    def ended(self, word: str, num_timesteps: int, message: str) -> None:
        """Say why the trainer ends."""
        if self._file is not None:
            self._send({"ended": word, "num_timesteps": num_timesteps, "message": message})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._file is not None
        with self._lock:
            self._file.write(json.dumps(message, allow_nan=False) + "\n")
            self._file.flush()


class Reader:
    """The supervisor's end: a thread hands each message on."""

    def __init__(self, descriptor: int, handle: Callable[[Message], None]) -> None:
        self._file = os.fdopen(descriptor, encoding="utf-8", errors="replace")
        self._handle = handle
        self._thread = threading.Thread(target=self._run, name="channel", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._file:
            for line in self._file:
                if (message := _message(line)) is not None:
                    self._handle(message)

    def join(self, timeout: float) -> None:
        """Wait until the trainer's end is closed and everything was handed on."""
        self._thread.join(timeout)


def _message(line: str) -> Message | None:
    """What a line says; None for one that a kill has torn."""
    try:
        match json.loads(line):
            case {"event": str()} as values:
                return events.from_plain(values)
            case {"beat": int(num_timesteps), "phase": str(phase)}:
                return Beat(num_timesteps, phase)
            case {"beat": int(num_timesteps)}:
                return Beat(num_timesteps)
            case {"ended": str(word), "num_timesteps": int(num_timesteps), "message": str(message)}:
                return Ended(word, num_timesteps, message)
    except ValueError:
        pass
    return None
