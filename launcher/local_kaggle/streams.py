"""The log of a session over HTTP: live as server-sent events, finished as one JSON array."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from launcher.local_kaggle import states
from launcher.local_kaggle.store import Row

if TYPE_CHECKING:
    from launcher.local_kaggle.server import Kaggle

POLL_S = 0.05


def log_response(
    kaggle: Kaggle, session: Row | None, request: Request, break_connection: Callable[[Request], Response]
) -> Response:
    """The log from its first event on; followed while the session is not over."""
    if session is None or session["state"] not in states.ACTIVE_SESSION:
        return Response(kaggle.kernels.persisted_log(session) or "[]", media_type="application/json")
    cut = kaggle.faults.take("stream_cut", "log_stream")
    unmarked = kaggle.faults.take("stream_end_unmarked", "log_stream")
    events = _events(kaggle, int(session["id"]), request, cut, unmarked, break_connection)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def pause(seconds: float, request: Request) -> None:
    """Wait, or return early when the client has gone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not await request.is_disconnected():
        await asyncio.sleep(min(0.2, seconds))


async def _events(
    kaggle: Kaggle,
    session_id: int,
    request: Request,
    cut: dict[str, int] | None,
    unmarked: dict[str, int] | None,
    break_connection: Callable[[Request], Response],
) -> AsyncIterator[bytes]:
    path = kaggle.layout.log_of(session_id)
    sent, rest, spoken = 0, b"", time.monotonic()
    while not path.exists():
        if _over(kaggle, session_id):
            return
        await asyncio.sleep(POLL_S)
    # The file stays readable through this handle when a kill removes it.
    with path.open("rb") as file:
        while True:
            over = _over(kaggle, session_id)
            rest += file.read()
            complete, _, rest = rest.rpartition(b"\n")
            for line in complete.splitlines():
                if kaggle.faults.value("stream_silence"):
                    continue
                yield b"data: " + line + b"\n\n"
                sent, spoken = sent + 1, time.monotonic()
                if cut is not None and sent >= cut.get("events", 5):
                    await asyncio.sleep(POLL_S)
                    break_connection(request)
                    return
                if unmarked is not None and sent >= unmarked.get("events", 5):
                    return
            if over:
                if path.exists():
                    yield b"data: END_OF_LOG\n\n"
                return
            if time.monotonic() - spoken > kaggle.store.settings.heartbeat_s:
                spoken = time.monotonic()
                yield b": keepalive\n\n"
            await asyncio.sleep(POLL_S)


def _over(kaggle: Kaggle, session_id: int) -> bool:
    row = kaggle.store.row("SELECT state FROM sessions WHERE id = ?", session_id)
    return row is None or row["state"] not in states.ACTIVE_SESSION
