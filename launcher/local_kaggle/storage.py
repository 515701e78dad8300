"""Storage addresses: they need no credentials, and nobody can guess them."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from launcher.local_kaggle.errors import denied
from launcher.local_kaggle.store import Store


def signed(store: Store, key: str) -> str:
    """`key` with a signature: a path segment for an address below /gcs/."""
    return f"{key}-{_signature(store, key)}"


def unsigned(store: Store, segment: str) -> str:
    """The key of a signed segment. Raises 403 for any other."""
    key, _, signature = segment.rpartition("-")
    if not hmac.compare_digest(signature.encode(), _signature(store, key).encode()):
        raise denied("storage.objects.get")
    return key


def _signature(store: Store, key: str) -> str:
    with store.transaction():
        secret = store.meta("storage_secret")
        if secret is None:
            secret = secrets.token_hex(32)
            store.set_meta("storage_secret", secret)
    return hmac.new(bytes.fromhex(secret), key.encode(), hashlib.sha256).hexdigest()
