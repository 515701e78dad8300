"""Kernel sessions: real processes, driven through their states by the server's clock."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from launcher.local_kaggle import errors, states, workspace
from launcher.local_kaggle.datasets import Datasets
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.files import Layout, copy_read_only, md5_of, regular_files, remove_tree
from launcher.local_kaggle.processes import Processes, read_exit
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store

log = logging.getLogger(__name__)

ENDINGS = {
    "exited_0": None,
    "exited_nonzero": None,
    "out_of_memory": errors.OUT_OF_MEMORY,
    "machine_lost": errors.MACHINE_LOST,
    "time_is_up": errors.TIME_LIMIT_REACHED,
    "killed": errors.CANCEL_REQUESTED,
    "service_stopped": errors.SERVICE_STOPPED,
    "deleted": errors.CANCEL_REQUESTED,
}
"""Event that ends a session -> its failure message."""


JOB_TIMEOUT_S = 30.0
"""How long the end of a session waits for a start or an end of it that is under way."""


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Sessions:
    def __init__(
        self, store: Store, layout: Layout, clock: Clock, faults: Faults, datasets: Datasets, url: str
    ) -> None:
        self._store = store
        self._layout = layout
        self._clock = clock
        self._faults = faults
        self._datasets = datasets
        self._url = url
        self._processes = Processes()
        self._jobs: dict[int, Future[None]] = {}
        self._ticking = threading.Lock()
        self._attaching = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="session")
        self._scanned: dict[tuple[str, int], int] = {}

    def submit(
        self,
        *,
        kernel_id: int,
        owner: str,
        slug: str,
        version: int,
        source: str,
        machine: str,
        shape: str,
        limit_s: float,
        internet: bool,
        datasets: list[str],
    ) -> int:
        """Queue a session ("owner/slug" datasets are attached when it starts); its id."""
        now = self._clock.now()
        session_id = self._store.new_id("session")
        self._store.insert(
            "sessions",
            **{"id": session_id, "kernel_id": kernel_id, "owner": owner, "slug": slug, "version": version},
            **{"source": source, "machine": machine, "shape": shape, "limit_s": limit_s, "internet": int(internet)},
            **{"datasets": json.dumps(datasets), "state": states.INITIAL[states.SESSION]},
            **{"entered_at": now, "created_at": now},
        )
        return session_id

    def row(self, session_id: int) -> Row:
        return self._store.rows("SELECT * FROM sessions WHERE id = ?", session_id)[0]

    def active(self) -> list[Row]:
        marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
        return self._store.rows(f"SELECT * FROM sessions WHERE state IN ({marks}) ORDER BY id", *states.ACTIVE_SESSION)

    def cancel(self, session_id: int) -> bool:
        """Ask for the end of a session; False if it is over already."""
        with self._store.transaction():
            state = self.row(session_id)["state"]
            if states.is_final(states.SESSION, state):
                return False
            if state != "CANCEL_REQUESTED":
                self._store.move_session(session_id, "cancel", self._clock.now())
        return True

    def end_now(self, session_id: int, event: str) -> None:
        """End an active session at once by "deleted" or "service_stopped": killed, outputs and log gone."""
        with self._store.transaction():
            row = self.row(session_id)
            if not states.is_final(states.SESSION, row["state"]):
                self._store.move_session(session_id, event, self._clock.now(), failure_message=ENDINGS[event])
        job = self._jobs.get(session_id)
        if job is not None:
            wait([job], timeout=JOB_TIMEOUT_S)
            row = self.row(session_id)
        self._processes.kill(session_id, row["runner_pid"], row["runner_born"], self._layout.session(session_id))
        self._drop(session_id, keep_log=False)

    def stop_all(self) -> None:
        for row in self.active():
            self.end_now(row["id"], "service_stopped")

    def tick(self, settle_s: float = 0.0) -> None:
        """Let happen what is due by now. Slow parts run beside; waits up to `settle_s` for them."""
        with self._ticking:
            self._jobs = {key: job for key, job in self._jobs.items() if not job.done()}
            for row in self.active():
                if row["id"] not in self._jobs:
                    self._advance(row)
            pending = list(self._jobs.values())
        if settle_s:
            wait(pending, timeout=settle_s)

    def owner_of(self, token: str, kind: str) -> Row | None:
        """The active session that `token` belongs to; kind "api" or "user"."""
        marks = ", ".join("?" for _ in states.ACTIVE_SESSION)
        return self._store.row(
            f"SELECT * FROM sessions WHERE {kind}_token_sha256 = ? AND deleted = 0 AND state IN ({marks})",
            *(digest(token), *states.ACTIVE_SESSION),
        )

    def attach(self, row: Row, owner: str, slug: str, number: int | None) -> tuple[str, int] | None:
        """Mount a dataset version into a running session; (mount slug, version), None if there is none.

        A second version of a dataset that is mounted already gets a folder of its own.
        """
        found = self._datasets.ready_version(owner, slug, number)
        if found is None:
            return None
        base = self._layout.root(row["id"]) / "kaggle" / "input"
        with self._attaching:
            for mount in (f"datasets/{owner}/{slug}", f"datasets-v{found.number}/{owner}/{slug}"):
                mark = self._layout.session(row["id"]) / "mounts" / mount / "version"
                if not (base / mount).exists():
                    mark.parent.mkdir(parents=True, exist_ok=True)
                    (base / mount).parent.mkdir(parents=True, exist_ok=True)
                    copy_read_only(found.files, base / mount)
                    mark.write_text(str(found.number), "utf-8")
                if mark.exists() and mark.read_text("utf-8") == str(found.number):
                    return mount, found.number
        return None

    def log_path(self, session_id: int) -> Path:
        return self._layout.session(session_id) / "log.jsonl"

    def log_is_listed(self, row: Row) -> bool:
        """Whether the log of a session that is over can be read yet."""
        over = row["ended_at"] is not None and self._clock.now() >= row["ended_at"] + self._store.settings.log_delay_s
        return bool(row["log_kept"]) and over

    def log_events(self, session_id: int, offset: int = 0) -> Iterator[tuple[int, str]]:
        """Whole lines of the log from byte `offset` on: (offset after the line, its JSON text)."""
        path = self.log_path(session_id)
        if not path.exists():
            return
        with path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield offset, line[:-1].decode()

    def _advance(self, row: Row) -> None:
        now = self._clock.now()
        if row["state"] != "RUNNING":
            _, delay_s = self._store.due(states.SESSION, row["state"])
            if now >= row["entered_at"] + delay_s:
                self._beside(row["id"], self._start if row["state"] == "QUEUED" else self._finish)
            return
        folder = self._layout.session(row["id"])
        if row["ending"] or read_exit(folder):
            self._beside(row["id"], self._finish)
        elif ending := self._forced_ending(row, now):
            self._store.execute("UPDATE sessions SET ending = ? WHERE id = ?", ending, row["id"])
            self._beside(row["id"], self._finish)
        elif not self._processes.is_alive(row["id"], row["runner_pid"], row["runner_born"]) and not read_exit(folder):
            self._store.execute("UPDATE sessions SET ending = 'machine_lost' WHERE id = ?", row["id"])
            self._beside(row["id"], self._finish)

    def _forced_ending(self, row: Row, now: float) -> str | None:
        """The event that must end a running session now, if there is one."""
        if now >= row["started_at"] + self._limit(row):
            return "time_is_up"
        for fault, event in (
            ("session_limit_at_log", "time_is_up"),
            ("out_of_memory_at_log", "out_of_memory"),
            ("machine_lost_at_log", "machine_lost"),
        ):
            rule = self._faults.peek(fault)
            if rule is not None and self._log_matches(row["id"], fault, rule["pattern"]):
                self._faults.take(fault)
                return event
        return None

    def _limit(self, row: Row) -> float:
        rule = self._faults.peek("session_limit_s")
        return min(row["limit_s"], rule["seconds"]) if rule else float(row["limit_s"])

    def _log_matches(self, session_id: int, fault: str, pattern: str) -> bool:
        key = (fault + pattern, session_id)
        for offset, line in self.log_events(session_id, self._scanned.get(key, 0)):
            self._scanned[key] = offset
            if re.search(pattern, json.loads(line)["data"]):
                return True
        return False

    def _beside(self, session_id: int, step: Any) -> None:
        self._jobs[session_id] = self._pool.submit(self._guarded, step, session_id)

    def _guarded(self, step: Any, session_id: int) -> None:
        try:
            step(session_id)
        except Exception:  # the worker's end: nobody else would report it
            log.exception("session %d: %s failed", session_id, step.__name__)

    def _start(self, session_id: int) -> None:
        row, folder = self.row(session_id), self._layout.session(session_id)
        if folder.exists():
            self._processes.kill_strays(folder)
            remove_tree(folder)
        tokens = workspace.Tokens.new()
        try:
            spec = workspace.prepare(
                self._layout.root(session_id),
                session_id=session_id,
                source=row["source"],
                inputs=self._inputs(row),
                flat_inputs=self._store.settings.flat_inputs,
                accelerator=row["machine"] == "gpu",
                internet=bool(row["internet"]),
                url=self._url,
                tokens=tokens,
                extra_env=self._store.settings.session_env,
            )
            workspace.write_spec(folder, {**spec, "limit_s": row["limit_s"]})
            sql = "UPDATE sessions SET api_token_sha256 = ?, user_token_sha256 = ? WHERE id = ?"
            self._store.execute(sql, digest(tokens.api), digest(tokens.user + tokens.proxy), session_id)
            if self.row(session_id)["state"] != "QUEUED":
                remove_tree(folder)
                return
            started = self._clock.now()
            pid, born = self._processes.start(session_id, folder)
        except OSError as error:
            log.warning("session %d did not start: %s", session_id, error)
            message = errors.START_FAILED.format(reason=error)
            with self._store.transaction():
                if self.row(session_id)["state"] == "QUEUED":
                    self._store.move_session(session_id, "start_failed", self._clock.now(), failure_message=message)
            remove_tree(folder)
            return
        try:
            self._store.move_session(
                session_id, "machine_ready", self._clock.now(), started_at=started, runner_pid=pid, runner_born=born
            )
        except states.IllegalTransition:
            self._processes.kill(session_id, pid, born, folder)
            remove_tree(folder)
            return
        log.info("session %d of %s/%s runs, pid %d", session_id, row["owner"], row["slug"], pid)

    def _inputs(self, row: Row) -> list[workspace.Input]:
        inputs = []
        for ref in json.loads(row["datasets"]):
            owner, _, slug = ref.partition("/")
            found = self._datasets.ready_version(owner, slug)
            if found is not None:
                inputs.append(workspace.Input(owner, slug, found.files))
        return inputs

    def _finish(self, session_id: int) -> None:
        """Kill what is left of a session, keep what Kaggle keeps, and put it into its final state."""
        row, folder = self.row(session_id), self._layout.session(session_id)
        if row["ending"] == "machine_lost" and row["runner_pid"] is not None:
            self._processes.kill_runner(session_id, row["runner_pid"])
        exit_record = None if row["ending"] else read_exit(folder)
        self._processes.kill(session_id, row["runner_pid"], row["runner_born"], folder)
        event, ended_at = row["ending"], self._clock.now()
        if exit_record is not None:
            ended_at = min(ended_at, exit_record.at + self._clock.offset_s)
            if exit_record.timed_out:
                event = "time_is_up"
            else:
                event = "exited_0" if exit_record.returncode == 0 else "exited_nonzero"
        if row["state"] == "CANCEL_REQUESTED":
            event = "killed"
        if event == "time_is_up":
            ended_at = min(ended_at, row["started_at"] + self._limit(row))
        message = ENDINGS[event]
        if event == "exited_0" and not self._working_fits(session_id):
            event, message = "disk_full", errors.DISK_FULL.format(limit=self._store.settings.working_limit_bytes)
        if event == "exited_0" or (
            states.target(states.SESSION, row["state"], event) == "ERROR"
            and self._faults.peek("exit_nonzero_keeps_outputs")
        ):
            self._save_outputs(session_id)
        keep_log = event not in ("time_is_up", "killed") or self._faults.peek("keep_log_on_limit") is not None
        with self._store.transaction():
            state = self.row(session_id)["state"]
            if states.is_final(states.SESSION, state):
                return
            if state == "CANCEL_REQUESTED" and event != "killed":
                event, message, keep_log = "killed", ENDINGS["killed"], False
                self.forget_outputs(session_id)
            self._store.move_session(
                session_id,
                event,
                self._clock.now(),
                ended_at=max(ended_at, row["started_at"] or row["created_at"]),
                failure_message=message,
                log_kept=int(keep_log),
            )
        self._drop(session_id, keep_log)
        log.info("session %d ended: %s", session_id, event)

    def _working_fits(self, session_id: int) -> bool:
        working = self._layout.root(session_id) / "kaggle" / "working"
        size = sum(path.stat().st_size for _, path in regular_files(working))
        return size <= self._store.settings.working_limit_bytes

    def _save_outputs(self, session_id: int) -> None:
        target = self._layout.outputs(session_id)
        working = self._layout.root(session_id) / "kaggle" / "working"
        target.parent.mkdir(exist_ok=True)
        if working.exists():
            remove_tree(target)
            os.rename(working, target)  # a folder, and the very one that the session wrote into
        found = [(name, path.stat(), md5_of(path)) for name, path in regular_files(target)]
        with self._store.transaction():
            self._store.execute("DELETE FROM output_files WHERE session_id = ?", session_id)
            for name, stat, md5 in found:
                created = stat.st_mtime
                self._store.insert(
                    "output_files", session_id=session_id, path=name, size=stat.st_size, md5=md5, created_at=created
                )

    def forget_outputs(self, session_id: int) -> None:
        self._store.execute("DELETE FROM output_files WHERE session_id = ?", session_id)
        remove_tree(self._layout.outputs(session_id))
        self._layout.output_bundle(session_id).unlink(missing_ok=True)

    def _drop(self, session_id: int, keep_log: bool) -> None:
        """The disk goes with the machine; the log stays if it was kept."""
        if keep_log:
            remove_tree(self._layout.root(session_id))
        else:
            remove_tree(self._layout.session(session_id))
