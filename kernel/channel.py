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
from typing import Any

from kernel.contract import events

VARIABLE = "KAGLAUNCH_CHANNEL"


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

    def event(self, name: str, **fields: Any) -> None:
        """Tell the world; same names as `events.emit`."""
        if self._file is None:
            events.emit(name, **fields)
            return
        if name not in events.EVENTS:
            raise ValueError(f"Unknown event {name!r}.")
        self._send({"event": name, **fields})

    def beat(self, num_timesteps: int) -> None:
        """Tell the supervisor that training is alive."""
        if self._file is not None:
            self._send({"beat": num_timesteps})

    def ended(self, status: str, num_timesteps: int, message: str) -> None:
        """Say why the trainer ends."""
        if self._file is not None:
            self._send({"ended": status, "num_timesteps": num_timesteps, "message": message})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._file is not None
        with self._lock:
            self._file.write(json.dumps(message, allow_nan=False) + "\n")
            self._file.flush()


class Reader:
    """The supervisor's end: a thread hands each message on."""

    def __init__(self, descriptor: int, handle: Callable[[dict[str, Any]], None]) -> None:
        self._file = os.fdopen(descriptor, encoding="utf-8", errors="replace")
        self._handle = handle
        self._thread = threading.Thread(target=self._run, name="channel", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._file:
            for line in self._file:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # torn by a kill
                if isinstance(message, dict):
                    self._handle(message)

    def join(self, timeout: float) -> None:
        """Wait until the trainer's end is closed and everything was handed on."""
        self._thread.join(timeout)
