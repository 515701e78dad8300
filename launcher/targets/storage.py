"""Files at a storage address, which needs, and must get, no credentials: fetched in parts, unwrapped."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import requests

from kernel.contract import files
from launcher.errors import BackendUnavailable
from launcher.transfers import OnBytes

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""Between two pieces of an answer."""
CHUNK_BYTES = 1 << 14
"""What is lost of a download when its connection is cut."""


def go_on(address: str, part: Path, name: str, on_bytes: OnBytes | None, *, trust_env: bool) -> None:
    """Fetch what `part` lacks of the file `name` at `address`, whole and on the disk when this returns.

    Raises
    ------
    BackendUnavailable
        It broke off, or the server does not continue it; what came stays, another call goes on.
    requests.RequestException
        The connection or the server failed.
    """
    done = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    timeouts_s = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    with requests.Session() as session:
        session.trust_env = trust_env
        with session.get(address, headers=headers, stream=True, timeout=timeouts_s) as response:
            if response.status_code == 416:
                part.unlink()
                raise BackendUnavailable(f"The rest of {name} was refused; it starts anew.")
            response.raise_for_status()
            continued = response.status_code == 206
            here = done if continued else 0
            header = response.headers.get("Content-Length")
            told = header is not None and "Content-Encoding" not in response.headers
            total = here + int(header) if told and header is not None else -1
            with part.open("ab" if continued else "wb") as file:
                if on_bytes:
                    on_bytes(here, total)
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    here += len(chunk)
                    if on_bytes:
                        on_bytes(here, total)
                file.flush()
                os.fsync(file.fileno())
            if total >= 0 and here != total:
                raise BackendUnavailable(f"{name} broke off after {here:,} of {total:,} bytes.")


def unwrap(path: Path) -> None:
    """Large single files come as a zip of one member; put that member in its place."""
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.infolist()
        with archive.open(member) as source, files.aside(path) as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
