"""Service datasets.DatasetApiService: datasets, their versions, and the processing of these."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from launcher.local_kaggle import errors, states, storage
from launcher.local_kaggle.accounts import Account
from launcher.local_kaggle.blobs_api import BlobsApi
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.kernels_api import paged, timestamp
from launcher.local_kaggle.paths import Layout, relative_name
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

logger = logging.getLogger(__name__)
Json = dict[str, Any]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class UnpackRefused(ValueError):
    """Raised when an archive is broken, would leave its folder, or unpacks to more than is allowed."""


class DatasetsApi:
    """Datasets of the installation; `tick` moves versions to where the clock says they are."""

    def __init__(self, store: Store, layout: Layout, clock: Clock, faults: Faults, blobs: BlobsApi, url: str) -> None:
        self._store, self._layout, self._clock = store, layout, clock
        self._faults, self._blobs, self._url = faults, blobs, url

    def tick(self) -> None:
        """Advance every version that is in processing."""
        if self._faults.value("dataset_stuck"):
            return
        query = "SELECT * FROM dataset_versions WHERE state NOT IN ('READY', 'FAILED', 'DELETED') ORDER BY number"
        for row in self._store.rows(query):
            self._advance(row)

    def create_dataset(self, account: Account, body: Json) -> Json:
        slug, title = str(body.get("slug", "")), str(body.get("title") or body.get("slug", ""))
        if body.get("ownerSlug") not in (None, "", account.username):
            raise errors.denied("datasets.create")
        for value, message in ((title, errors.TOO_SHORT_TITLE), (slug, errors.TOO_SHORT_SLUG)):
            if not 6 <= len(value) <= 50:
                return {"status": "error", "error": message.format(least=6, most=50)}
        if self._store.row("SELECT 1 FROM datasets WHERE owner = ? AND slug = ?", account.username, slug):
            return {"status": "error", "error": errors.TITLE_IN_USE.format(title=title)}
        with self._store.transaction():
            dataset_id = self._store.new_id("dataset")
            self._store.insert(
                "datasets",
                id=dataset_id,
                owner=account.username,
                slug=slug,
                title=title,
                subtitle=str(body.get("subtitle") or ""),
                description=str(body.get("description") or ""),
                license=str(body.get("licenseName") or "unknown"),
                is_private=int(bool(body.get("isPrivate"))),
                created_at=self._clock.now(),
            )
            self._new_version(account, dataset_id, body, "Initial release", delete_old=False)
        return self._created(account.username, slug)

    def create_dataset_version(self, account: Account, body: Json) -> Json:
        content: Json = body.get("body") or {}
        dataset = self._dataset(account, body, "datasets.update")
        if self._faults.take("dataset_denied", "CreateDatasetVersion") is not None:
            raise errors.denied("datasets.update")
        first = self._store.row(
            "SELECT state FROM dataset_versions WHERE dataset_id = ? ORDER BY number LIMIT 1", dataset["id"]
        )
        if dataset["last_version"] == 1 and first is not None and first["state"] != "READY":
            raise errors.denied("datasets.update")
        notes, delete_old = str(content.get("versionNotes") or ""), bool(content.get("deleteOldVersions"))
        with self._store.transaction():
            self._new_version(account, dataset["id"], content, notes, delete_old=delete_old)
        return self._created(dataset["owner"], dataset["slug"])

    def get_dataset_status(self, account: Account, body: Json) -> Json:
        dataset = self._dataset(account, body, "datasets.get")
        rows = self._versions(dataset["id"])
        return {"status": rows[0]["state"] if rows else states.INITIAL[states.DATASET_VERSION]}

    def get_dataset(self, account: Account, body: Json) -> Json:
        return self._described(self._dataset(account, body, "datasets.get"))

    def get_dataset_metadata(self, account: Account, body: Json) -> Json:
        dataset = self._dataset(account, body, "datasets.get")
        info = {
            "datasetId": dataset["id"],
            "datasetSlug": dataset["slug"],
            "ownerUser": dataset["owner"],
            "title": dataset["title"],
            "subtitle": dataset["subtitle"],
            "description": dataset["description"],
            "licenses": [{"name": dataset["license"]}],
            "isPrivate": bool(dataset["is_private"]),
            "keywords": [],
            "collaborators": [],
            "data": [],
        }
        return {"info": info, "errorMessage": ""}

    def list_datasets(self, account: Account, body: Json) -> Json:
        search = str(body.get("search") or "").lower()
        rows = self._store.rows("SELECT * FROM datasets WHERE owner = ? ORDER BY created_at DESC", account.username)
        found = [row for row in rows if search in row["slug"] and not self._hidden(row)]
        page, token = paged(found, body)
        return {"datasets": [self._described(row) for row in page], "nextPageToken": token}

    def list_dataset_files(self, account: Account, body: Json) -> Json:
        dataset = self._dataset(account, body, "datasets.get")
        version = self._ready(dataset, body)
        rows = self._store.rows(
            "SELECT * FROM dataset_files WHERE dataset_id = ? AND number = ? ORDER BY path",
            dataset["id"],
            version["number"],
        )
        page, token = paged(rows, body)
        created = timestamp(version["created_at"])
        files = [{"ref": r["path"], "name": r["path"], "totalBytes": r["size"], "creationDate": created} for r in page]
        return {"datasetFiles": files, "errorMessage": "", "nextPageToken": token}

    def download_address(self, account: Account, body: Json) -> str:
        """DownloadDataset: the storage address of one file, or of the whole version as `<slug>.zip`."""
        dataset = self._dataset(account, body, "datasets.get")
        version = self._ready(dataset, body)
        segment = storage.signed(self._store, f"{dataset['id']}.{version['number']}")
        name = str(body.get("fileName") or "")
        if not name:
            return f"{self._url}/gcs/datasets/{segment}/archive/{dataset['slug']}.zip"
        path = relative_name(name)
        row = self._store.row(
            "SELECT size FROM dataset_files WHERE dataset_id = ? AND number = ? AND path = ?",
            *(dataset["id"], version["number"], path),
        )
        if row is None:
            raise errors.not_found()
        largest = self._store.settings.zip_files_over_bytes
        if largest and row["size"] > largest:
            return f"{self._url}/gcs/datasets/{segment}/zipped/{path}.zip"
        return f"{self._url}/gcs/datasets/{segment}/file/{path}"

    def delete_dataset(self, account: Account, body: Json) -> Json:
        dataset = self._dataset(account, body, "datasets.delete")
        self._store.execute("DELETE FROM datasets WHERE id = ?", dataset["id"])
        shutil.rmtree(self._layout.datasets / str(dataset["id"]), ignore_errors=True)
        return {}

    def stored(self, segment: str) -> tuple[int, int]:
        """Dataset id and version number of a signed storage segment. Raises 403."""
        dataset_id, _, number = storage.unsigned(self._store, segment).partition(".")
        return int(dataset_id), int(number)

    def _new_version(self, account: Account, dataset_id: int, content: Json, notes: str, *, delete_old: bool) -> None:
        """Take the uploaded files into a version that is then processed. Runs inside a transaction."""
        taken = [
            (relative_name(f"{folder}{name}"), blob) for folder, name, blob in self._blobs_of(account, content, "")
        ]
        if not taken:
            raise errors.bad_request("A dataset version needs at least one file")
        number = self._store.rows("SELECT last_version FROM datasets WHERE id = ?", dataset_id)[0]["last_version"] + 1
        folder = self._layout.version(dataset_id, number)
        shutil.rmtree(folder, ignore_errors=True)
        for name, blob in taken:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            # A token means the bytes that were there at the PUT; the same one may serve in a later version.
            shutil.copyfile(blob, place)
        now = self._clock.now()
        self._store.execute("UPDATE datasets SET last_version = ? WHERE id = ?", number, dataset_id)
        self._store.insert(
            "dataset_versions",
            dataset_id=dataset_id,
            number=number,
            notes=notes,
            state=states.INITIAL[states.DATASET_VERSION],
            entered_at=now,
            created_at=now,
            delete_old=int(delete_old),
        )

    def _blobs_of(self, account: Account, content: Json, folder: str) -> Iterator[tuple[str, str, Path]]:
        for file in content.get("files") or []:
            name, blob = self._blobs.take(account, str(file.get("token", "")))
            yield folder, name, blob
        for child in content.get("directories") or []:
            yield from self._blobs_of(account, child, f"{folder}{relative_name(str(child.get('name', '')))}/")

    def _advance(self, row: Row) -> None:
        dataset_id, number, settings = row["dataset_id"], row["number"], self._store.settings
        step = states.timed(states.DATASET_VERSION, row["state"])
        if step is None or step.delay is None or self._clock.now() - row["entered_at"] < getattr(settings, step.delay):
            return
        if step.event == "received" and self._faults.take("dataset_failed", "CreateDatasetVersion") is not None:
            self._store.move_version(dataset_id, number, "failed", self._clock.now(), "fault dataset_failed")
            return
        if step.event == "decompressed":
            try:
                self._unpack(self._layout.version(dataset_id, number))
            except (UnpackRefused, OSError) as error:
                logger.warning("dataset %d version %d: %s", dataset_id, number, error)
                self._store.move_version(dataset_id, number, "failed", self._clock.now(), str(error))
                return
        if step.event == "ready":
            self._list_files(dataset_id, number)
        self._store.move_version(dataset_id, number, step.event, self._clock.now())
        if step.event == "ready" and row["delete_old"]:
            for old in self._store.rows(
                "SELECT number FROM dataset_versions"
                " WHERE dataset_id = ? AND number < ? AND state IN ('READY', 'FAILED')",
                *(dataset_id, number),
            ):
                self._store.move_version(dataset_id, old["number"], "deleted", self._clock.now())
                shutil.rmtree(self._layout.version(dataset_id, old["number"]), ignore_errors=True)

    def _list_files(self, dataset_id: int, number: int) -> None:
        folder = self._layout.version(dataset_id, number)
        with self._store.transaction():
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                with path.open("rb") as file:
                    md5 = hashlib.file_digest(file, "md5").hexdigest()
                self._store.insert(
                    "dataset_files",
                    dataset_id=dataset_id,
                    number=number,
                    path=path.relative_to(folder).as_posix(),
                    size=path.stat().st_size,
                    md5=md5,
                )

    def _unpack(self, folder: Path) -> None:
        """Turn every archive at the top of a version into a folder of its members, as Kaggle does.

        Raises UnpackRefused.
        """
        budget = [self._store.settings.unpacked_limit_bytes, self._store.settings.unpacked_limit_files]
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            suffix = next((suffix for suffix in ARCHIVES if path.name.lower().endswith(suffix)), None)
            if suffix is None or not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
                continue
            aside = path.with_name(f".{path.name}.unpacking")
            for name, stream in _members(path):
                budget[1] -= 1
                place = aside / _inside(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                with stream, place.open("wb") as file:
                    while chunk := stream.read(1 << 20):
                        budget[0] -= len(chunk)
                        if min(budget) < 0:
                            raise UnpackRefused(f"{path.name} unpacks to more than is allowed")
                        file.write(chunk)
            aside.mkdir(exist_ok=True)
            path.unlink()
            final = path.with_name(path.name[: -len(suffix)])
            if final.exists():
                raise UnpackRefused(f"{path.name} unpacks over {final.name}")
            os.replace(aside, final)

    def _created(self, owner: str, slug: str) -> Json:
        return {
            "ref": f"/datasets/{owner}/{slug}",
            "url": f"{self._url}/datasets/{owner}/{slug}",
            "status": "ok",
            "error": "",
        }

    def _hidden(self, dataset: Row) -> bool:
        return bool(self._clock.now() - dataset["created_at"] < self._store.settings.dataset_hidden_s)

    def _dataset(self, account: Account, body: Json, permission: str) -> Row:
        row = self._store.row(
            "SELECT * FROM datasets WHERE owner = ? AND slug = ?",
            *(str(body.get("ownerSlug", "")), str(body.get("datasetSlug", ""))),
        )
        if row is None or row["owner"] != account.username or self._hidden(row):
            raise errors.denied(permission)
        return row

    def _versions(self, dataset_id: int) -> list[Row]:
        return self._store.rows(
            "SELECT * FROM dataset_versions WHERE dataset_id = ? AND state != 'DELETED' ORDER BY number DESC",
            dataset_id,
        )

    def _ready(self, dataset: Row, body: Json) -> Row:
        """The READY version that is asked for, or the newest. Raises 404."""
        wanted = int(body.get("datasetVersionNumber") or 0)
        for row in self._versions(dataset["id"]):
            if row["state"] == "READY" and wanted in (0, row["number"]):
                return row
        raise errors.not_found()

    def _described(self, dataset: Row) -> Json:
        versions = self._versions(dataset["id"])
        ready = [row for row in versions if row["state"] == "READY"]
        total = self._store.row(
            "SELECT COALESCE(SUM(size), 0) AS n FROM dataset_files WHERE dataset_id = ? AND number = ?",
            *(dataset["id"], ready[0]["number"] if ready else 0),
        )
        return {
            "id": dataset["id"],
            "ref": f"{dataset['owner']}/{dataset['slug']}",
            "title": dataset["title"],
            "subtitle": dataset["subtitle"],
            "ownerName": dataset["owner"],
            "ownerRef": dataset["owner"],
            "creatorName": dataset["owner"],
            "url": f"{self._url}/datasets/{dataset['owner']}/{dataset['slug']}",
            "isPrivate": bool(dataset["is_private"]),
            "licenseName": dataset["license"],
            "lastUpdated": timestamp(versions[0]["created_at"] if versions else dataset["created_at"]),
            "totalBytes": total["n"] if total else 0,
            "currentVersionNumber": ready[0]["number"] if ready else 0,
            "versions": [
                {
                    "versionNumber": row["number"],
                    "creationDate": timestamp(row["created_at"]),
                    "creatorName": dataset["owner"],
                    "creatorRef": dataset["owner"],
                    "versionNotes": row["notes"],
                    "status": row["state"].capitalize(),
                }
                for row in versions
            ],
            "files": [],
            "tags": [],
        }


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Regular files in an archive."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, archive.open(info)
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None:
                        yield member.name, stream
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
        raise UnpackRefused(f"{path.name} is broken: {error}") from error


def _inside(name: str) -> str:
    try:
        return relative_name(name)
    except errors.RpcError as error:
        raise UnpackRefused(f"a member is named {name!r}") from error
