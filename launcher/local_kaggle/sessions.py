"""Sessions as real processes: started, looked after, killed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from launcher.local_kaggle import accounts, errors, states
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.paths import Layout, write_aside
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

logger = logging.getLogger(__name__)


class Sessions:
    """Every session of the installation; `tick` moves all of them to where the clock says they are."""

    def __init__(self, store: Store, layout: Layout, clock: Clock, faults: Faults, url: str) -> None:
        self._store, self._layout, self._clock, self._faults, self._url = store, layout, clock, faults, url
        self._log_read: dict[int, int] = {}

    def tick(self) -> None:
        """One look at every session that is not over."""
        marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
        for row in self._store.rows(f"SELECT * FROM sessions WHERE state IN ({marks})", *states.ACTIVE_SESSION):
            try:
                self._look(row)
            except states.IllegalTransition as error:
                # A request moved it between the query and the look.
                logger.info("session %d: %s", row["id"], error)

    def cancel(self, session_id: int) -> None:
        """Ask it to end. Raises IllegalTransition when it is over."""
        self._store.move_session(session_id, "cancel", self._clock.now())

    def end_now(self, session_id: int, event: str, message: str) -> None:
        """End it by `event` (deleted, service_stopped) with SIGKILL, outputs and log gone."""
        self._kill(session_id)
        self._finish(session_id, event, message, keep_outputs=False, keep_log=False)

    def log_events(self, session_id: int) -> Iterator[str]:
        """Its log so far, one JSON event each."""
        path = self._layout.log_of(session_id)
        if path.exists():
            with path.open(encoding="utf-8") as file:
                yield from (line.rstrip("\n") for line in file if line.endswith("\n"))

    def _look(self, row: Row) -> None:
        now, session_id = self._clock.now(), int(row["id"])
        if row["state"] == "QUEUED":
            if now - row["entered_at"] >= self._store.settings.queue_s:
                self._start(row)
        elif row["state"] == "CANCEL_REQUESTED":
            if now - row["entered_at"] >= self._store.settings.cancel_s:
                self._kill(session_id)
                self._finish(session_id, "killed", errors.CANCEL_REQUESTED, keep_outputs=False, keep_log=False)
        elif (exit_path := self._layout.exit_of(session_id)).exists():
            self._on_exit(session_id, json.loads(exit_path.read_text(encoding="utf-8"))["returncode"])
        elif now - row["started_at"] >= row["limit_s"] or self._log_matches(session_id, "session_limit_at_log"):
            self._kill(session_id)
            keep_log = bool(self._faults.value("keep_log_on_limit"))
            self._finish(session_id, "time_is_up", errors.TIME_LIMIT_REACHED, keep_outputs=False, keep_log=keep_log)
        elif self._log_matches(session_id, "out_of_memory_at_log"):
            self._kill(session_id)
            self._finish(session_id, "out_of_memory", errors.OUT_OF_MEMORY, keep_outputs=False, keep_log=True)
        elif not _lives(row):
            self._kill(session_id)
            self._finish(session_id, "machine_lost", errors.MACHINE_LOST, keep_outputs=False, keep_log=True)

    def _start(self, row: Row) -> None:
        session_id = int(row["id"])
        token, user_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        try:
            self._lay_out(row, token, user_token)
            runner = subprocess.Popen(
                [sys.executable, "-m", "launcher.local_kaggle.runner", str(self._layout.session(session_id))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._layout.session(session_id),
                env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                start_new_session=True,
            )
        except OSError as error:
            message = errors.START_FAILED.format(reason=error)
            self._finish(session_id, "start_failed", message, keep_outputs=False, keep_log=False)
            return
        now = self._clock.now()
        self._store.move_session(
            session_id,
            "machine_ready",
            now,
            started_at=now,
            runner_pid=runner.pid,
            runner_born=psutil.Process(runner.pid).create_time(),
            api_token_sha256=accounts.digest(token),
            user_token_sha256=accounts.digest(user_token),
        )

    def _lay_out(self, row: Row, token: str, user_token: str) -> None:
        """Folders, inputs and environment of a session, as Kaggle lays them out below /kaggle."""
        session_id = int(row["id"])
        root = self._layout.session(session_id)
        kaggle = root / "kaggle"
        for name in ("src", "working", "input", "temp"):
            (kaggle / name).mkdir(parents=True, exist_ok=True)
        for name in ("home", "site", "secrets"):
            (root / name).mkdir(mode=0o700, exist_ok=True)
        write_aside(kaggle / "src" / "script.py", str(row["source"]).encode())
        write_aside(root / "secrets" / "api-v1-token", token.encode())
        site = root / "site" / "sitecustomize.py"
        site.write_bytes(Path(__file__).with_name("sitecustomize_template.py").read_bytes())
        for dataset in json.loads(row["datasets"]):
            self.attach(session_id, dataset)
        container = f"kaggle_{secrets.token_hex(8)}-{session_id}-webtier"
        environ = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if name in os.environ
        }
        environ |= {
            "HOME": str(root / "home"),
            "TMPDIR": str(kaggle / "temp"),
            "PYTHONPATH": str(root / "site"),
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "KAGGLE_DATA_PROXY_URL": self._url,
            "KAGGLE_DATA_PROXY_TOKEN": user_token,
            "KAGGLE_DATA_PROXY_PROJECT": "embedded",
            "KAGGLE_USER_SECRETS_TOKEN": user_token,
            "KAGGLE_API_V1_TOKEN": str(root / "secrets" / "api-v1-token"),
            "KAGGLE_URL_BASE": self._url,
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_CONTAINER_NAME": container,
            "KAGGLE_CACHE_MOUNT_FOLDER": str(kaggle / "input"),
            "KAGLAUNCH_LOCAL_KAGGLE_URL": self._url,
            "KAGLAUNCH_LOCAL_KAGGLE_ROOT": str(root),
            **self._store.settings.session_env,
        }
        write_aside(root / "runner.json", json.dumps({"python": sys.executable, "environ": environ}).encode())

    def attach(self, session_id: int, dataset: str, number: int | None = None) -> Path | None:
        """Put the newest READY version of `owner/slug` (or version `number`) into a session's inputs; None: no such."""
        owner, _, slug = dataset.partition("/")
        row = self._store.row(
            "SELECT v.dataset_id, v.number FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id "
            "WHERE d.owner = ? AND d.slug = ? AND v.state = 'READY' AND (? IS NULL OR v.number = ?) "
            "ORDER BY v.number DESC LIMIT 1",
            *(owner, slug, number, number),
        )
        if row is None:
            return None
        inputs = self._layout.session(session_id) / "kaggle" / "input"
        place = inputs / slug if self._store.settings.flat_inputs else inputs / "datasets" / owner / slug
        if not place.exists():
            aside = place.with_name(f".{slug}.aside")
            shutil.copytree(self._layout.version(row["dataset_id"], row["number"]), aside)
            for path in aside.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
            aside.rename(place)
        return place

    def _on_exit(self, session_id: int, returncode: int) -> None:
        self._kill(session_id)
        if returncode != 0:
            keep = bool(self._faults.value("exit_nonzero_keeps_outputs"))
            event, message = (
                ("out_of_memory", errors.OUT_OF_MEMORY) if returncode == -signal.SIGKILL else ("exited_nonzero", "")
            )
            self._finish(session_id, event, message, keep_outputs=keep, keep_log=True)
            return
        size = sum(path.stat().st_size for path in _files(self._layout.working(session_id)))
        if size > (limit := self._store.settings.working_limit_bytes):
            message = errors.DISK_FULL.format(limit=limit)
            self._finish(session_id, "disk_full", message, keep_outputs=False, keep_log=True)
            return
        self._finish(session_id, "exited_0", "", keep_outputs=True, keep_log=True)

    def _finish(self, session_id: int, event: str, message: str, *, keep_outputs: bool, keep_log: bool) -> None:
        """Record the end first, then throw away what the platform would not show."""
        now = self._clock.now()
        working = self._layout.working(session_id)
        with self._store.transaction():
            self._store.move_session(
                session_id,
                event,
                now,
                failure_message=message or None,
                ending=event,
                log_kept=int(keep_log),
                api_token_sha256=None,
                user_token_sha256=None,
            )
            for path in _files(working) if keep_outputs else ():
                with path.open("rb") as file:
                    md5 = hashlib.file_digest(file, "md5").hexdigest()
                self._store.insert(
                    "output_files",
                    session_id=session_id,
                    path=path.relative_to(working).as_posix(),
                    size=path.stat().st_size,
                    md5=md5,
                    created_at=now,
                )
        if not keep_outputs:
            shutil.rmtree(working, ignore_errors=True)
        if not keep_log:
            self._layout.log_of(session_id).unlink(missing_ok=True)
        for name in ("secrets", "home", "site", "kaggle/input", "kaggle/temp"):
            shutil.rmtree(self._layout.session(session_id) / name, ignore_errors=True)
        (self._layout.session(session_id) / "runner.json").unlink(missing_ok=True)
        self._log_read.pop(session_id, None)

    def _kill(self, session_id: int) -> None:
        """SIGKILL for every process of the session, those that left its group or its parent included."""
        root = str(self._layout.session(session_id))
        row = self._store.row("SELECT runner_pid, runner_born FROM sessions WHERE id = ?", session_id)
        while True:
            found = _members(root, row)
            if not found:
                return
            for process in found:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(found, timeout=3)

    def _log_matches(self, session_id: int, fault: str) -> bool:
        pattern = self._faults.value(fault)
        path = self._layout.log_of(session_id)
        if pattern is None or not path.exists():
            return False
        with path.open("rb") as file:
            file.seek(self._log_read.get(session_id, 0))
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._log_read[session_id] = self._log_read.get(session_id, 0) + len(complete)
        return any(re.search(pattern, _data(line)) for line in complete.decode().splitlines())


def _data(line: str) -> str:
    event: dict[str, Any] = json.loads(line)
    return str(event["data"])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _lives(row: Row) -> bool:
    try:
        process = psutil.Process(row["runner_pid"])
        return abs(process.create_time() - row["runner_born"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _members(root: str, row: Row | None) -> list[psutil.Process]:
    """Living processes of the session in `root`: its runner's descendants and all that carry its environment."""
    found: dict[int, psutil.Process] = {}
    if row is not None and row["runner_pid"] is not None and _lives(row):
        try:
            runner = psutil.Process(row["runner_pid"])
            found |= {process.pid: process for process in [*runner.children(recursive=True), runner]}
        except psutil.NoSuchProcess:
            logger.debug("the runner of %s ended by itself", root)
    for process in psutil.process_iter():
        try:
            if process.environ().get("KAGLAUNCH_LOCAL_KAGGLE_ROOT") == root:
                found[process.pid] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found.values() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
