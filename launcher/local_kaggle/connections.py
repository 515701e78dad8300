"""Connections that are cut instead of answered: what a load balancer or a bad network does."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[tuple[str, int], asyncio.Transport] = {}
"""The transports of this server process by the client's address."""


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which also remembers its transports so that one can be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            _open[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            _open.pop(self.client, None)
        super().connection_lost(exc)


async def cut(scope: Scope) -> None:
    """Reset the connection that `scope` came over; unsent bytes are lost."""
    transport = _open.get(tuple(scope["client"]))
    if transport is None:
        return
    connection: Any = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(0.01)


class Dropped(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cut(scope)


class Hanging(Response):
    """No answer, for as long as the client holds its connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Spoilt(Response):
    """Another response, reset once `cut_after` bytes of its body have gone, or with byte `wrong_at` altered."""

    def __init__(self, response: Response, cut_after: int | None, wrong_at: int | None) -> None:
        self._response, self._cut_after, self._wrong_at = response, cut_after, wrong_at

    @property
    def headers(self) -> MutableHeaders:
        return self._response.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone, over = 0, False

        async def spoilt(message: Message) -> None:
            nonlocal gone, over
            body = bytearray(message.get("body", b""))
            if over:
                return
            if self._wrong_at is not None and gone <= self._wrong_at < gone + len(body):
                body[self._wrong_at - gone] ^= 1
            if self._cut_after is not None and gone + len(body) > self._cut_after:
                over = True
                await send({**message, "body": bytes(body[: self._cut_after - gone]), "more_body": True})
                await asyncio.sleep(0.05)  # what has gone is to arrive
                await cut(scope)
                return
            gone += len(body)
            await send({**message, "body": bytes(body)} if body else message)

        await self._response(scope, receive, spoilt)
