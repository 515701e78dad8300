"""Service blobs.BlobApiService and the resumable upload behind it, as Google's storage does it."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

from launcher.local_kaggle import errors
from launcher.local_kaggle.accounts import Account
from launcher.local_kaggle.paths import Layout, relative_name
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

Json = dict[str, Any]
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class BlobsApi:
    """Uploads: begun, received in one or several parts, consumed by a dataset version."""

    def __init__(self, store: Store, layout: Layout, clock: Clock, url: str) -> None:
        self._store, self._layout, self._clock, self._url = store, layout, clock, url

    def start_blob_upload(self, account: Account, body: Json) -> Json:
        name = relative_name(str(body.get("name", "")))
        token, upload_id = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._store.insert(
            "uploads",
            token=token,
            upload_id=upload_id,
            owner=account.username,
            name=name,
            state="OPEN",
            created_at=self._clock.now(),
        )
        return {"token": token, "createUrl": f"{self._url}/gcs/upload?upload_id={upload_id}"}

    def upload(self, upload_id: str) -> Row:
        """An open upload. Raises 404 for an unknown or expired one."""
        row = self._store.row("SELECT * FROM uploads WHERE upload_id = ?", upload_id)
        if row is None or self._clock.now() - row["created_at"] > self._store.settings.upload_expiry_s:
            raise errors.not_found("Upload expired")
        return row

    def part(self, upload_id: str) -> Path:
        """Where the bytes of an upload gather."""
        return self._layout.uploads / f"{upload_id}.bin"

    def begin_part(self, upload_id: str, content_range: str | None) -> tuple[int, int | None]:
        """Where the bytes of this PUT go, and the whole size if it is told; without a range they replace everything.

        Raises 400 for a range that does not begin where the last one ended.
        """
        path = self.part(upload_id)
        if content_range is None:
            path.write_bytes(b"")
            return 0, None
        match = _RANGE.fullmatch(content_range)
        if match is None:
            raise errors.bad_request(f"Invalid Content-Range: {content_range}")
        have = path.stat().st_size if path.exists() else 0
        if match[1] is None:
            return have, int(match[3])
        start = int(match[1])
        if start == 0:
            path.write_bytes(b"")
        elif start > have:
            raise errors.bad_request(f"Bytes {have}-{start - 1} are missing")
        else:
            os.truncate(path, start)
        return start, int(match[3])

    def complete(self, upload_id: str) -> None:
        """All bytes are there."""
        self._store.execute("UPDATE uploads SET state = 'COMPLETE' WHERE upload_id = ?", upload_id)

    def take(self, account: Account, token: str) -> tuple[str, Path]:
        """Name and bytes of a complete upload of `account`. Raises 400."""
        row = self._store.row("SELECT * FROM uploads WHERE token = ?", token)
        if row is None or row["owner"] != account.username or row["state"] != "COMPLETE":
            raise errors.bad_request("Invalid upload token")
        return str(row["name"]), self.part(row["upload_id"])
