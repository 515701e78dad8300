"""What was launched: runs, sessions and relays in one SQLite file of the user's state folder.

Two commands at once and a crash in the middle leave it whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import paths, suggestions
from launcher.errors import AmbiguousRun, LauncherError, UnknownRun
from launcher.reasons import reason
from launcher.runs.migrations import BUSY_S, migrate
from launcher.runs.records import Relay, Run, Session


class SessionTaken(LauncherError):
    """Raised when another command has just begun the same session of a run."""


class Ledger:
    """The ledger in `path`."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.state_dir() / "ledger.sqlite"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LauncherError(
                f"What is known of runs lies in {self._path.parent}, which cannot be made: {reason(error)}.\n"
                "Set XDG_STATE_HOME to a folder that can."
            ) from error
        with self._connected() as db:
            migrate(db)

    def add_run(self, run: Run) -> None:
        """Record a new run."""
        with self._connected() as db:
            db.execute(
                "INSERT INTO runs (run_id, target, username, created, folder, config_json, note, tags)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.run_id, run.target, run.username, run.created, str(run.folder), run.config_json),
                    *(run.note, json.dumps(run.tags)),
                ),
            )

    def describe_run(self, run_id: str, *, note: str | None = None, tags: Sequence[str] | None = None) -> None:
        """Write another note or other tags; None keeps what is there."""
        with self._connected() as db:
            if note is not None:
                db.execute("UPDATE runs SET note = ? WHERE run_id = ?", (note, run_id))
            if tags is not None:
                db.execute("UPDATE runs SET tags = ? WHERE run_id = ?", (json.dumps(list(tags)), run_id))

    def forget_session(self, run_id: str, number: int) -> None:
        """Drop a session that never started, and its run with it when it was the only one."""
        with self._connected() as db:
            db.execute("DELETE FROM sessions WHERE run_id = ? AND number = ?", (run_id, number))
            db.execute(
                "DELETE FROM runs WHERE run_id = ? AND NOT EXISTS (SELECT 1 FROM sessions WHERE run_id = ?)",
                (run_id, run_id),
            )

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        with self._connected() as db:
            rows = db.execute("SELECT * FROM runs ORDER BY created DESC, rowid DESC").fetchall()
        return [
            Run(**{**dict(row), "folder": Path(row["folder"]), "tags": tuple(json.loads(row["tags"]))}) for row in rows
        ]

    def run(self, name: str | None = None, folder: Path | None = None) -> Run:
        """The run of that name or of the only one that begins with it; without a name the newest of `folder`.

        `folder` is the present one unless said otherwise; runs of the folders above and below it are not meant.

        Raises
        ------
        UnknownRun
            There is none; the message lists those that are, or proposes one that is written alike.
        AmbiguousRun
            Several begin so; the message lists them.
        """
        runs = self.runs()
        if name is None:
            return _newest_of((folder or Path.cwd()).resolve(), runs)
        return _named(name, runs)

    def begin_session(
        self,
        run: Run,
        *,
        device: str,
        accelerator: str | None,
        max_seconds: float,
        max_timesteps_at_risk: int,
        publish_interval_seconds: float,
        after: int,
        target: str = "",
        **known: Any,
    ) -> int:
        """Take the number after session `after` (0 for the first) for a push to `target` that starts now.

        `target` is the run's own unless said otherwise; `known` are other fields of the session.

        Raises
        ------
        SessionTaken
            Another command took it first.
        """
        number = after + 1
        values = {
            "run_id": run.run_id,
            "number": number,
            "device": device,
            "accelerator": accelerator or "",
            "max_seconds": max_seconds,
            "max_timesteps_at_risk": max_timesteps_at_risk,
            "publish_interval_seconds": publish_interval_seconds,
            "pushed": time.time(),
            "target": target or run.target,
            **known,
        }
        _require_fields(Session, known)
        try:
            with self._connected() as db:
                db.execute(
                    f"INSERT INTO sessions ({', '.join(values)}) VALUES ({', '.join('?' for _ in values)})",
                    tuple(values.values()),
                )
        except sqlite3.IntegrityError as error:
            raise SessionTaken(
                f"Session {number} of run {run.run_id} was begun by another command just now.\n"
                f"Follow it with `kaglaunch watch {run.run_id}`."
            ) from error
        return number

    def update_session(self, run_id: str, number: int, *, taken_back: bool = False, **values: Any) -> None:
        """Write what became known, if anything did; timesteps only ever grow.

        Where something was `taken_back`, what is published is what is said now.
        """
        if not values:
            return
        _require_fields(Session, values)
        growing = {"seen_timesteps", "published_timesteps", "most_at_risk", "most_at_risk_s"}
        growing -= {"published_timesteps"} if taken_back else set()
        clauses = [f"{name} = MAX(COALESCE({name}, 0), ?)" if name in growing else f"{name} = ?" for name in values]
        with self._connected() as db:
            db.execute(
                f"UPDATE sessions SET {', '.join(clauses)} WHERE run_id = ? AND number = ?",
                (*values.values(), run_id, number),
            )

    def sessions(self, run_id: str) -> list[Session]:
        """Sessions of a run, first to last."""
        with self._connected() as db:
            rows = db.execute("SELECT * FROM sessions WHERE run_id = ? ORDER BY number", (run_id,)).fetchall()
        return [Session(**dict(row)) for row in rows]

    def sessions_of(self, target: str, username: str) -> list[Session]:
        """Sessions of all runs of an account, newest first."""
        asked = "SELECT s.* FROM sessions s JOIN runs r USING (run_id) WHERE r.target = ? AND r.username = ?"
        with self._connected() as db:
            rows = db.execute(f"{asked} ORDER BY s.pushed DESC, s.rowid DESC", (target, username)).fetchall()
        return [Session(**dict(row)) for row in rows]

    def relay(self, run_id: str) -> Relay | None:
        """The relay of a run, if one was ever begun."""
        with self._connected() as db:
            row = db.execute("SELECT * FROM relays WHERE run_id = ?", (run_id,)).fetchone()
        return Relay(**dict(row)) if row else None

    def begin_relay(self, run_id: str, *, device: str, accelerator: str, max_hours: float, since: int) -> Relay:
        """Write down that a relay of this run is wanted, in place of an earlier one."""
        relay = Relay(run_id, device, accelerator, max_hours, "on", "", since)
        with self._connected() as db:
            values = dataclasses.astuple(relay)
            db.execute(f"INSERT OR REPLACE INTO relays VALUES ({', '.join('?' for _ in values)})", values)
        return relay

    def update_relay(self, run_id: str, *, note: str, state: str = "on") -> None:
        """Write down what it is about, or that it has ended."""
        with self._connected() as db:
            db.execute("UPDATE relays SET state = ?, note = ? WHERE run_id = ?", (state, note, run_id))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlite3.connect(self._path, timeout=BUSY_S)
            db.row_factory = sqlite3.Row
            with contextlib.closing(db), db:
                yield db
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise LauncherError(
                f"The ledger {self._path} cannot be used: {error}.\n"
                "If it is damaged, move it away: runs on the target are not touched by that."
            ) from error


