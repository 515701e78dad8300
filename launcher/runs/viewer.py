"""Where a watch shows what happens: a terminal, lines of JSON, a page. It decides nothing."""

from __future__ import annotations

import logging
from typing import Protocol

from kernel.contract.events import Event
from launcher.runs.alerts import Alert
from launcher.runs.progress import Progress
from launcher.runs.records import Run, Session
from launcher.targets.base import LogLine, SessionState

logger = logging.getLogger(__name__)


class Screen(Protocol):
    """Whoever looks on; each method is called from the thread that watches."""

    def begin(self, run: Run, session: Session) -> None:
        """The watching of `session` begins."""

    def state(self, state: SessionState) -> None:
        """The target was asked, and its answer is another than before."""

    def line(self, line: LogLine, event: Event | None, progress: Progress) -> None:
        """One line of the log, the event that it holds, and where the session stands with it."""

    def alert(self, alert: Alert) -> None:
        """Something goes wrong."""

    def note(self, text: str) -> None:
        """What the watch itself has to say."""

    def tick(self, progress: Progress, now_s: float, unanswered: str = "") -> None:
        """About once a second: where the session stands, `now_s` after it began.

        `unanswered` says how old that is, where the target does not answer.
        """

    def end(self) -> None:
        """The watching is over."""


class LoggedScreen:
    """For whoever does not look on: alerts and notes go to the log of this process, the rest is left out."""

    def begin(self, run: Run, session: Session) -> None:
        logger.info("watching session %d of run %s", session.number, run.run_id)

    def state(self, state: SessionState) -> None:
        logger.info("the session is %s. %s", state.status.value, state.message)

    def line(self, line: LogLine, event: Event | None, progress: Progress) -> None:
        pass

    def alert(self, alert: Alert) -> None:
        logger.warning("%s", alert)

    def note(self, text: str) -> None:
        logger.info("%s", text)

    def tick(self, progress: Progress, now_s: float, unanswered: str = "") -> None:
        pass

    def end(self) -> None:
        pass
