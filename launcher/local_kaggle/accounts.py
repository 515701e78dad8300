"""Who asks: the installation's token is the user, a session's token is that session and dies with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from launcher.local_kaggle import states
from launcher.local_kaggle.errors import denied, unauthenticated
from launcher.local_kaggle.store import Store

USERNAME = "local"


@dataclass(frozen=True)
class Account:
    """Who sent a request; `session_id` when it came with a session's token."""

    username: str
    session_id: int | None = None

    def may_use_kernels(self, permission: str) -> None:
        """Raise 403 for a session token: its scope is datasets and blobs."""
        if self.session_id is not None:
            raise denied(permission)


def digest(token: str) -> str:
    """How a token is kept and compared."""
    return hashlib.sha256(token.encode()).hexdigest()


def username_of(store: Store, installation_token: str, token: str) -> Account | None:
    """The account of a token, or None for one that is unknown or dead."""
    if hmac.compare_digest(token.encode(), installation_token.encode()):
        return Account(USERNAME)
    row = store.row("SELECT id, owner, state FROM sessions WHERE api_token_sha256 = ?", digest(token))
    if row is None or row["state"] not in states.ACTIVE_SESSION:
        return None
    return Account(str(row["owner"]), int(row["id"]))


def authenticate(store: Store, installation_token: str, header: str | None) -> Account:
    """The account of an Authorization header (Bearer token, or Basic user:token). Raises 401."""
    scheme, _, value = (header or "").partition(" ")
    token = value.strip()
    if scheme.lower() == "basic":
        try:
            name, _, token = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError as error:
            raise unauthenticated() from error
        if name != USERNAME:
            raise unauthenticated()
    elif scheme.lower() != "bearer":
        raise unauthenticated()
    account = username_of(store, installation_token, token)
    if account is None:
        raise unauthenticated()
    return account