def _newest_of(folder: Path, runs: list[Run]) -> Run:
    if found := next((run for run in runs if run.pushed_from == folder), None):
        return found
    if not runs:
        raise UnknownRun("No run is known yet: nothing was pushed from this machine.\n" + _START)
    known = "\n".join(f"  {run.run_id}  of {run.pushed_from}" for run in runs[:_LISTED])
    more = "\n`kaglaunch runs` lists all." if len(runs) > _LISTED else ""
    raise UnknownRun(
        f"No run was pushed from this folder, {folder}, and none was named. Known runs, newest first:\n{known}\n"
        f"Name the one that is meant, as in `… {runs[0].run_id}`, or start one here with `kaglaunch push`.{more}"
    )


def _named(name: str, runs: list[Run]) -> Run:
    if exact := next((run for run in runs if run.run_id == name), None):
        return exact
    begun = [run for run in runs if name and run.run_id.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        listed = "\n".join(f"  {run.run_id}  of {run.pushed_from}" for run in begun[:_LISTED])
        raise AmbiguousRun(f"{len(begun)} runs begin with {name!r}, newest first:\n{listed}\nType more letters of one.")
    if not runs:
        raise UnknownRun(f"No run {name!r} is known: nothing was pushed from this machine.\n{_START}")
    known = ", ".join(run.run_id for run in runs[:_LISTED]) + (", …" if len(runs) > _LISTED else "")
    meant = suggestions.did_you_mean(name, [run.run_id for run in runs])
    raise UnknownRun(
        f"No run {name!r} is known.{meant} Known runs, newest first: {known}.\n`kaglaunch runs` lists all."
    )


_LISTED = 8
_START = "Start one with `kaglaunch push --quick`."


def _require_fields(cls: type, values: Mapping[str, Any]) -> None:
    unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
    assert not unknown, unknown
