"""A relay: session after session until the run is done, over session limits and weekly quotas, with nobody watching.

What it does next follows from the ledger and the target alone, so a relay that was killed goes on where another one
begins. Waiting is done through a clock that is passed in.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from kernel.contract.endings import Ending
from launcher import config, locks
from launcher.config import WatchSettings
from launcher.errors import (
    AlertStop,
    BackendError,
    BackendUnavailable,
    Interrupted,
    KernelFailed,
    LauncherError,
    NoFreeSession,
    NotFound,
    QuotaError,
    Refused,
    SessionCut,
    SubmissionUnknown,
)
from launcher.runs import continuation
from launcher.runs.bound_run import BoundRun
from launcher.runs.continuation import SessionRuns, Start
from launcher.runs.endings import DELETED, Submission, ending
from launcher.runs.ledger import SessionTaken
from launcher.runs.next_step import (
    Done,
    Facts,
    Follow,
    GiveUp,
    Lacking,
    Push,
    Refusal,
    WaitUntil,
    Why,
    next_step,
)
from launcher.runs.patience import patiently
from launcher.runs.records import Relay, Session
from launcher.runs.viewer import Screen
from launcher.runs.watch import Watch
from launcher.targets.base import Quota, SessionState
from launcher.targets.target import TargetName

T = TypeVar("T")

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 600.0
"""Between two tries at a target that cannot be reached."""
POLL_S = {TargetName.kaggle: 600.0, TargetName.local: 1.0}
"""Between two looks at the quota: the clock of the embedded Kaggle can be put forward at any time."""
NEXT_SESSION_POLL_S = 2.0


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


def relay(
    bound: BoundRun,
    flags: Mapping[str, Mapping[str, Any]],
    screen: Callable[[], Screen],
    begins: Callable[[Relay], object] = lambda wish: None,
) -> Start:
    """Relay `bound` to its end; the ledger knows all the while what it is about.

    Parameters
    ----------
    screen : callable
        Makes the screen that shows one session.
    begins : callable
        Told what the relay was asked for, when it has the run for itself.

    Raises
    ------
    RelayRuns
        Another process is at it.
    Interrupted
        Ctrl-C; what was pushed goes on.
    RelayGaveUp, AlertStop, SessionCut, KernelFailed, Refused
        See `Relaying.to_the_end`.
    """
    run_id, lock = bound.run_id, bound.run.relay_lock
    refusal = RelayRuns(
        f"A relay of run {run_id} is at work already (process {locks.holder(lock)}); two would push the same "
        "sessions.\n"
        f"Look on with `kaglaunch watch {run_id}`, or end that process."
    )
    with locks.hold(lock, refusal):
        wish = _wish(bound, flags)
        begins(wish)
        limits = config.load({}).watch
        relaying = Relaying(
            bound, wish, lambda session: _follow(bound, session, screen(), limits), POLL_S[bound.target.name]
        )
        try:
            start = relaying.to_the_end()
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"The relay of run {run_id} was interrupted; a session that runs goes on.\n"
                f"`kaglaunch relay {run_id}` goes on, `kaglaunch cancel {run_id}` ends the session."
            ) from error
        except LauncherError as error:
            bound.ledger.update_relay(run_id, state="ended", note=_first_line(error))
            raise
        bound.ledger.update_relay(run_id, state="finished", note=f"all {start.num_timesteps:,} timesteps are done")
    return start


def _wish(bound: BoundRun, flags: Mapping[str, Mapping[str, Any]]) -> Relay:
    """What the relay is asked for: an interrupted one as before, else as the last session; flags win."""
    last, before = bound.newest, bound.ledger.relay(bound.run_id)
    asked = flags.get("session", {})
    session = continuation.next_settings(flags, last).session
    interrupted = before is not None and before.state == "on"
    if before is not None and interrupted:
        kept = {"device": before.device, "accelerator": before.accelerator, "max_hours": before.max_hours}
    else:
        accelerator = session.accelerator if asked.get("accelerator") else last.accelerator or session.accelerator
        kept = {"device": session.device, "accelerator": accelerator, "max_hours": session.max_hours}
    wanted = {**kept, **{key: value for key, value in asked.items() if value is not None}}
    since = before.since if before is not None and interrupted else last.number - (last.number == 1)
    return bound.ledger.begin_relay(bound.run_id, since=since, **wanted)


def _follow(bound: BoundRun, session: Session, screen: Screen, limits: WatchSettings) -> SessionState:
    watched = Watch(
        bound.run, session, bound.compute(session), bound.ledger, screen, limits, revive=bound.target.revive
    )
    return watched.to_the_end()


def at_work(bound: BoundRun) -> bool:
    """Whether a process is relaying the run; a relay that was interrupted has none."""
    relay = bound.ledger.relay(bound.run_id)
    return relay is not None and relay.state == "on" and locks.holder(bound.run.relay_lock) is not None


def next_session(bound: BoundRun, *, after: int, wait: Callable[[float], object] = time.sleep) -> bool:
    """Wait until the relay of the run has begun the session after session `after`; False when it will not.

    Raises
    ------
    Interrupted
        Ctrl-C; the relay goes on.
    """
    try:
        while True:
            # The relay is asked first: it may end right after it has begun its last session.
            on, newest = at_work(bound), bound.newest
            if newest.number > after and newest.submission != Submission.pushing:
                return True
            if not on:
                return False
            wait(NEXT_SESSION_POLL_S)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Stopped watching; the relay of run {bound.run_id} goes on. Watch it again with "
            f"`kaglaunch watch {bound.run_id}`."
        ) from error


@dataclass
class Relaying:
    """One relay at work: it gathers facts, asks `next_step`, and does what that says."""

    bound: BoundRun
    wish: Relay
    follow: Callable[[Session], SessionState]
    """Watches a session to its end."""
    poll_s: float
    """Longest wait between two looks at the quota: the target's clock is not ours."""
    clock: Clock = dataclasses.field(default_factory=WallClock)
    _followed: Ending | None = dataclasses.field(default=None, init=False)
    _over: tuple[Session, Start] | None = dataclasses.field(default=None, init=False)
    """The newest session and the newest checkpoint, as long as nothing was followed or pushed since."""
    _refusal: Refusal | None = dataclasses.field(default=None, init=False)
    _noted: str = dataclasses.field(default="", init=False)

    def to_the_end(self) -> Start:
        """Chain sessions until all timesteps are done.

        Raises
        ------
        RelayGaveUp
            Two sessions one after the other brought no new timestep.
        AlertStop, SessionCut, KernelFailed
            A session was stopped by an alert, cancelled or deleted by somebody, or never ran.
        Refused
            The target takes no session, for a reason that waiting does not change.
        """
        while True:
            facts = self._facts()
            match next_step(facts):
                case Follow():
                    self._follow_newest()
                case Push(max_hours):
                    self._push(max_hours)
                case WaitUntil() as wait:
                    self._wait(wait, facts.now)
                case Done():
                    return self._standing()[1]
                case GiveUp(why):
                    raise self._given_up(why)

    def _facts(self) -> Facts:
        total = self.bound.total_timesteps
        try:
            last, start = self._standing()
        except SessionRuns:
            # What never ran is not over for the target, and nothing comes of waiting for it.
            alive = self._followed is not Ending.never_ran
            return Facts(self.clock.now(), may_be_alive=alive, total_timesteps=total, ending=self._followed)
        ours = [session for session in self.bound.sessions if session.number > self.wish.since]
        on_gpu = self.wish.device != "cpu"
        return Facts(
            now=self.clock.now(),
            may_be_alive=False,
            total_timesteps=total,
            safe_timesteps=start.num_timesteps,
            ending=self._followed,
            alert=self._followed is not None and bool(last.alert),
            fruitless=fruitless(ours, start.num_timesteps),
            on_gpu=on_gpu,
            wished_h=self.wish.max_hours,
            quota=self._quota() if on_gpu else None,
            refusal=self._refusal,
        )

    def _standing(self) -> tuple[Session, Start]:
        """The newest session, over for certain, and the newest checkpoint.

        Raises
        ------
        SessionRuns
            It is not over.
        """
        if self._over is None:
            last = self._patiently(lambda: continuation.settled(self.bound, sleep=self.clock.sleep))
            start = self._patiently(lambda: continuation.starting_point(self.bound))
            self._over = last, start
        return self._over

    def _follow_newest(self) -> None:
        session = self.bound.newest
        self._note(f"follows session {session.number}")
        try:
            state = self.follow(session)
        except NotFound:
            self._followed = Ending.deleted
            self.bound.update(session.number, status=DELETED)
        else:
            self._followed = ending(self.bound.session(session.number), state)
            if risk := self.bound.session(session.number).risk_message:
                self._note(f"followed session {session.number}, whose checkpoints did not come out in time: {risk}")
        self._over = None

    def _push(self, max_hours: float) -> None:
        """Push the next session; what is not known of it is settled afterwards."""
        last, start = self._standing()
        asked = {"device": self.wish.device, "accelerator": self.wish.accelerator or None, "max_hours": max_hours}
        settings = continuation.next_settings({"session": asked}, last)
        try:
            self._patiently(lambda: continuation.push_next(self.bound, last, start, settings))
        except NoFreeSession as error:
            self._refusal = Refusal(Lacking.slot, _first_line(error), self.clock.now())
        except QuotaError as error:
            self._refusal = Refusal(Lacking.quota, _first_line(error), self.clock.now(), self._quota())
        except (SubmissionUnknown, SessionTaken, SessionRuns) as error:
            self.bound.say(_first_line(error))
            self._over = self._refusal = None
        else:
            self._over = self._refusal = None
            self._note(f"pushed session {last.number + 1} from t{start.num_timesteps:,}")

    def _wait(self, wait: WaitUntil, now: float) -> None:
        if wait.lacking is Lacking.quota:
            when = f"{datetime.fromtimestamp(wait.when, UTC):%a %d %b %H:%M} UTC"
            self._note(f"waits for the quota ({wait.reason}); it is refreshed on {when}")
        else:
            self._note(f"waits for a free session ({wait.reason})")
        self.clock.sleep(min(self.poll_s, wait.when - now))

    def _given_up(self, why: Why) -> LauncherError:
        run_id, session = self.bound.run_id, self.bound.newest
        whose = f"Session {session.number} of run {run_id}"
        read, again = f"Read `kaglaunch logs {run_id}`; ", f"`kaglaunch relay {run_id}` goes on."
        match why:
            case Why.alert:
                return AlertStop(
                    f"{whose} was stopped ({session.alert or session.result}): the relay ends.\n{read}{again}"
                )
            case Why.cancelled:
                return SessionCut(f"{whose} was cancelled: the relay ends.\n{again}")
            case Why.deleted:
                return SessionCut(f"{whose} was deleted with its kernel while it ran: the relay ends.\n{again}")
            case Why.never_ran:
                return KernelFailed(f"{whose} was taken by the target and never ran: the relay ends.\n{again}")
            case Why.no_gain:
                assert self._over is not None
                return RelayGaveUp(
                    f"The last two sessions of run {run_id} ended without a new timestep "
                    f"(still t{self._over[1].num_timesteps:,}): the relay gives up before it spends more.\n"
                    f"{read}`kaglaunch relay {run_id}` tries again."
                )

    def _quota(self) -> Quota | None:
        """What the target says; None where it does not tell, which is not the same as none being left."""
        try:
            return self._patiently(self.bound.backend.quota)
        except BackendError:
            return None

    def _patiently(self, call: Callable[[], T]) -> T:
        """`call`, repeated for as long as the target cannot be reached: a relay outlives a night without network."""
        said: set[str] = set()

        def failed(error: BackendUnavailable) -> None:
            if (reason := _first_line(error)) not in said:
                said.add(reason)
                self.bound.say(f"{reason} The relay tries again.")

        return patiently(
            call,
            sleep=self.clock.sleep,
            first_s=FIRST_WAIT_S,
            longest_s=LONGEST_WAIT_S,
            failed=failed,
            before_retry=self.bound.target.revive,
        )

    def _note(self, text: str) -> None:
        """Say what the relay is about and keep it in the ledger, unless both have it already."""
        if text == self._noted:
            return
        self._noted = text
        self.bound.say(f"Relay of {self.bound.run_id}: {text}.")
        self.bound.ledger.update_relay(self.bound.run_id, note=text)


def fruitless(sessions: list[Session], newest: int) -> int:
    """How many of the last of `sessions`, which are over, brought the run no further; `newest` timesteps are safe."""
    starts = [session.resumed_timesteps or 0 for session in sessions if session.submission != Submission.absent]
    gains = [after - before for before, after in itertools.pairwise([*starts, newest])]
    return len(list(itertools.takewhile(lambda gain: gain <= 0, reversed(gains))))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
