"""What a session says to the world: one line of JSON an event, on standard output.

    @kaglaunch {"event": "checkpoint", "num_timesteps": 500, "schema": 1, "time": 12.5}

`time` is seconds since the session began. docs/events.md lists every event and its fields.

Standard library only: the launcher reads with it what the kernel writes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, TextIO

PREFIX = "@kaglaunch "
SCHEMA = 1

EVENTS = {
    "session": "The session began: who, where, which versions, the number that cancels it.",
    "write_proved": "The first dataset version is ready: checkpoints have a way out.",
    "write_failed": "No dataset version could be created at the start: only outputs can bring checkpoints back.",
    "gate": "The trial before the training: ten timesteps, a resume, the environment, the speed.",
    "training": "The trainer starts learning, from scratch or from a checkpoint.",
    "calibration": "Measured speed and what it means for the clock, evaluation included.",
    "progress": "How far the training is.",
    "evaluation": "An evaluation on an environment of its own.",
    "checkpoint": "A complete training state lies on the session's disk.",
    "checkpoint_failed": "A checkpoint could not be written; training goes on.",
    "checkpoint_refused": "A checkpoint did not verify and was set aside; the one before it is used.",
    "cadence": "Checkpoints would cost too much time or bandwidth: they come less often now.",
    "published": "A checkpoint is in a dataset version, listed back with its size.",
    "publish_failed": "A publish did not succeed; a newer checkpoint is tried later.",
    "flood": "The trainer prints more than the log may take.",
    "health": "The training looks wrong: constant reward, one action, NaN, memory, speed, silence.",
    "inexact": "Bit-identical continuation is not promised from here on, and why.",
    "restart": "The trainer ended unexpectedly and starts again from a checkpoint.",
    "deadline": "The session limit is near: last checkpoint, last publish, clean end.",
    "result": "The last event: how the session ended.",
}
"""Every event's name and meaning: the table of docs/events.md is generated from it."""

_lock = threading.Lock()
_began = time.monotonic()


def emit(event: str, *, stream: TextIO | None = None, **fields: Any) -> None:
    """Write one event as one line and flush it, so that it leaves a block-buffered process at once.

    Raises
    ------
    ValueError
        An event that EVENTS does not name, or a field that JSON cannot hold (NaN included).
    """
    if event not in EVENTS:
        raise ValueError(f"Unknown event {event!r}. The valid ones: {', '.join(EVENTS)}.")
    fields.setdefault("time", round(time.monotonic() - _began, 3))
    line = PREFIX + json.dumps({"event": event, "schema": SCHEMA, **fields}, sort_keys=True, allow_nan=False) + "\n"
    out = stream or sys.stdout
    with _lock:
        out.write(line)
        out.flush()


def parse(line: str) -> dict[str, Any] | None:
    """The event that `line` holds, or None for any other text, a torn or unknown one included."""
    at = line.find(PREFIX)
    if at < 0:
        return None
    try:
        event = json.loads(line[at + len(PREFIX) :])
    except json.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and event.get("event") in EVENTS else None


def session_id(container_name: str | None = None) -> int | None:
    """The number that cancels this session, from `kaggle_<token>-<id>-webtier`; None where it is not told."""
    name = os.environ.get("KAGGLE_CONTAINER_NAME", "") if container_name is None else container_name
    parts = name.split("-")
    return int(parts[-2]) if len(parts) >= 3 and parts[-2].isascii() and parts[-2].isdigit() else None
