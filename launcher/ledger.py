"""What was launched, and where everything of a run lies: the only module that joins those paths.

One SQLite file in the user's state folder; two commands at once and a crash in the middle leave it whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.config import RunConfig, canonical_json, from_mapping
from launcher import paths
from launcher.errors import LauncherError, UnknownRun


class SessionTaken(LauncherError):
    """Raised when another command has just begun the same session of a run."""


@dataclass(frozen=True)
class Run:
    """One training, on one target, with everything of it in one folder."""

    run_id: str
    target: str
    username: str
    created: float
    folder: Path
    config_json: str

    @property
    def config(self) -> RunConfig:
        """What the run trains."""
        return from_mapping(RunConfig, json.loads(self.config_json))

    @property
    def dataset(self) -> str:
        """`owner/slug` of the dataset that takes the run's checkpoints."""
        return f"{self.username}/{self.run_id}-ckpt"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that were brought back."""
        return self.folder / "checkpoints"

    def slug(self, session: int) -> str:
        """The kernel of one session; never pushed twice."""
        return f"{self.run_id}-s{session}"

    def log(self, session: int) -> Path:
        """The whole log of one session, as far as it was seen."""
        return self.folder / f"session-{session}.log"

    def script(self, session: int) -> Path:
        """The kernel script of one session, as it was pushed."""
        return self.folder / f"session-{session}.py"


@dataclass(frozen=True)
class Session:
    """One kernel execution of a run, and what is known of it."""

    run_id: str
    number: int
    device: str
    accelerator: str
    max_seconds: float
    max_timesteps_at_risk: int
    publish_interval_seconds: float
    pushed: float
    script_sha256: str
    submission: str
    """`pushing`, `pushed`, `refused` or `unknown` (the answer was lost)."""
    status: str
    """The platform's last known state; empty while it was never asked."""
    message: str
    session_id: int | None
    resumed_timesteps: int | None
    seen_timesteps: int | None
    """Furthest timestep that the log told."""
    published_timesteps: int | None
    """Furthest timestep known to be in a dataset version."""
    result: str
    """The kernel's own word: finished, deadline, flood, unhealthy, crashed, stopped; empty without one."""
    alert: str
    """The alert that ended it from here; empty without one."""


class Ledger:
    """The ledger in `path`."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.state_dir() / "ledger.sqlite"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._connected() as db:
            _migrate(db)

    def add_run(self, run: Run) -> None:
        """Record a new run."""
        with self._connected() as db:
            db.execute(
                "INSERT INTO runs (run_id, target, username, created, folder, config_json) VALUES (?, ?, ?, ?, ?, ?)",
                (run.run_id, run.target, run.username, run.created, str(run.folder), run.config_json),
            )

    def forget_session(self, run_id: str, number: int) -> None:
        """Drop a session that never started, and its run with it when it was the first."""
        with self._connected() as db:
            db.execute("DELETE FROM sessions WHERE run_id = ? AND number = ?", (run_id, number))
            if number == 1:
                db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        with self._connected() as db:
            rows = db.execute("SELECT * FROM runs ORDER BY created DESC, rowid DESC").fetchall()
        return [Run(**{**dict(row), "folder": Path(row["folder"])}) for row in rows]

    def run(self, run_id: str | None = None) -> Run:
        """The run of that name, or the newest one.

        Raises
        ------
        UnknownRun
            There is none; the message lists those that are.
        """
        runs = self.runs()
        for run in runs:
            if run_id is None or run.run_id == run_id:
                return run
        if not runs:
            asked = f"No run {run_id!r} is known" if run_id else "No run is known yet"
            raise UnknownRun(
                f"{asked}: nothing was pushed from this machine.\nStart one with `kaglaunch push --quick`."
            )
        known = ", ".join(run.run_id for run in runs[:8]) + (", …" if len(runs) > 8 else "")
        raise UnknownRun(f"No run {run_id!r} is known. Known runs, newest first: {known}.\n`kaglaunch runs` lists all.")

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
    ) -> int:
        """Take the number after session `after` (0 for the first) for a push that starts now.

        Raises
        ------
        SessionTaken
            Another command took it first.
        """
        number = after + 1
        try:
            with self._connected() as db:
                db.execute(
                    "INSERT INTO sessions (run_id, number, device, accelerator, max_seconds, max_timesteps_at_risk,"
                    " publish_interval_seconds, pushed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run.run_id,
                        number,
                        device,
                        accelerator or "",
                        max_seconds,
                        max_timesteps_at_risk,
                        publish_interval_seconds,
                        time.time(),
                    ),
                )
        except sqlite3.IntegrityError as error:
            raise SessionTaken(
                f"Session {number} of run {run.run_id} was begun by another command just now.\n"
                f"Follow it with `kaglaunch watch {run.run_id}`."
            ) from error
        return number

    def update_session(self, run_id: str, number: int, **values: Any) -> None:
        """Write what became known; timesteps only ever grow."""
        unknown = set(values) - {field.name for field in dataclasses.fields(Session)}
        assert not unknown, unknown
        growing = ("seen_timesteps", "published_timesteps")
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

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlite3.connect(self._path, timeout=20)
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


def new_run(run_id: str, target: str, username: str, config: RunConfig, folder: Path) -> Run:
    """A run that begins now, its folder below `folder`."""
    return Run(
        run_id, target, username, time.time(), folder / "runs" / run_id, canonical_json(dataclasses.asdict(config))
    )


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


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_m001_initial,)


def _migrate(db: sqlite3.Connection) -> None:
    """Apply what the file has not seen yet; the count of applied ones is its user_version."""
    if db.execute("PRAGMA user_version").fetchone()[0] >= len(_MIGRATIONS):
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    applied = db.execute("PRAGMA user_version").fetchone()[0]
    for migration in _MIGRATIONS[applied:]:
        migration(db)
    db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
