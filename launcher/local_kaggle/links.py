"""Storage URLs: no authentication, but signed, so that nobody can guess one; and the files behind them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kernel.contract.files import write_aside
from launcher.local_kaggle import archives
from launcher.local_kaggle.datasets import Datasets, Version
from launcher.local_kaggle.files import Layout, inside, md5_of, regular_files
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Store

LIFETIME_S = 3 * 86_400


@dataclass(frozen=True)
class Stored:
    """One downloadable file."""

    path: Path
    md5: str


class Links:
    def __init__(self, store: Store, layout: Layout, clock: Clock, datasets: Datasets, url: str) -> None:
        self._layout = layout
        self._clock = clock
        self._datasets = datasets
        self._store = store
        self._url = url
        self._packing = threading.Lock()
        with store.transaction():
            if store.meta("link_secret") is None:
                store.set_meta("link_secret", secrets.token_hex(32))
        self._secret = (store.meta("link_secret") or "").encode()

    def output(self, session_id: int, name: str) -> str:
        return self._link("output", str(session_id), name)

    def output_bundle(self, session_id: int, slug: str) -> str:
        path = self._layout.output_bundle(session_id)
        folder = self._layout.outputs(session_id)
        with self._packing:
            if not path.exists():
                archives.pack(folder, path, [name for name, _ in regular_files(folder)])
        return self._link("output-bundle", str(session_id), f"{slug}.zip")

    def dataset_file(self, version: Version, name: str) -> str:
        limit = self._store.settings.zip_files_over_bytes
        if limit and (version.files / name).stat().st_size > limit:
            self._datasets.zipped_file(version, name)
            return self._link("dataset-zipped", f"{version.dataset_id}-{version.number}", f"{name}.zip")
        return self._link("dataset", f"{version.dataset_id}-{version.number}", name)

    def dataset_bundle(self, version: Version) -> str:
        self._datasets.archive(version)
        return self._link("dataset-bundle", f"{version.dataset_id}-{version.number}", f"{version.slug}.zip")

    def resolve(self, kind: str, key: str, expires: str, signature: str, name: str) -> Stored | None:
        """The file behind a link's parts; None unless we signed them, they are in date and the file is there."""
        if not hmac.compare_digest(self._sign(kind, key, expires, name).encode(), signature.encode()):
            return None
        if self._clock.now() > int(expires):
            return None
        path = self._path(kind, key, name)
        if path is None or not path.is_file():
            return None
        return Stored(path, self._known_md5(kind, key, name) or _kept_md5(path))

    def _path(self, kind: str, key: str, name: str) -> Path | None:
        if kind == "output":
            return inside(self._layout.outputs(int(key)), name)
        if kind == "output-bundle":
            return self._layout.output_bundle(int(key))
        folder = self._layout.version(*(int(part) for part in key.split("-")))
        if kind == "dataset":
            return inside(folder / "files", name)
        if kind == "dataset-zipped":
            return inside(folder / "zipped", name)
        return folder / "archive.zip"

    def _known_md5(self, kind: str, key: str, name: str) -> str | None:
        """Of single files, which were hashed when they were stored."""
        row = None
        if kind == "output":
            row = self._store.row("SELECT md5 FROM output_files WHERE session_id = ? AND path = ?", int(key), name)
        if kind == "dataset":
            sql = "SELECT md5 FROM dataset_files WHERE dataset_id = ? AND number = ? AND path = ?"
            row = self._store.row(sql, *(int(part) for part in key.split("-")), name)
        return None if row is None else str(row["md5"])

    def _link(self, kind: str, key: str, name: str) -> str:
        expires = str(int(self._clock.now()) + LIFETIME_S)
        return f"{self._url}/storage/{kind}/{key}/{expires}/{self._sign(kind, key, expires, name)}/{quote(name)}"

    def _sign(self, kind: str, key: str, expires: str, name: str) -> str:
        message = "\n".join((kind, key, expires, name)).encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def _kept_md5(path: Path) -> str:
    """A bundle's MD5, kept beside it once computed: bundles do not change."""
    kept = path.with_name(f"{path.name}.md5")
    if not kept.exists():
        write_aside(kept, md5_of(path).encode(), mode=0o600)
    return kept.read_text("utf-8")
