"""What the service remembers: one SQLite file in WAL mode. No HTTP, no processes.

One connection, one lock: a `transaction()` holds both, so nothing slow may happen inside.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.local_kaggle import states
from launcher.local_kaggle.settings import Settings

Row = sqlite3.Row


def m001_initial(db: sqlite3.Connection) -> None:
    db.executescript(
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE counters (kind TEXT PRIMARY KEY, given INTEGER NOT NULL);
        CREATE TABLE kernels (
            id INTEGER PRIMARY KEY, owner TEXT NOT NULL, slug TEXT NOT NULL, title TEXT NOT NULL,
            created_at REAL NOT NULL, current_version INTEGER NOT NULL DEFAULT 0, UNIQUE (owner, slug));
        CREATE TABLE kernel_versions (
            kernel_id INTEGER NOT NULL REFERENCES kernels (id) ON DELETE CASCADE, number INTEGER NOT NULL,
            request TEXT NOT NULL, created_at REAL NOT NULL, session_id INTEGER,
            PRIMARY KEY (kernel_id, number));
        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY, kernel_id INTEGER NOT NULL, owner TEXT NOT NULL, slug TEXT NOT NULL,
            version INTEGER NOT NULL, machine TEXT NOT NULL, shape TEXT NOT NULL, limit_s REAL NOT NULL,
            internet INTEGER NOT NULL, datasets TEXT NOT NULL, source TEXT NOT NULL,
            state TEXT NOT NULL, entered_at REAL NOT NULL, created_at REAL NOT NULL,
            started_at REAL, ended_at REAL, ending TEXT, failure_message TEXT,
            runner_pid INTEGER, runner_born REAL, api_token_sha256 TEXT, user_token_sha256 TEXT,
            log_kept INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0);
        CREATE INDEX sessions_by_state ON sessions (state);
        CREATE TABLE output_files (
            session_id INTEGER NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL,
            created_at REAL NOT NULL, PRIMARY KEY (session_id, path));
        CREATE TABLE uploads (
            token TEXT PRIMARY KEY, upload_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
            state TEXT NOT NULL, created_at REAL NOT NULL);
        CREATE TABLE datasets (
            id INTEGER PRIMARY KEY, owner TEXT NOT NULL, slug TEXT NOT NULL, title TEXT NOT NULL,
            subtitle TEXT NOT NULL, description TEXT NOT NULL, license TEXT NOT NULL, is_private INTEGER NOT NULL,
            created_at REAL NOT NULL, last_version INTEGER NOT NULL DEFAULT 0, UNIQUE (owner, slug));
        CREATE TABLE dataset_versions (
            dataset_id INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE, number INTEGER NOT NULL,
            notes TEXT NOT NULL, state TEXT NOT NULL, entered_at REAL NOT NULL, created_at REAL NOT NULL,
            delete_old INTEGER NOT NULL, failure TEXT, PRIMARY KEY (dataset_id, number));
        CREATE TABLE dataset_files (
            dataset_id INTEGER NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
            md5 TEXT NOT NULL, PRIMARY KEY (dataset_id, number, path),
            FOREIGN KEY (dataset_id, number) REFERENCES dataset_versions (dataset_id, number) ON DELETE CASCADE);
        CREATE TABLE faults (
            name TEXT PRIMARY KEY, value TEXT NOT NULL, skip INTEGER NOT NULL, times INTEGER, set_at REAL NOT NULL,
            taken INTEGER NOT NULL DEFAULT 0);
        """
    )


def m002_several_rules_a_fault(db: sqlite3.Connection) -> None:
    db.executescript(
        """
        DROP TABLE faults;
        CREATE TABLE faults (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, value TEXT NOT NULL, skip INTEGER NOT NULL,
            times INTEGER, taken INTEGER NOT NULL DEFAULT 0, set_at REAL NOT NULL);
        """
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_initial, m002_several_rules_a_fault)
"""Applied once each, in this order, and recorded by name."""

ID_STRIDE = {"kernel": 97, "session": 1013, "dataset": 89}
ID_BASE = {"kernel": 93_000_000, "session": 270_000_000, "dataset": 6_000_000}
"""Ids of one kind are STRIDE apart plus a random part below STRIDE; ids of two kinds never meet."""


class Store:
    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._migrate()
        self.settings = Settings().changed(json.loads(self.meta("settings") or "{}"))

    def _migrate(self) -> None:
        self._db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
        applied = {row["name"] for row in self._db.execute("SELECT name FROM migrations")}
        for migration in MIGRATIONS:
            if migration.__name__ not in applied:
                migration(self._db)
                self._db.execute("INSERT INTO migrations VALUES (?)", (migration.__name__,))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """Everything inside happens or nothing does; nested ones join the outermost."""
        with self._lock:
            if self._db.in_transaction:
                yield self
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def execute(self, sql: str, *values: Any) -> int:
        """Run one statement; the number of rows it changed."""
        with self._lock:
            return self._db.execute(sql, values).rowcount

    def rows(self, sql: str, *values: Any) -> list[Row]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> Row | None:
        with self._lock:
            found: Row | None = self._db.execute(sql, values).fetchone()
            return found

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())

    def meta(self, key: str) -> str | None:
        found = self.row("SELECT value FROM meta WHERE key = ?", key)
        return None if found is None else str(found["value"])

    def set_meta(self, key: str, value: str) -> None:
        self.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
        )

    def change_settings(self, values: dict[str, Any]) -> Settings:
        with self.transaction():
            self.settings = self.settings.changed(values)
            self.set_meta("settings", self.settings.to_json())
        return self.settings

    def new_id(self, kind: str) -> int:
        """A new id: reproducible from the seed and the count of ids given out before."""
        with self.transaction():
            self.execute("INSERT INTO counters VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET given = given + 1", kind)
            given = self.rows("SELECT given FROM counters WHERE kind = ?", kind)[0]["given"]
        stride = ID_STRIDE[kind]
        return ID_BASE[kind] + given * stride + random.Random(f"{self.settings.seed}:{kind}:{given}").randrange(stride)

    def due(self, machine: str, state: str) -> tuple[str, float]:
        """(event, delay [s]) of the transition that happens in `state` by itself."""
        row = states.timed(machine, state)
        assert row is not None
        assert row.delay is not None
        return row.event, float(getattr(self.settings, row.delay))

    def move_session(self, session_id: int, event: str, now: float, **changes: Any) -> str:
        """Put a session through `event` and set `changes` with it; the state it is in now.

        Raises IllegalTransition if its state does not know the event.
        """
        with self.transaction():
            state = self.rows("SELECT state FROM sessions WHERE id = ?", session_id)[0]["state"]
            reached = states.target(states.SESSION, state, event)
            changes = {"state": reached, "entered_at": now, **changes}
            if states.is_final(states.SESSION, reached):
                changes.setdefault("ended_at", now)
            assignments = ", ".join(f"{name} = ?" for name in changes)
            self.execute(f"UPDATE sessions SET {assignments} WHERE id = ?", *changes.values(), session_id)
        return reached

    def move_version(self, dataset_id: int, number: int, event: str, now: float, failure: str | None = None) -> str:
        """Put a dataset version through `event`; the state it is in now."""
        with self.transaction():
            where = "WHERE dataset_id = ? AND number = ?"
            state = self.rows(f"SELECT state FROM dataset_versions {where}", dataset_id, number)[0]["state"]
            reached = states.target(states.DATASET_VERSION, state, event)
            self.execute(
                f"UPDATE dataset_versions SET state = ?, entered_at = ?, failure = ? {where}",
                *(reached, now, failure, dataset_id, number),
            )
        return reached
