"""The log of a session as the target sends it, streamed or whole, as lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from launcher.targets.base import LogLine

_END = b"END_OF_LOG"


def streamed(raw_lines: Iterable[bytes]) -> Iterator[LogLine | None]:
    """Lines of a log that is streamed, None for its end mark, after which nothing comes."""
    for raw in raw_lines:
        if not raw.startswith(b"data:"):
            continue
        payload = raw[5:].strip()
        if payload == _END:
            yield None
            return
        yield _line(payload.decode("utf-8", "replace"))


def whole(text: str) -> list[LogLine]:
    """Lines of a log that came at once."""
    try:
        events = json.loads(text) if text.strip() else []
    except json.JSONDecodeError:
        events = [{"data": line} for line in text.splitlines()]
    return [_line(event) for event in (events if isinstance(events, list) else [events])]


def _line(payload: Any) -> LogLine:
    event = payload
    if isinstance(payload, str):
        try:
            event = json.loads(payload)
        except json.JSONDecodeError:
            event = {"data": payload}
    if not isinstance(event, dict):
        event = {"data": str(event)}
    try:
        seconds = float(event.get("time") or 0.0)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    seconds = seconds if math.isfinite(seconds) else 0.0
    return LogLine(seconds, str(event.get("stream_name", "stdout")), str(event.get("data", "")).rstrip("\n"))
