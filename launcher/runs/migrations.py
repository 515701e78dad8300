"""How the ledger's file came to its present form: one function a change, applied once each, in order."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from launcher.runs.records import ENDED

BUSY_S = 20.0
"""Longest wait for another command that writes."""


def _m001_initial(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE runs (run_id TEXT PRIMARY KEY, target TEXT NOT NULL, username TEXT NOT NULL,"
        " created REAL NOT NULL, folder TEXT NOT NULL, config_json TEXT NOT NULL)"
    )
    db.execute(
        "CREATE TABLE sessions (run_id TEXT NOT NULL REFERENCES runs, number INTEGER NOT NULL, device TEXT NOT NULL,"
        " accelerator TEXT NOT NULL, max_seconds REAL NOT NULL, max_timesteps_at_risk INTEGER NOT NULL,"
        " publish_interval_seconds REAL NOT NULL, pushed REAL NOT NULL, script_sha256 TEXT NOT NULL DEFAULT '',"
        " submission TEXT NOT NULL DEFAULT 'pushing', status TEXT NOT NULL DEFAULT '',"
        " message TEXT NOT NULL DEFAULT '',"
        " session_id INTEGER, resumed_timesteps INTEGER, seen_timesteps INTEGER, published_timesteps INTEGER,"
        " result TEXT NOT NULL DEFAULT '', alert TEXT NOT NULL DEFAULT '', PRIMARY KEY (run_id, number))"
    )


def _m002_places_digests_relays(db: sqlite3.Connection) -> None:
    for column in ("target", "code_digest", "config_digest"):
        db.execute(f"ALTER TABLE sessions ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE sessions SET target = (SELECT target FROM runs WHERE runs.run_id = sessions.run_id)")
    db.execute(
        "CREATE TABLE relays (run_id TEXT PRIMARY KEY REFERENCES runs, device TEXT NOT NULL, accelerator TEXT NOT NULL,"
        " max_hours REAL NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL, since INTEGER NOT NULL)"
    )


def _m003_device_in_use(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN trains_on TEXT NOT NULL DEFAULT ''")


def _m004_typed_alerts(db: sqlite3.Connection) -> None:
    """An alert was the sentence `STOP rule: message`."""
    db.execute("ALTER TABLE sessions RENAME COLUMN alert TO alert_message")
    db.execute("ALTER TABLE sessions ADD COLUMN alert_rule TEXT NOT NULL DEFAULT ''")
    for run_id, number, said in db.execute("SELECT run_id, number, alert_message FROM sessions").fetchall():
        level_and_rule, _, message = said.partition(": ")
        rule = level_and_rule.partition(" ")[2] or level_and_rule
        db.execute(
            "UPDATE sessions SET alert_rule = ?, alert_message = ? WHERE run_id = ? AND number = ?",
            (rule, message, run_id, number),
        )


def _m005_when_seen(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN seen_at REAL NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE sessions ADD COLUMN log_complete INTEGER NOT NULL DEFAULT 0")
    # A session's end was written down only by who had followed its log.
    marks = ", ".join("?" for _ in ENDED)
    db.execute(f"UPDATE sessions SET log_complete = 1 WHERE status IN ({marks}) AND seen_timesteps IS NOT NULL", ENDED)


def _m006_notes_and_tags(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE runs ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'")


def _m007_told_total(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN total_timesteps INTEGER")


def _m008_exactness(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN exactness TEXT NOT NULL DEFAULT ''")


def _m009_what_was_at_risk(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN most_at_risk INTEGER")
    db.execute("ALTER TABLE sessions ADD COLUMN most_at_risk_s REAL")
    db.execute("ALTER TABLE sessions ADD COLUMN risk_message TEXT NOT NULL DEFAULT ''")


def _m010_largest_publish(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE sessions ADD COLUMN publish_bytes INTEGER")
    db.execute("ALTER TABLE sessions ADD COLUMN publish_s REAL")


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _m001_initial,
    _m002_places_digests_relays,
    _m003_device_in_use,
    _m004_typed_alerts,
    _m005_when_seen,
    _m006_notes_and_tags,
    _m007_told_total,
    _m008_exactness,
    _m009_what_was_at_risk,
    _m010_largest_publish,
)


def write_ahead(db: sqlite3.Connection) -> None:
    """Keep a write-ahead log. SQLite itself does not wait here for another command that makes the file just now."""
    began = time.monotonic()
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() - began > BUSY_S:
                raise
        time.sleep(0.02)


def migrate(db: sqlite3.Connection) -> None:
    """Apply what the file has not seen yet; the count of applied ones is its user_version."""
    if db.execute("PRAGMA user_version").fetchone()[0] >= len(_MIGRATIONS):
        return
    write_ahead(db)
    db.execute("BEGIN IMMEDIATE")
    applied = db.execute("PRAGMA user_version").fetchone()[0]
    for migration in _MIGRATIONS[applied:]:
        migration(db)
    db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
