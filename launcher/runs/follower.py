"""A session's log and state as one queue of happenings that survives cuts and silence.

A thread reads the stream; whoever consumes the queue may wait with a time-out. That a connection ended says nothing
about the session: only its state does.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kernel.contract import events
from launcher.errors import BackendError, BackendUnavailable, LauncherError, NotFound, Withheld
from launcher.runs.patience import Backoff
from launcher.targets.base import Compute, LogLine, Quota, SessionState, Status

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LONGEST_QUIET_WAIT_S = 10.0
"""Between two looks at a session that is queued, or whose stream ends without a word; Kaggle limits requests."""
OPEN_S = 2.0
"""A session whose stream ended so long ago may have told more since."""
SILENT_S = 10.0
"""A stream that says nothing for so long may be a dead connection: the target is asked beside it."""
ODD_ANSWERS = 5
"""So many answers in a row that make no sense end the following; a single one does not."""
FINAL_LOOKS = 8
"""How often the log is asked for again after a final state, when it tells no result: it may come a little later."""


@dataclass(frozen=True)
class StateSeen:
    """The platform was asked, and said this."""

    state: SessionState


@dataclass(frozen=True)
class Cut:
    """The connection or the platform failed; it is tried again after `wait_s`."""

    reason: str
    wait_s: float


@dataclass(frozen=True)
class Ended:
    """The session is over, or cannot be followed (`error`)."""

    state: SessionState | None
    error: LauncherError | None = None
    complete: bool = False
    """Whether its log was read to its end, so that nothing that it told is unknown."""


@dataclass(frozen=True)
class QuotaSeen:
    """The platform was asked for the quota, and said this."""

    quota: Quota


Happening = LogLine | StateSeen | Cut | QuotaSeen | Ended


class Follower:
    """Follows the kernel `slug` until its state is final; `seen` counts log events, so that a replay costs little.

    `revive` is called before a new try after a failure: the embedded Kaggle may have to be started again.

    Attributes
    ----------
    answered_at : float or None
        When the target last answered, of `clock` [s]; None before its first answer.
    asking_since : float or None
        Since when an answer is waited for, tries that failed counted; None while the target answers.
    """

    def __init__(
        self,
        backend: Compute,
        slug: str,
        *,
        wait: Callable[[float], object] | None = None,
        revive: Callable[[], object] = lambda: None,
        unknown_looks: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.happenings: queue.Queue[Happening] = queue.Queue(maxsize=20_000)
        self.seen = 0
        self._backend, self._slug = backend, slug
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._unknown_looks = unknown_looks
        self._revive = revive
        self._result_seen = False
        self._state = SessionState(Status.QUEUED)
        self._clock = clock
        self.answered_at: float | None = None
        self.asking_since: float | None = None
        self._complete = False
        self._waited_s = 0.0
        self._streaming = False

    def start(self) -> None:
        """Follow in a thread of its own, which ends with the process."""
        threading.Thread(target=self._run, name=f"follow-{self._slug}", daemon=True).start()
        threading.Thread(target=self._ask_beside, name=f"ask-{self._slug}", daemon=True).start()

    def ask_quota_every(self, period_s: float, quota: Callable[[], Quota | None]) -> None:
        """Call `quota` too, in another thread; a target that does not tell it is asked again later."""
        arguments = (period_s, quota)
        threading.Thread(target=self._ask_quota, args=arguments, name=f"quota-{self._slug}", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self.happenings.put(Ended(self._follow(), complete=self._complete))
        except LauncherError as error:
            self.happenings.put(Ended(None, error, self._complete))
        except Exception as error:  # noqa: BLE001 - the thread ends here, and whoever waits must hear of it
            self.happenings.put(Ended(None, LauncherError(f"Following failed: {type(error).__name__}: {error}")))

    def _ask_quota(self, period_s: float, quota: Callable[[], Quota | None]) -> None:
        while not self._stop.is_set():
            try:
                if found := quota():
                    self.happenings.put(QuotaSeen(found))
            except LauncherError as error:
                logger.debug("no quota: %s", error)
            self._wait(period_s)

    def _ask_beside(self) -> None:
        """See whether the target answers while its stream is silent; what it answers is the other thread's to use."""
        while not self._stop.wait(1.0):
            silent_s = self._clock() - (self.answered_at if self.answered_at is not None else self._clock())
            if not self._streaming or silent_s < SILENT_S:
                continue
            self._ask()
            try:
                self._backend.state(self._slug)
            except NotFound:
                self._answered()
            except LauncherError as error:
                logger.debug("no answer beside the stream of %s: %s", self._slug, error)
                self._stop.wait(SILENT_S)
            else:
                self._answered()

    def _follow(self) -> SessionState | None:
        """Read the stream again and again until the state is final and the log is told to its end."""
        quiet_s, missing, looks, odd = FIRST_WAIT_S, 0, 0, 0
        backoff = Backoff(2 * FIRST_WAIT_S, LONGEST_WAIT_S)
        while not self._stop.is_set():
            before = self.seen
            try:
                self._ask()
                state = self._backend.state(self._slug)
                self._answered()
                missing = 0
                if state != self._state:
                    self._state = state
                    self.happenings.put(StateSeen(state))
                if state.status is not Status.QUEUED:
                    self._read_log()
                if state.status.final:
                    # A log that was cut by the end of its session is complete only when it is asked for once more.
                    looks = looks + 1 if self.seen == before else 0
                    awaited = state.status is Status.COMPLETE and not self._result_seen
                    if looks >= (FINAL_LOOKS if awaited else 2):
                        return state
            except NotFound:
                self._answered()
                missing += 1
                if missing >= self._unknown_looks:
                    raise
            except BackendError as error:
                self._ask()
                again = isinstance(error, BackendUnavailable) and not isinstance(error, Withheld)
                odd = 0 if again else odd + 1
                if odd >= ODD_ANSWERS:
                    raise
                if self.seen > before:
                    backoff.reset()
                wait_s = backoff.wait_s(error)
                self.happenings.put(Cut(str(error), wait_s))
                self._wait(wait_s)
                self._revive()
                continue
            odd = 0
            backoff.reset()
            busy = self.seen > before or self._state.status.final
            quiet_s = FIRST_WAIT_S if busy else min(LONGEST_QUIET_WAIT_S, quiet_s * 1.5)
            self._waited_s = quiet_s
            self._wait(quiet_s)
        return None

    def _ask(self) -> None:
        if self.asking_since is None:
            self.asking_since = self._clock()

    def _answered(self) -> None:
        self.answered_at, self.asking_since = self._clock(), None

    def _read_log(self) -> None:
        """Read on to the end that the log has now.

        A session that was killed takes its log away: all of it was read where its stream was open to that moment, and
        ended in order.
        """
        in_order, self._complete = self._complete and self._waited_s <= OPEN_S, False
        self._streaming = True
        try:
            for line in self._backend.log_lines(self._slug, skip=self.seen):
                self._answered()
                self.seen += 1
                self._result_seen |= isinstance(events.parse(line.text), events.Result)
                self.happenings.put(line)
                if self._stop.is_set():
                    return
            self._complete = self.seen > 0
        except NotFound as error:
            # The log of a killed session is gone; its state is what counts then.
            logger.debug("no log of %s: %s", self._slug, error)
            self._complete = in_order
        finally:
            self._streaming = False
