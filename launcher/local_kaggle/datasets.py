"""Datasets and their versions: snapshots, processed step by step, kept until they are deleted."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from launcher.local_kaggle import archives, errors, states
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.files import Layout, is_plain_name, md5_of, regular_files, remove_tree
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store
from launcher.local_kaggle.uploads import Uploads

log = logging.getLogger(__name__)

LEAST_NAME, MOST_NAME = 6, 50
IN_PROCESS = (
    "NOT_YET_PERSISTED",
    "BLOBS_RECEIVED",
    "BLOBS_DECOMPRESSED",
    "BLOBS_COPIED_TO_SDS",
    "INDIVIDUAL_BLOBS_COMPRESSED",
)


class Refused(Exception):
    """A refusal that Kaggle sends as HTTP 200 with `status: error`."""


@dataclass(frozen=True)
class Version:
    dataset_id: int
    slug: str
    number: int
    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"


@dataclass(frozen=True)
class NewFile:
    """One file of a version to be: its path in the version and the token of its bytes."""

    path: str
    token: str


class Datasets:
    def __init__(self, store: Store, layout: Layout, clock: Clock, faults: Faults, uploads: Uploads) -> None:
        self._store = store
        self._layout = layout
        self._clock = clock
        self._faults = faults
        self._uploads = uploads
        self._jobs: dict[tuple[int, int], Future[None]] = {}
        self._ticking = threading.Lock()
        self._packing = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="dataset")

    def find(self, owner: str, slug: str) -> Row | None:
        """The dataset, or None while it is missing or so new that Kaggle does not show it yet."""
        row = self._store.row("SELECT * FROM datasets WHERE owner = ? AND slug = ?", owner, slug)
        if row is None or self._clock.now() < row["created_at"] + self._store.settings.dataset_hidden_s:
            return None
        return row

    def by_id(self, dataset_id: int) -> Row | None:
        return self._store.row("SELECT * FROM datasets WHERE id = ?", dataset_id)

    def of_owner(self, owner: str) -> list[Row]:
        rows = self._store.rows("SELECT * FROM datasets WHERE owner = ? ORDER BY created_at DESC, id DESC", owner)
        return [row for row in rows if self.find(owner, row["slug"]) is not None]

    def versions(self, dataset_id: int) -> list[Row]:
        """Its versions that exist, newest first."""
        sql = "SELECT * FROM dataset_versions WHERE dataset_id = ? AND state != 'DELETED' ORDER BY number DESC"
        return self._store.rows(sql, dataset_id)

    def ready_version(self, owner: str, slug: str, number: int | None = None) -> Version | None:
        """The version `number` (default: the latest) if it is READY."""
        row = self.find(owner, slug)
        if row is None:
            return None
        for version in self.versions(row["id"]):
            if version["state"] == "READY" and number in (None, version["number"]):
                folder = self._layout.version(row["id"], version["number"])
                return Version(row["id"], row["slug"], version["number"], folder)
        return None

    def files(self, version: Version) -> list[Row]:
        sql = "SELECT * FROM dataset_files WHERE dataset_id = ? AND number = ? ORDER BY path"
        return self._store.rows(sql, version.dataset_id, version.number)

    def create(
        self,
        owner: str,
        slug: str,
        title: str,
        files: list[NewFile],
        *,
        subtitle: str = "",
        description: str = "",
        license_name: str = "",
        is_private: bool = True,
    ) -> Row:
        """A new dataset and its first version. Raises Refused (name taken or unfit) or RpcError (files)."""
        if not (slug.isascii() and is_plain_name(slug) and LEAST_NAME <= len(slug) <= MOST_NAME):
            raise Refused(errors.TOO_SHORT_SLUG.format(least=LEAST_NAME, most=MOST_NAME))
        if not LEAST_NAME <= len(title) <= MOST_NAME:
            raise Refused(errors.TOO_SHORT_TITLE.format(least=LEAST_NAME, most=MOST_NAME))
        if self._store.row("SELECT 1 FROM datasets WHERE owner = ? AND slug = ?", owner, slug):
            raise Refused(errors.TITLE_IN_USE.format(title=title))
        self._check(owner, files)
        with self._store.transaction():
            dataset_id = self._store.new_id("dataset")
            self._store.insert(
                "datasets",
                **{"id": dataset_id, "owner": owner, "slug": slug, "title": title, "subtitle": subtitle},
                **{"description": description, "license": license_name, "is_private": int(is_private)},
                **{"created_at": self._clock.now()},
            )
            self._add_version(dataset_id, owner, files, notes="Initial release", delete_old=False)
        self._uploads.consume([file.token for file in files])
        return self._store.rows("SELECT * FROM datasets WHERE id = ?", dataset_id)[0]

    def create_version(self, row: Row, files: list[NewFile], notes: str, delete_old: bool) -> int:
        """A new version, holding `files` and nothing else. Raises RpcError 403 until the first one is READY."""
        if not any(version["state"] == "READY" for version in self.versions(row["id"])):
            raise errors.denied("datasets.update")
        self._check(row["owner"], files)
        with self._store.transaction():
            number = self._add_version(row["id"], row["owner"], files, notes, delete_old)
        self._uploads.consume([file.token for file in files])
        return number

    def delete(self, row: Row) -> None:
        self._store.execute("DELETE FROM datasets WHERE id = ?", row["id"])
        remove_tree(self._layout.version(row["id"], 0).parent)

    def tick(self, settle_s: float = 0.0) -> None:
        """Let every version take the step that is due. Steps run beside; waits up to `settle_s` for them."""
        if self._faults.peek("dataset_stuck") is not None:
            return
        with self._ticking:
            self._jobs = {key: job for key, job in self._jobs.items() if not job.done()}
            marks = ", ".join("?" for _ in IN_PROCESS)
            sql = f"SELECT * FROM dataset_versions WHERE state IN ({marks}) ORDER BY dataset_id, number"
            for row in self._store.rows(sql, *IN_PROCESS):
                key = (row["dataset_id"], row["number"])
                event, delay_s = self._store.due(states.DATASET_VERSION, row["state"])
                if key not in self._jobs and self._clock.now() >= row["entered_at"] + delay_s:
                    self._jobs[key] = self._pool.submit(self._guarded, row, event)
            pending = list(self._jobs.values())
        if settle_s:
            wait(pending, timeout=settle_s)

    def archive(self, version: Version) -> Path:
        """The whole version as one zip, made when it is first asked for."""
        path = version.folder / "archive.zip"
        with self._packing:
            if not path.exists():
                archives.pack(version.files, path, [row["path"] for row in self.files(version)])
        return path

    def zipped_file(self, version: Version, name: str) -> Path:
        """One file of the version as `<name>.zip`, as large ones are served."""
        path = version.folder / "zipped" / f"{name}.zip"
        with self._packing:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                archives.pack((version.files / name).parent, path, [Path(name).name])
        return path

    def _check(self, owner: str, files: list[NewFile]) -> None:
        if not files:
            raise errors.bad_request("A dataset version needs at least one file")
        paths = [file.path for file in files]
        if len(set(paths)) != len(paths):
            raise errors.bad_request("Two files of a dataset version have the same name")
        for file in files:
            self._uploads.by_token(owner, file.token)

    def _add_version(self, dataset_id: int, owner: str, files: list[NewFile], notes: str, delete_old: bool) -> int:
        self._store.execute("UPDATE datasets SET last_version = last_version + 1 WHERE id = ?", dataset_id)
        number = int(self._store.rows("SELECT last_version FROM datasets WHERE id = ?", dataset_id)[0]["last_version"])
        incoming = self._layout.version(dataset_id, number) / "incoming"
        remove_tree(incoming)
        for file in files:
            path = incoming / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(self._uploads.blob(self._uploads.by_token(owner, file.token)), path)
        now = self._clock.now()
        self._store.insert(
            "dataset_versions",
            **{"dataset_id": dataset_id, "number": number, "notes": notes, "entered_at": now, "created_at": now},
            **{"state": states.INITIAL[states.DATASET_VERSION], "delete_old": int(delete_old)},
        )
        return number

    def _guarded(self, row: Row, event: str) -> None:
        try:
            self._step(row, event)
        except Exception:  # the worker's end: nobody else would report it
            if self.by_id(row["dataset_id"]) is None:
                remove_tree(self._layout.version(row["dataset_id"], 0).parent)
                return
            log.exception("dataset %d version %d: step %r failed", row["dataset_id"], row["number"], event)

    def _step(self, row: Row, event: str) -> None:
        dataset_id, number = row["dataset_id"], row["number"]
        if event == "received" and self._faults.take("dataset_failed") is not None:
            self._fail(row, "ordered by the fault dataset_failed")
            return
        if event == "decompressed":
            try:
                self._unpack(dataset_id, number)
            except archives.UnpackError as error:
                self._fail(row, str(error))
                return
        self._store.move_version(dataset_id, number, event, self._clock.now())
        if event == "ready" and row["delete_old"]:
            self._delete_before(dataset_id, number)

    def _fail(self, row: Row, reason: str) -> None:
        log.warning("dataset %d version %d failed: %s", row["dataset_id"], row["number"], reason)
        self._store.move_version(row["dataset_id"], row["number"], "failed", self._clock.now(), failure=reason)

    def _unpack(self, dataset_id: int, number: int) -> None:
        folder = self._layout.version(dataset_id, number)
        if not (folder / "incoming").exists():
            return
        aside, settings = folder / "files.tmp", self._store.settings
        budget = archives.Budget(settings.unpacked_limit_bytes, settings.unpacked_limit_files)
        remove_tree(aside)
        aside.mkdir()
        for name, path in regular_files(folder / "incoming"):
            target = archives.folder_name(Path(name).name)
            if target is not None and archives.unpack(path, aside / Path(name).parent / target, budget):
                continue
            if (aside / name).exists():
                raise archives.UnpackError(f"{name!r} is there twice")
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            _link(path, aside / name)
        found = [(name, path.stat().st_size, md5_of(path)) for name, path in regular_files(aside)]
        remove_tree(folder / "files")
        os.rename(aside, folder / "files")  # a folder; `incoming`, of which it can be made again, goes last
        with self._store.transaction():
            where = "WHERE dataset_id = ? AND number = ?"
            self._store.execute(f"DELETE FROM dataset_files {where}", dataset_id, number)
            for name, size, md5 in found:
                self._store.insert("dataset_files", dataset_id=dataset_id, number=number, path=name, size=size, md5=md5)
        remove_tree(folder / "incoming")

    def _delete_before(self, dataset_id: int, number: int) -> None:
        for row in self.versions(dataset_id):
            if row["number"] < number and states.events(states.DATASET_VERSION, row["state"]) == {"deleted"}:
                self._store.move_version(dataset_id, row["number"], "deleted", self._clock.now())
                remove_tree(self._layout.version(dataset_id, row["number"]))


def _link(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`, which nobody changes in place: a hard link where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
