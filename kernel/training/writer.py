"""Writes captured states in the background: the trainer waits for the disk only when two are already in flight."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kernel.checkpoints import checkpoint, digests, retention
from kernel.contract import chunks, exactness
from kernel.contract.config import RunConfig, SessionConfig
from kernel.contract.events import Checkpoint, CheckpointFailed, Event, Inexact
from kernel.contract.exactness import Exactness
from kernel.contract.manifest import CheckpointInvalid, Manifest, verify
from kernel.contract.names import checkpoint_name
from kernel.process import thread_seconds
from kernel.training import codec
from kernel.training.metrics import MetricsFile, Row
from kernel.training.replay_store import ReplayStore

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")
Report = Callable[[Event], None]


@dataclass(frozen=True)
class Snapshot:
    """A captured state on its way to the disk."""

    num_timesteps: int
    state: Mapping[str, Any]
    metrics: Mapping[str, Any]
    recent_rows: list[Row]
    finished: bool = False
    lost: str = ""
    """Why a resume from here begins new episodes; empty where it goes on with these."""
    replay_rows: Mapping[str, Any] | None = None
    """Rows of the replay buffer that were not handed over yet; None without one."""


@dataclass(frozen=True)
class Rows:
    """Rows of the replay buffer, ahead of the snapshot that needs them."""

    rows: Mapping[str, Any]
    again_from: int | None = None
    """The first of them, where the disk did not take them before."""


@dataclass
class Lineage:
    """What every manifest of this session says besides the state."""

    run: RunConfig
    session: SessionConfig
    total_timesteps: int
    fingerprint: Mapping[str, Any]
    details: Mapping[str, Any]
    parent: str = ""
    exactness: Exactness = field(default_factory=Exactness)
    known_digests: dict[int, str] = field(default_factory=dict)
    """State digests by timestep, of this run's earlier sessions too: executed again, a step must give them again."""


