"""Forms of values on the wire: timestamps, durations, pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from launcher.local_kaggle.errors import bad_request

T = TypeVar("T")

DEFAULT_PAGE, LARGEST_PAGE = 20, 200


def timestamp(seconds: float) -> str:
    """Seconds since the epoch -> `2026-11-21T00:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def duration(seconds: float) -> str:
    """Seconds -> `12.500s`."""
    return f"{seconds:.3f}s"


def page(items: Sequence[T], request: dict[str, Any]) -> tuple[list[T], str]:
    """The page that `pageToken`/`page` and `pageSize` ask for, and the token of the next one ("": there is none)."""
    size = min(int(request.get("pageSize") or DEFAULT_PAGE), LARGEST_PAGE)
    token = request.get("pageToken") or ""
    if token and not token.isdigit():
        raise bad_request("Invalid page token")
    start = int(token) if token else (int(request.get("page") or 1) - 1) * size
    end = start + size
    return list(items[start:end]), str(end) if end < len(items) else ""
