"""A relay: session after session until the run is done, over session limits and weekly quotas, with nobody watching.

What it does next follows from the ledger and the target alone, so a relay that was killed goes on where another one
begins. Waiting is done through a clock that is passed in.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from launcher.checks.quota import MARGIN_H
from launcher.config import Settings
from launcher.errors import (
    AlertStop,
    BackendError,
    BackendUnavailable,
    KernelFailed,
    NoFreeSession,
    NotFound,
    QuotaError,
    Refused,
    SessionCut,
    SubmissionUnknown,
)
from launcher.runs import continuation, submission
from launcher.runs.continuation import SessionRuns, Start
from launcher.runs.ledger import Ledger, Relay, Run, Session, SessionTaken
from launcher.runs.watch import outcome
from launcher.targets.base import Backend, Quota, SessionState, Status
from launcher.targets.target import Target
from launcher.transfers import Transfers

T = TypeVar("T")

SHORTEST_H = 0.5
"""A rest of the weekly quota that is shorter than this is not worth a session."""
SPARE_H = MARGIN_H + 0.01
"""Left of the quota by a session that takes its rest."""
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 600.0
SLOT_WAIT_S = 60.0
WEEK_S = 7 * 86_400.0
FIRST_SATURDAY_S = 2 * 86_400.0
"""1970-01-03 00:00 UTC; the quota is refreshed on Saturdays at that hour."""


class RelayRuns(Refused):
    """Raised when a relay of the run is at work already."""


class RelayGaveUp(KernelFailed):
    """Raised when session after session ends without a new timestep."""


class Clock(Protocol):
    """The time of day, and a way to let it pass."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class WallClock:
    """This machine's."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Relaying:
    """One relay at work."""

    run: Run
    wish: Relay
    chosen: Target
    backend: Backend
    book: Ledger
    follow: Callable[[Session], SessionState]
    """Watches a session to its end."""
    transfers: Transfers
    poll_s: float
    """Longest wait between two looks at the quota: the target's clock is not ours."""
    clock: Clock = dataclasses.field(default_factory=WallClock)

    def to_the_end(self) -> Start:
        """Chain sessions until all timesteps are done.

        Raises
        ------
        RelayGaveUp
            Two sessions one after the other brought no new timestep.
        AlertStop, SessionCut
            A session was stopped by an alert, or cancelled by somebody.
        Refused
            The target takes no session, for a reason that waiting does not change.
        """
        while True:
            last = self._over()
            start = self._patiently(
                lambda: continuation.starting_point(self.run, self.backend, self.book, self.transfers)
            )
            if start.num_timesteps >= self.run.config.total_timesteps:
                return start
            sessions = [session for session in self.book.sessions(self.run.run_id) if session.number > self.wish.since]
            if stuck(sessions, start.num_timesteps):
                raise RelayGaveUp(
                    f"The last two sessions of run {self.run.run_id} ended without a new timestep "
                    f"(still t{start.num_timesteps:,}): the relay gives up before it spends more.\n"
                    f"Read `kaglaunch logs {self.run.run_id}`; `kaglaunch relay {self.run.run_id}` tries again."
                )
            self._push(last, start)

    def _over(self) -> Session:
        """The newest session once it is over; one that is not is followed to its end."""
        while True:
            try:
                return self._patiently(
                    lambda: continuation.settled(self.run, self.backend, self.book, sleep=self.clock.sleep)
                )
            except SessionRuns:
                session = self.book.sessions(self.run.run_id)[-1]
                self._note(f"follows session {session.number}")
                try:
                    state = self.follow(session)
                except NotFound as error:
                    raise SessionCut(
                        f"The kernel of session {session.number} was deleted while it ran: the relay ends.\n"
                        f"`kaglaunch relay {self.run.run_id}` goes on."
                    ) from error
                self._judge(submission.session_of(self.book, self.run, session.number), state)

    def _judge(self, session: Session, state: SessionState) -> None:
        """Raise where the end of a session that we followed says that no other should follow it."""
        if session.alert or session.result in ("flood", "unhealthy"):
            raise AlertStop(
                f"Session {session.number} of run {self.run.run_id} was stopped ({session.alert or session.result}): "
                f"the relay ends.\nRead `kaglaunch logs {self.run.run_id}`; "
                f"`kaglaunch relay {self.run.run_id}` goes on."
            )
        if state.status is Status.CANCEL_ACKNOWLEDGED and "cancel" in f"{state.message} {session.message}".lower():
            raise SessionCut(
                f"Session {session.number} of run {self.run.run_id} was cancelled: the relay ends.\n"
                f"`kaglaunch relay {self.run.run_id}` goes on."
            )
        if state.status is Status.NEW_SCRIPT:
            outcome(self.run, session, state)

    def _push(self, last: Session, start: Start) -> None:
        """Push the next session as soon as quota and slots allow; what is not known of it is settled afterwards."""
        settings = self._settings(last, self._hours())
        number = last.number + 1
        try:
            self._patiently(
                lambda: continuation.push_next(
                    self.run, last, start, settings, self.chosen, self.backend, self.book, self.transfers.note
                )
            )
        except NoFreeSession as error:
            self._wait(SLOT_WAIT_S, f"waits for a free session ({_first_line(error)})")
        except QuotaError as error:
            self._await_quota(_first_line(error))
        except (SubmissionUnknown, SessionTaken) as error:
            self.transfers.note(_first_line(error))
        else:
            self._note(f"pushed session {number} from t{start.num_timesteps:,}")

    def _settings(self, last: Session, max_hours: float) -> Settings:
        asked = {"device": self.wish.device, "accelerator": self.wish.accelerator or None, "max_hours": max_hours}
        return continuation.next_settings({"session": asked}, last)

    def _hours(self) -> float:
        """Hours to ask for: as wished, or the rest of the week's quota; waits for the next week where it is out."""
        if self.wish.device == "cpu":
            return self.wish.max_hours
        while True:
            quota = self._quota()
            if quota is None or quota.left_h >= self.wish.max_hours + MARGIN_H:
                return self.wish.max_hours
            if quota.left_h - SPARE_H >= min(SHORTEST_H, self.wish.max_hours):
                return quota.left_h - SPARE_H
            self._await_quota(f"{quota.left_h:.2f} h of GPU left")

    def _await_quota(self, reason: str) -> None:
        """Sleep until the target says that the quota was refreshed, or until it is time to try."""
        quota = self._quota()
        left_h = quota.left_h if quota else None
        until = quota.refresh.timestamp() if quota and quota.refresh else next_refresh(self.clock.now())
        when = f"{datetime.fromtimestamp(until, UTC):%a %d %b %H:%M} UTC"
        self._note(f"waits for the quota ({reason}); it is refreshed on {when}")
        while True:
            self.clock.sleep(min(self.poll_s, max(until - self.clock.now(), FIRST_WAIT_S)))
            quota = self._quota()
            if quota is not None and left_h is not None and quota.left_h > left_h + SPARE_H:
                return
            if self.clock.now() >= until:
                return
            left_h = quota.left_h if quota else left_h

    def _quota(self) -> Quota | None:
        """What the target says; None where it does not tell, which is not the same as none being left."""
        try:
            return self._patiently(self.backend.quota)
        except BackendError:
            return None

    def _patiently(self, call: Callable[[], T]) -> T:
        """`call`, repeated for as long as the target cannot be reached: a relay outlives a night without network."""
        wait_s, said = FIRST_WAIT_S, ""
        while True:
            try:
                return call()
            except BackendUnavailable as error:
                reason = _first_line(error)
                if reason != said:
                    said = reason
                    self.transfers.note(f"{reason} The relay tries again.")
                self.clock.sleep(max(wait_s, error.retry_after_s or 0.0))
                wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
                self.chosen.revive()

    def _wait(self, seconds: float, note: str) -> None:
        self._note(note)
        self.clock.sleep(min(seconds, self.poll_s))

    def _note(self, text: str) -> None:
        self.transfers.note(f"Relay of {self.run.run_id}: {text}.")
        self.book.update_relay(self.run.run_id, note=text)


def stuck(sessions: list[Session], newest: int) -> bool:
    """Whether the last two sessions, which are over, brought the run no further; `newest` timesteps are safe now."""
    starts = [session.resumed_timesteps or 0 for session in sessions if session.submission != "absent"]
    gains = [after - before for before, after in itertools.pairwise([*starts, newest])]
    return len(gains) >= 2 and max(gains[-2:]) <= 0


def next_refresh(now: float) -> float:
    """The next Saturday 00:00 UTC after `now` [s since the epoch]."""
    return now + WEEK_S - (now - FIRST_SATURDAY_S) % WEEK_S


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
