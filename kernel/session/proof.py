"""The proof of exactness beside a training: one stretch of it again, in a process of its own that yields to it.

    after a resume      from the checkpoint before the one it resumed from, to that one
    from scratch        from the first checkpoint after `proof_after_seconds` of training, to one that comes later

The training is what decides how long that takes; where it would take more than MAX_SHARE of the session, and more than
MIN_LIMIT_SECONDS, the run stays unproved and that is said.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from kernel.checkpoints.stretch import Stretch
from kernel.contract import exactness
from kernel.contract.config import Configuration
from kernel.contract.events import Checkpoint, Event, Proved, Training, Unproved
from kernel.contract.exactness import Exactness
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS, checkpoint_name, num_timesteps_of

logger = logging.getLogger(__name__)

MIN_STRETCH_SECONDS = 5.0
MAX_SHARE = 0.02
MIN_LIMIT_SECONDS = 60.0
NICENESS = 10
"""A tenth of what a process of the usual priority gets, where both want the same processor."""


@dataclass
class Proof:
    """Hears what the trainer says, and proves once for each beginning of it."""

    folder: Path
    configuration: Configuration
    report: Callable[[Event], None]
    memory_bytes: Callable[[], int]
    """What the trainer holds."""
    start: Callable[..., subprocess.Popen[Any]] = subprocess.Popen
    """Starts a process that is not the trainer's."""
    clock: Callable[[], float] = time.monotonic
    known: Exactness = field(default_factory=Exactness)
    """What was found so far."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wanted: bool = False
    _began: float = 0.0
    """When the trainer said that it begins."""
    _startup: float = 0.0
    """What its beginning took [s]."""
    _begins: tuple[float, Path] | None = None
    """The checkpoint that a stretch from scratch begins at, and when it came."""
    _stretch: Stretch | None = None
    _process: subprocess.Popen[bytes] | None = None
    _until: float = 0.0

    def begin(self) -> None:
        """The session begins: what an earlier one left here is over."""
        for left in self.folder.glob(".proof-*"):
            Stretch(left).remove()
        self._tell()

    def starting(self) -> None:
        """A trainer is being started."""
        with self._lock:
            self._startup, self._wanted, self._begins = self.clock(), False, None

    def heard(self, event: Event) -> None:
        """The trainer said this; called where its messages are read."""
        if not self.configuration.session.proof or self._process is not None:
            return
        try:
            match event:
                case Training():
                    with self._lock:
                        self._began = self.clock()
                        self._startup = self._began - self._startup
                        self._wanted = event.exactness is None or event.exactness.is_exact
                        self._drop()
                        if self._wanted and event.checkpoint:
                            self._take_stretch_before(event.num_timesteps)
                case Checkpoint():
                    with self._lock:
                        self._take_stretch_to(event.num_timesteps)
        except (OSError, CheckpointInvalid) as error:  # it was pruned, or the disk is full: another one comes
            logger.debug("No stretch was taken: %s", error)
            self._drop()

    def look(self) -> None:
        """Begin when it is time, and see how it came out."""
        with self._lock:
            if self._process is not None:
                self._look_at_process()
            elif self._stretch is not None and self._wanted and self.clock() - self._began >= self._after:
                self._begin(self._stretch)

    def close(self) -> None:
        """The session ends: what is under way is ended too."""
        with self._lock:
            if self._process is not None and self._stretch is not None:
                self._stretch.end(self._process)
                self._process = None
                self._say(Unproved(reason="the session ended before its proof did"))
            self._drop()

    @property
    def _after(self) -> float:
        return self.configuration.session.proof_after_seconds

    @property
    def _limit(self) -> float:
        return max(MIN_LIMIT_SECONDS, MAX_SHARE * self.configuration.session.max_seconds)

    def _take_stretch_before(self, num_timesteps: int) -> None:
        """From the newest checkpoint before `num_timesteps` to that one, where both are here."""
        checkpoints = self.folder / CHECKPOINTS
        older = [path for path in checkpoints_in(checkpoints) if (num_timesteps_of(path.name) or 0) < num_timesteps]
        if older and num_timesteps_of(older[0].name):
            self._make(older[0], checkpoints / checkpoint_name(num_timesteps))

    def _take_stretch_to(self, num_timesteps: int) -> None:
        """Remember the checkpoint as a beginning, or take it as an end."""
        if not self._wanted or self._stretch is not None:
            return
        now, path = self.clock(), self.folder / CHECKPOINTS / checkpoint_name(num_timesteps)
        if self._begins is None or not self._begins[1].exists():
            if now - self._began >= self._after:
                self._begins = now, path
        elif now - self._begins[0] >= min(MIN_STRETCH_SECONDS, self._after):
            if self._startup + now - self._begins[0] > self._limit:
                self._wanted = False
                cost = f"{self._startup + now - self._begins[0]:.0f} s"
                self._say(Unproved(reason=f"a stretch between two checkpoints takes {cost}, above {self._limit:.0f} s"))
                return
            self._make(self._begins[1], path)

    def _make(self, begins: Path, ends: Path) -> None:
        manifest: Manifest = verify(begins)
        if not manifest.exactness.is_exact:  # its environments were lost: what comes of it says nothing of the others
            self._begins = None
            return
        folder = Path(tempfile.mkdtemp(prefix=".proof-", dir=self.folder))
        self._stretch = Stretch.make(folder, self.configuration)
        self._stretch.begin_at(begins, manifest)
        self._stretch.come_to(ends)

    def _begin(self, stretch: Stretch) -> None:
        self._wanted = False
        needed, free = self.memory_bytes(), int(psutil.virtual_memory().available)
        if needed > 0.8 * free:
            told = f"{free / 1e9:.1f} GB of memory are free, and a second process needs about {needed / 1e9:.1f} GB"
            self._say(Unproved(reason=told))
            self._drop()
            return
        try:
            self._process = stretch.start(self.start)
        except OSError as error:
            self._say(Unproved(reason=f"the second process could not be started: {error}"))
            self._drop()
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        self._until = self.clock() + self._limit

    def _look_at_process(self) -> None:
        assert self._process is not None
        assert self._stretch is not None
        is_over, is_late = self._process.poll() is not None, self.clock() > self._until
        if not is_over and not is_late:
            return
        code = self._process.returncode
        self._stretch.end(self._process)
        self._process = None
        outcome = self._stretch.outcome()
        if outcome is None and is_over:
            outcome = Unproved(reason=f"the second process ended with {self._stretch.last_line() or f'code {code}'}")
        self._say(outcome or Unproved(reason=f"the second process came to no end within {self._limit:.0f} s"))
        self._drop()

    def _say(self, outcome: Event) -> None:
        self.known = outcome.revise(self.known)
        if isinstance(outcome, Proved) or not self.known.is_exact:
            self._tell()
        self.report(outcome)

    def _tell(self) -> None:
        try:
            exactness.tell(self.known, self.folder)
        except OSError as error:  # a full disk ends no session: its events say it too
            logger.warning("What was proved could not be written: %s", error)

    def _drop(self) -> None:
        if self._stretch is not None:
            self._stretch.remove()
            self._stretch = None
