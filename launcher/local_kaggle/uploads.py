"""Uploaded blobs: a token names the bytes that its upload holds once they are complete."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from kernel.contract.files import put_in_place
from launcher.local_kaggle import errors
from launcher.local_kaggle.files import Layout, is_plain_name, remove_tree
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

OPEN, COMPLETE, CONSUMED = "open", "complete", "consumed"
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)$")


class Uploads:
    def __init__(self, store: Store, layout: Layout, clock: Clock) -> None:
        self._store = store
        self._layout = layout
        self._clock = clock

    def start(self, owner: str, name: str) -> tuple[str, str]:
        """Open an upload of a file called `name`; (token, upload id), both unguessable."""
        if not is_plain_name(name):
            raise errors.bad_request(f"Invalid file name {name!r}")
        self.expire()
        token, upload_id = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        self._layout.upload(upload_id).mkdir(parents=True)
        self._store.insert(
            "uploads",
            **{"token": token, "upload_id": upload_id, "owner": owner, "name": name},
            **{"state": OPEN, "created_at": self._clock.now()},
        )
        return token, upload_id

    def find(self, upload_id: str) -> Row | None:
        """The upload, unless it has expired."""
        row = self._store.row("SELECT * FROM uploads WHERE upload_id = ?", upload_id)
        if row is None or self._clock.now() > row["created_at"] + self._store.settings.upload_expiry_s:
            return None
        return row

    def partial(self, row: Row) -> Path:
        return self._layout.upload(row["upload_id"]) / "partial"

    def blob(self, row: Row) -> Path:
        return self._layout.upload(row["upload_id"]) / "blob"

    def received(self, row: Row) -> int:
        """Bytes that have arrived so far."""
        path = self.blob(row) if row["state"] != OPEN else self.partial(row)
        return path.stat().st_size if path.exists() else 0

    def complete(self, row: Row) -> None:
        """The partial bytes are the whole file: from now on the token means them."""
        self.partial(row).touch()  # of no bytes at all
        put_in_place(self.partial(row), self.blob(row))
        self._store.execute("UPDATE uploads SET state = ? WHERE token = ? AND state = ?", COMPLETE, row["token"], OPEN)

    def by_token(self, owner: str, token: str) -> Row:
        """The complete upload behind `token`. Raises RpcError 400."""
        row = self._store.row("SELECT * FROM uploads WHERE token = ? AND owner = ?", token, owner)
        if row is None or row["state"] == CONSUMED:
            raise errors.bad_request("Unknown or already used upload token")
        if row["state"] != COMPLETE:
            raise errors.bad_request(f"The upload of {row['name']!r} is not complete")
        return row

    def consume(self, tokens: list[str]) -> None:
        """The tokens went into a dataset version: they cannot be used again, and their bytes live on there."""
        for token in tokens:
            rows = self._store.rows("SELECT * FROM uploads WHERE token = ?", token)
            self._store.execute("UPDATE uploads SET state = ? WHERE token = ?", CONSUMED, token)
            for row in rows:
                remove_tree(self._layout.upload(row["upload_id"]))

    def expire(self) -> None:
        before = self._clock.now() - self._store.settings.upload_expiry_s
        for row in self._store.rows("SELECT * FROM uploads WHERE created_at < ?", before):
            remove_tree(self._layout.upload(row["upload_id"]))
        self._store.execute("DELETE FROM uploads WHERE created_at < ?", before)