class CheckpointWriter:
    """One thread; `put` hands over a snapshot, `close` waits for the last."""

    def __init__(
        self,
        folder: Path,
        lineage: Lineage,
        members: Callable[[Mapping[str, Any]], dict[str, bytes]],
        metrics: MetricsFile,
        report: Report,
        replay: ReplayStore | None = None,
        write: Callable[[Path, bytes], None] = checkpoint.write_new,
    ) -> None:
        self.folder = folder
        self.lineage = lineage
        self.cpu_seconds = 0.0
        """Processor time of checkpoints so far, without rows handed over ahead: those cost the same however many."""
        self.progressed: Callable[[], None] = lambda: None
        """Called now and then while the writer is waited for and gets on."""
        self._members = members
        self._metrics = metrics
        self._report = report
        self._write = write
        self._replay = replay
        self._retention = retention.Retention(
            folder,
            lineage.session.keep_checkpoints,
            lineage.session.keep_replay_buffers,
            retention.budget_bytes(folder, lineage.session.disk_bytes),
        )
        self._failed = 0
        if replay is not None:
            replay.write = self._write_chunk
        self._run_values = dataclasses.asdict(lineage.run)
        self._config_digest = lineage.run.digest
        self._queue: queue.Queue[Snapshot | Rows | None] = queue.Queue(IN_FLIGHT - 1)
        self._thread = threading.Thread(target=self._run, name="checkpoint writer", daemon=True)
        self._thread.start()

    def put(self, snapshot: Snapshot) -> None:
        """Hand over `snapshot`; waits while one is being written and another waits."""
        self._hand_over(snapshot)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being written, and nothing waits."""
        return self._queue.unfinished_tasks == 0

    def put_rows(self, rows: Mapping[str, Any], again_from: int | None = None) -> None:
        """Hand over rows of the replay buffer, the next ones or some that are missing; waits as `put` does."""
        self._hand_over(Rows(rows, again_from))

    def close(self) -> None:
        """Write what is in flight and end."""
        if self._thread.is_alive():
            self._hand_over(None)
            while self._thread.is_alive():
                done = thread_seconds(self._thread)
                self._thread.join(1.0)
                self._tell_of_progress(done)

    def _hand_over(self, item: Snapshot | Rows | None) -> None:
        while self._thread.is_alive():
            done = thread_seconds(self._thread)
            try:
                self._queue.put(item, timeout=1.0)
                return
            except queue.Full:
                self._tell_of_progress(done)
        raise RuntimeError("The checkpoint writer has failed; its traceback is above.")

    def _tell_of_progress(self, before: float) -> None:
        """A thread that is held by a dead disk takes no processor time, and one that copies, packs or writes does."""
        if thread_seconds(self._thread) > before:
            self.progressed()

    def flush(self) -> None:
        """Wait until everything handed over was written or failed."""
        self._queue.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, Rows):
                    self._take_rows(item)
                else:
                    self._try(item)
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _take_rows(self, item: Rows) -> None:
        assert self._replay is not None
        if item.again_from is None:
            self._replay.add(dict(item.rows))
        else:
            self._replay.again(item.again_from, dict(item.rows))

    def _try(self, snapshot: Snapshot) -> None:
        began = time.thread_time()
        try:
            self._write_checkpoint(snapshot)
            self._failed = 0
        except (OSError, CheckpointInvalid, codec.NotEncodable) as error:
            self._failed += 1
            logger.warning("Checkpoint at %d could not be written: %s", snapshot.num_timesteps, error)
            self._report(
                CheckpointFailed(num_timesteps=snapshot.num_timesteps, reason=str(error), in_a_row=self._failed)
            )
        finally:
            self.cpu_seconds += time.thread_time() - began

    def _write_checkpoint(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        t = snapshot.num_timesteps
        tree = dict(snapshot.state)
        details: dict[str, Any] = {}
        if self._replay is not None and snapshot.replay_rows is not None:
            self._replay.add(dict(snapshot.replay_rows))
            tree["replay"] = self._replay.state()
            details[chunks.DETAIL] = self._replay.commit()
            details[chunks.ROWS_DETAIL] = self._replay.chunk_rows
        state = codec.encode(tree)
        digest = hashlib.sha256(state).hexdigest()
        self._compare_with_known(t, digest)
        members = {
            **self._members(snapshot.state),
            checkpoint.STATE: state,
            checkpoint.METRICS_MEMBER: "".join(text for _, text in snapshot.recent_rows).encode(),
        }
        manifest = self._manifest(snapshot, digest, details)
        data = checkpoint.to_bytes(manifest, members)
        path = self.folder / checkpoint_name(t)
        self.with_room(lambda: self._create(path, data, digest))
        self._retention.scores.add(path, manifest)
        self.lineage.known_digests[t] = digest
        self.with_room(lambda: digests.append_digest(self.folder, t, digest))
        self.with_room(lambda: self._metrics.append(snapshot.recent_rows))
        self._retention.prune(self._in_use)
        seconds = round(time.monotonic() - began, 4)
        said = manifest.exactness
        self._report(Checkpoint(num_timesteps=t, bytes=len(data), seconds=seconds, state_digest=digest, exactness=said))

    @property
    def _in_use(self) -> set[str]:
        return self._replay.in_use if self._replay is not None else set()

    def _write_chunk(self, path: Path, data: bytes) -> None:
        self.with_room(lambda: checkpoint.write_new(path, data))

    def with_room(self, write: Callable[[], T]) -> T:
        """`write`, and where the disk is full again with milestones deleted, and then all that is not the newest."""
        for everything in (False, True):
            try:
                return write()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if self._retention.make_room(self._in_use, everything=everything):
                    logger.warning("The disk is full (%s): older checkpoints were deleted.", error)
        return write()

    def _create(self, path: Path, data: bytes, digest: str) -> None:
        try:
            self._write(path, data)
        except FileExistsError:
            if _state_digest_of(path) == digest:
                return  # executed again, and the same came out
            checkpoint.refuse(path)
            self._write(path, data)
        # Older ones are deleted after this, so it must be there and not only be said to be.
        if path.read_bytes() != data:
            checkpoint.refuse(path)
            raise OSError(f"{path.name} does not read back as it was written")

    def _manifest(self, snapshot: Snapshot, digest: str, details: Mapping[str, Any]) -> Manifest:
        lineage, t = self.lineage, snapshot.num_timesteps
        lineage.exactness = lineage.exactness.joined(exactness.told(self.folder.parent))
        known = lineage.exactness.inexact(t, snapshot.lost) if snapshot.lost else lineage.exactness
        return Manifest(
            run_id=lineage.run.run_id,
            session=lineage.session.session,
            num_timesteps=t,
            total_timesteps=lineage.total_timesteps,
            config_digest=self._config_digest,
            members={},
            metrics=snapshot.metrics,
            state_digest=digest,
            exact=known.is_exact,
            exactness=known,
            fingerprint=lineage.fingerprint,
            parent=lineage.parent,
            details={
                **lineage.details,
                **details,
                "finished": snapshot.finished,
                "run": self._run_values,
            },
        )

    def _compare_with_known(self, t: int, digest: str) -> None:
        known = self.lineage.known_digests.get(t)
        if known is not None and known != digest and self.lineage.exactness.is_exact:
            reason = f"timestep {t} was executed again and gave state {digest[:12]} where it had given {known[:12]}"
            self.lineage.exactness = self.lineage.exactness.inexact(t, reason)
            self._report(Inexact(num_timesteps=t, reason=reason))


def _state_digest_of(path: Path) -> str | None:
    try:
        return verify(path).state_digest
    except (CheckpointInvalid, OSError):
        return None
