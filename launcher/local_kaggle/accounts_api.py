"""Who a token is, and what it may do."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any

from launcher.local_kaggle import errors
from launcher.local_kaggle.installation import USERNAME, Caller, Installation
from launcher.local_kaggle.store import Row

Json = dict[str, Any]

SESSION_SERVICES = (
    "security.OAuthService",
    "api.v1.DiagnosticsService",
    "blobs.BlobApiService",
    "datasets.DatasetApiService",
)
"""What a session's own token reaches; everything else answers 403."""


def caller_of(kaggle: Installation, authorization: str) -> Caller | None:
    """The caller behind an `Authorization` header, Bearer or Basic; None if it is nobody's."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _caller_of_token(kaggle, value.strip())
    if scheme.lower() == "basic":
        try:
            username, _, key = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return _caller_of_token(kaggle, key) if username == USERNAME else None
    return None


def _caller_of_token(kaggle: Installation, token: str) -> Caller | None:
    if hmac.compare_digest(token.encode(), kaggle.token.encode()):
        return Caller(USERNAME)
    session = kaggle.sessions.owner_of(token, "api")
    return None if session is None else Caller(session["owner"], session)


def proxy_session(kaggle: Installation, authorization: str, proxy_token: str) -> Row | None:
    """The session that a call to the data proxy comes from."""
    return kaggle.sessions.owner_of(authorization.removeprefix("Bearer ") + proxy_token, "user")


def check_scope(caller: Caller, service: str, method: str) -> None:
    """Raise RpcError 403 if a session's token calls what is not its own."""
    if caller.session is not None and service not in SESSION_SERVICES:
        verb = method.removesuffix("Kernel").lower()
        raise errors.denied(f"kernels.{verb if verb in ('save', 'delete') else 'get'}")


def introspect_token(kaggle: Installation, request: Json) -> Json:
    caller = _caller_of_token(kaggle, str(request.get("token") or ""))
    if caller is None or kaggle.faults.take("token_inactive") is not None:
        return {"active": False}
    return {"active": True, "username": caller.username, "userId": 1, "clientId": "", "scope": "resources.admin:*"}


def hello(kaggle: Installation, caller: Caller, request: Json) -> Json:
    return {"userName": caller.username}
