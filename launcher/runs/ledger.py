"""What was launched, and where everything of a run lies: the only module that joins those paths.

One SQLite file in the user's state folder; two commands at once and a crash in the middle leave it whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.contract import names
from kernel.contract.config import RunConfig, canonical_json, from_mapping
from launcher import paths, suggestions
from launcher.errors import AmbiguousRun, LauncherError, UnknownRun

HERE = "here"
"""Target of a session that runs on this machine, outside of any Kaggle."""
ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED", "NEW_SCRIPT", "DELETED")
"""States after which a session does nothing more."""

BUSY_S = 20.0
"""Longest wait for another command that writes."""


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
    note: str = ""
    """What its owner wrote down about it."""
    tags: tuple[str, ...] = ()
    """Words that its owner finds it by."""

    @property
    def config(self) -> RunConfig:
        """What the run trains."""
        return from_mapping(RunConfig, json.loads(self.config_json))

    @property
    def dataset(self) -> str:
        """`owner/slug` of the dataset that takes the run's checkpoints."""
        return f"{self.username}/{names.dataset_slug(self.run_id)}"

    @property
    def pushed_from(self) -> Path:
        """The folder whose run it is: a command without a name acts on the newest of the folder it is typed in."""
        return self.folder.parent.parent

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints that were brought back."""
        return self.folder / names.CHECKPOINTS

    @property
    def project(self) -> Path:
        """Folder of the researcher's own files, as the first session packed them."""
        return self.folder / "project"

    def slug(self, session: int) -> str:
        """The kernel of one session; never pushed twice."""
        return names.kernel_slug(self.run_id, session)

    def log(self, session: int) -> Path:
        """The whole log of one session, as far as it was seen."""
        return self.folder / f"session-{session}.log"

    def script(self, session: int) -> Path:
        """The kernel script of one session, as it was pushed."""
        return self.folder / f"session-{session}.py"

    def output(self, session: int) -> Path:
        """What a session on this machine prints, as it prints it."""
        return self.folder / f"session-{session}.output"

    @property
    def result(self) -> Path:
        """How the last session on this machine says that it ended."""
        return self.folder / names.RESULT

    @property
    def here_lock(self) -> Path:
        """Held by the session that runs on this machine."""
        return self.folder / "here.lock"

    @property
    def relay_lock(self) -> Path:
        """Held by the relay that is at work."""
        return self.folder / "relay.lock"

    @property
    def temporary(self) -> Path:
        """Where a session on this machine unpacks itself."""
        return self.folder / "here-temporary"

    def record(self, session: int) -> Path:
        """The configuration that one session was pushed with, its checks and its plan."""
        return self.folder / f"session-{session}.json"


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
    """`pushing`, `pushed`, `unknown` (the answer was lost) or `absent` (looked for in vain: it was not taken)."""
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
    alert_rule: str
    """Rule of the alert that it was ended for, by its kernel or from here; empty without one."""
    alert_message: str
    """What that alert found."""
    target: str
    """Where it runs: the run's target, or HERE."""
    code_digest: str
    """sha256 of what it runs, its configuration apart; empty where nobody here knows."""
    config_digest: str
    """`RunConfig.digest` that it was pushed with; empty where nobody here knows."""
    trains_on: str
    """Device that its log told; empty before that."""
    seen_at: float
    """When its state and its published timesteps were last seen [s since the epoch]; 0 before that."""
    log_complete: bool
    """Whether its log was followed to its end: only then is known what its end has cost."""

    @property
    def over(self) -> bool:
        """Whether it has ended, as far as anybody has seen."""
        return self.submission == "absent" or self.status in ENDED

    @property
    def alert(self) -> str:
        """The alert that it was ended for, in words; empty without one."""
        return f"{self.alert_rule}: {self.alert_message}" if self.alert_rule else ""

    @property
    def here(self) -> bool:
        """Whether it runs on this machine, on no target."""
        return self.target == HERE


@dataclass(frozen=True)
class Relay:
    """What a relay of a run was asked for; what it does next is told by the run's sessions."""

    run_id: str
    device: str
    accelerator: str
    max_hours: float
    """Session limit that its sessions ask for, where the quota has as much."""
    state: str
    """`on` until it has ended; an `on` that no process holds was interrupted."""
    note: str
    """What it was about, or why it ended, in words."""
    since: int
    """Sessions after this one are its own."""


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

    def update_session(self, run_id: str, number: int, **values: Any) -> None:
        """Write what became known; timesteps only ever grow."""
        _require_fields(Session, values)
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


def new_run(
    run_id: str,
    target: str,
    username: str,
    config: RunConfig,
    folder: Path,
    *,
    note: str = "",
    tags: Sequence[str] = (),
) -> Run:
    """A run that begins now, its folder below `folder`."""
    config_json = canonical_json(dataclasses.asdict(config))
    return Run(
        run_id, target, username, time.time(), folder / "runs" / run_id, config_json, note, tuple(dict.fromkeys(tags))
    )


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


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _m001_initial,
    _m002_places_digests_relays,
    _m003_device_in_use,
    _m004_typed_alerts,
    _m005_when_seen,
    _m006_notes_and_tags,
)


def _write_ahead(db: sqlite3.Connection) -> None:
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


def _migrate(db: sqlite3.Connection) -> None:
    """Apply what the file has not seen yet; the count of applied ones is its user_version."""
    if db.execute("PRAGMA user_version").fetchone()[0] >= len(_MIGRATIONS):
        return
    _write_ahead(db)
    db.execute("BEGIN IMMEDIATE")
    applied = db.execute("PRAGMA user_version").fetchone()[0]
    for migration in _MIGRATIONS[applied:]:
        migration(db)
    db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
