"""The log of a session as a stream: server-sent events while it runs, the persisted array afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Scope

from launcher.local_kaggle import states
from launcher.local_kaggle.connections import cut
from launcher.local_kaggle.installation import Caller, Installation
from launcher.local_kaggle.kernels_api import persisted_log, streamed_session
from launcher.local_kaggle.store import Row

END_MARK = "data: END_OF_LOG\n\n"
POLL_S = 0.05
LARGEST_BATCH = 1000
"""Events read at a time, so that no reader holds up the others."""


def stream(kaggle: Installation, caller: Caller, request: Request) -> Response:
    """Every event from the first one on, then the end mark; or, of a session that is over, the JSON array."""
    owner, slug = request.path_params["owner"], request.path_params["slug"]
    session = streamed_session(kaggle, caller, owner, slug, request.query_params.get("versionLabel"))
    if states.is_final(states.SESSION, session["state"]):
        return Response(persisted_log(kaggle, session) or "[]", media_type="application/json")
    headers = {"Cache-Control": "no-cache", "Content-Type": "text/event-stream"}
    return StreamingResponse(_events(kaggle, session["id"], _Trouble(kaggle, request.scope)), headers=headers)


class _Trouble:
    """The faults of one stream: what happens to it, and after how many events."""

    def __init__(self, kaggle: Installation, scope: Scope) -> None:
        self._scope = scope
        self._kind, self._events = "", -1
        for kind in ("stream_cut", "stream_end_unmarked", "stream_silence"):
            rule: dict[str, Any] | None = kaggle.faults.take(kind)
            if rule is not None:
                self._kind, self._events = kind, int(rule["events"])
                return

    async def strikes(self, sent: int) -> bool:
        """Whether the stream is over for its reader now that `sent` events went out."""
        if not self._kind or sent < self._events:
            return False
        while self._kind == "stream_silence":
            await asyncio.sleep(POLL_S)
        if self._kind == "stream_cut":
            await asyncio.sleep(POLL_S)
            await cut(self._scope)
        return True


def _news(kaggle: Installation, session_id: int, offset: int) -> tuple[Row, list[tuple[int, str]]]:
    """The session, and then the next events of its log from `offset` on: if it was over, nothing can follow them."""
    row = kaggle.sessions.row(session_id)
    return row, list(islice(kaggle.sessions.log_events(session_id, offset), LARGEST_BATCH))


async def _events(kaggle: Installation, session_id: int, trouble: _Trouble) -> AsyncIterator[str]:
    loop, offset, sent = asyncio.get_running_loop(), 0, 0
    last = loop.time()
    if await trouble.strikes(sent):
        return
    while True:
        row, events = await run_in_threadpool(_news, kaggle, session_id, offset)
        for reached, line in events:
            yield f"data: {line}\n\n"
            offset, sent, last = reached, sent + 1, loop.time()
            if await trouble.strikes(sent):
                return
        if events:
            continue
        if states.is_final(states.SESSION, row["state"]):
            if not row["deleted"]:
                yield END_MARK
            return
        if loop.time() - last >= kaggle.store.settings.heartbeat_s:
            last = loop.time()
            yield ": keepalive\n\n"
        await asyncio.sleep(POLL_S)
