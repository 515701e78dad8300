"""Everything of one embedded Kaggle, put together: state, clock, models, and the loop that lets time pass."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from launcher.local_kaggle.datasets import Datasets
from launcher.local_kaggle.faults import Faults
from launcher.local_kaggle.files import Layout
from launcher.local_kaggle.kernels import Kernels
from launcher.local_kaggle.links import Links
from launcher.local_kaggle.sessions import Sessions
from launcher.local_kaggle.states import Clock
from launcher.local_kaggle.store import Row, Store
from launcher.local_kaggle.uploads import Uploads

log = logging.getLogger(__name__)

USERNAME = "local"
TICK_S = 0.05
SETTLE_S = 10.0


@dataclass(frozen=True)
class Caller:
    """Who sends a request: the account, or one of its sessions."""

    username: str
    session: Row | None = None


class Installation:
    def __init__(self, state_dir: Path, token: str, url: str) -> None:
        self.layout = Layout(state_dir)
        self.token = token
        self.url = url
        self.store = Store(self.layout.database)
        self.clock = Clock(offset_s=float(self.store.meta("clock_offset_s") or 0.0))
        self.faults = Faults(self.store)
        self.uploads = Uploads(self.store, self.layout, self.clock)
        self.datasets = Datasets(self.store, self.layout, self.clock, self.faults, self.uploads)
        self.sessions = Sessions(self.store, self.layout, self.clock, self.faults, self.datasets, url)
        self.kernels = Kernels(self.store, self.clock, self.faults, self.datasets, self.sessions)
        self.links = Links(self.store, self.layout, self.clock, self.datasets, url)
        self._stopping = threading.Event()
        self._loop = threading.Thread(target=self._run, name="clock", daemon=True)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Stop time. Sessions that run go on running, for the next server to take over."""
        self._stopping.set()
        self._loop.join(timeout=5)

    def advance_clock(self, seconds: float) -> None:
        """Move the clock forward; on return, what became due by that has happened."""
        self.clock.advance(seconds)
        self.store.set_meta("clock_offset_s", repr(self.clock.offset_s))
        for _ in range(len(("receive", "decompress", "copy", "compress", "finish"))):
            self.sessions.tick(settle_s=SETTLE_S)
            self.datasets.tick(settle_s=SETTLE_S)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            try:
                self.sessions.tick()
                self.datasets.tick()
            except Exception:  # the thread's end: time must not stop for one bad row
                log.exception("tick failed")
