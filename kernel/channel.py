"""How the trainer speaks to its supervisor: lines of JSON on a pipe of their own, apart from whatever it prints.

    {"event": "checkpoint", ...}    an event for the world; the supervisor decides how often it is shown
    {"beat": 1200}                  alive, at this timestep
    {"ended": "finished", ...}      why the trainer ends; without it the end was a crash

Standard library only. Without a supervisor events go to standard output and the rest nowhere.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernel.contract import events
from kernel.contract.events import Event

VARIABLE = "KAGLAUNCH_CHANNEL"
REFUSED = "refused"
"""The word of a trainer that no restart would help."""


@dataclass(frozen=True)
class Beat:
    """The trainer is alive, at this timestep."""

    num_timesteps: int


@dataclass(frozen=True)
class Ended:
    """Why the trainer ends: an ending's word, or REFUSED."""

    word: str
    num_timesteps: int
    message: str


Message = Event | Beat | Ended


class Channel:
    """The trainer's end."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._file = None if descriptor is None else os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Channel:
        """The channel that the supervisor left open for us, or one to standard output."""
        number = os.environ.pop(VARIABLE, "")
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

    def beat(self, num_timesteps: int) -> None:
        """Tell the supervisor that training is alive."""
        if self._file is not None:
            self._send({"beat": num_timesteps})

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
            case {"beat": int(num_timesteps)}:
                return Beat(num_timesteps)
            case {"ended": str(word), "num_timesteps": int(num_timesteps), "message": str(message)}:
                return Ended(word, num_timesteps, message)
    except ValueError:
        pass
    return None
