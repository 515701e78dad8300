"""A run as an object: its verbs are methods, and what they find is returned. Whoever calls them has the words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from kernel.contract.endings import Ending
from launcher import config
from launcher.config import Settings, WatchSettings
from launcher.documents.runs import RunReport
from launcher.errors import (
    CheckpointError,
    Interrupted,
    KernelFailed,
    LauncherError,
    NotFound,
    SessionCut,
)
from launcher.runs import cancellation, checkpoints, continuation, here, kept_log, records, relay, report, submission
from launcher.runs.bound_run import BoundRun
from launcher.runs.cancellation import Cancelled
from launcher.runs.checkpoints import Fetched
from launcher.runs.continuation import Start
from launcher.runs.endings import DELETED, Submission, ending
from launcher.runs.ledger import Ledger
from launcher.runs.look import look
from launcher.runs.records import Run, Session
from launcher.runs.submission import Prepared
from launcher.runs.viewer import Screen
from launcher.runs.watch import Watch, outcome
from launcher.targets.base import LogLine, SessionState, Status
from launcher.transfers import Transfers

Flags = Mapping[str, Mapping[str, Any]]
"""Section -> key -> value of what is asked for over this machine's configuration."""


@dataclass(frozen=True)
class Next:
    """The session that would follow: nothing was pushed yet."""

    last: Session
    start: Start
    settings: Settings
    total_timesteps: int

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self.start.newest is not None and self.start.num_timesteps >= self.total_timesteps

    @property
    def number(self) -> int:
        """Of the session."""
        return self.last.number + 1


@dataclass(frozen=True)
class Pushed:
    """A session that the target has taken."""

    number: int
    prepared: Prepared
    address: str
    """Of its page."""


@dataclass(frozen=True)
class Watched:
    """A session that was followed to its end."""

    session: Session
    state: SessionState
    ending: Ending | None


@dataclass(frozen=True)
class Cancellation:
    """What became of a session that was to end."""

    session: Session
    found: Status | None
    """Its final state where it was over already; None where the target does not have it."""
    done: Cancelled | None = None
    """How it was ended; None where nothing was left to end."""


class RunHandle(BoundRun):
    """`run`, with what can be done with it.

    Errors are those of `launcher.errors`; each method names its own.
    """

    @classmethod
    def of(cls, run_id: str | None = None, transfers: Transfers | None = None) -> Self:
        """The run of that name, or the newest one.

        Raises
        ------
        UnknownRun
            There is none.
        """
        ledger = Ledger()
        return cls(ledger.run(run_id), ledger, transfers)

    def report(self, *, ask: bool = False) -> RunReport:
        """What the ledger knows of every session; with `ask` its target is asked first, as long as a moment allows."""
        told = look([self.run], self.ledger)[self.run_id] if ask else None
        return report.report(self.run, self.ledger, told)

    def describe(self, *, note: str | None = None, tags: Sequence[str] = (), untag: Sequence[str] = ()) -> Run:
        """Change what is written down about the run, where something is given; returns the run as it is known then.

        Raises
        ------
        ConfigError
            One of `tags` is no word.
        """
        records.require_tags(tags)
        if note is not None or tags or untag:
            kept = [tag for tag in dict.fromkeys((*self.run.tags, *tags)) if tag not in untag]
            self.ledger.describe_run(self.run_id, note=note, tags=kept)
            self.run = self.ledger.run(self.run_id)
        return self.run

    def log(self, number: int | None = None) -> Iterator[LogLine]:
        """The log of session `number`, or of the newest one: what was kept here, else what the target still has.

        Raises
        ------
        UsageError
            The run has no such session.
        """
        return kept_log.lines(self, kept_log.chosen(self, number))

    def fetch(self, *, everything: bool = False, step: int | None = None) -> list[Fetched]:
        """Bring back the newest checkpoint that verifies, or the one at `step`, or `everything`; newest first.

        Raises
        ------
        BackendUnavailable
            The target cannot be asked at all.
        """
        return checkpoints.fetch(
            self.run, self.backend, self.ledger, everything=everything, step=step, transfers=self.transfers
        )

    def require_fetched(self, results: list[Fetched], step: int | None = None) -> None:
        """Raise CheckpointError when none of `results` is usable."""
        if any(result.path for result in results):
            return
        asked = "No checkpoint of run" if step is None else f"No checkpoint at step {step} of run"
        raise CheckpointError(
            f"{asked} {self.run_id} verifies: {len(results)} were found in dataset {self.run.dataset} and in kernel "
            f"outputs.\n{self._after_nothing(step)}"
        )

    def _after_nothing(self, step: int | None) -> str:
        """What to do where a fetch brought nothing."""
        last, run_id = self.newest, self.run_id
        if step is not None:
            return f"`kaglaunch fetch-checkpoints {run_id} --all` brings every one that there is."
        if not last.over:
            return f"If the session still runs, its first one may come soon: `kaglaunch watch {run_id}`."
        here = checkpoints.newest_here(self.run)
        start = f"the checkpoint t{here.num_timesteps:,} of this machine" if here is not None else "timestep 0"
        return f"Session {last.number} is over, so none will come: `kaglaunch resume {run_id}` starts from {start}."

    def watch(self, screen: Screen, limits: WatchSettings | None = None) -> Watched:
        """Follow the newest session to its end; Ctrl-C leaves it running.

        Raises
        ------
        AlertStop
            An alert ended it.
        NotFound
            Its push was never taken, or its kernel is gone.
        Interrupted
            Ctrl-C.
        """
        session = self.newest
        watched = Watch(
            self.run,
            session,
            self.compute(session),
            self.ledger,
            screen,
            limits or config.load({}).watch,
            revive=self.target.revive,
            quota=None if session.here else self.backend.quota,
        )
        try:
            state = watched.to_the_end()
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"Stopped watching; session {session.number} of run {self.run_id} goes on.\n"
                f"Watch it again with `kaglaunch watch {self.run_id}`, end it with `kaglaunch cancel {self.run_id}`."
            ) from error
        except NotFound as error:
            raise self._gone(session) from error
        self.update(session.number, submission=Submission.pushed)
        session = self.session(session.number)
        if not session.log_complete:  # nobody followed it, and what it published is all that can be known
            look([self.run], self.ledger)
            session = self.session(session.number)
        return Watched(session, state, ending(session, state))

    def watch_to_the_end(
        self,
        screen: Callable[[], Screen],
        limits: WatchSettings | None = None,
        waits: Callable[[LauncherError], object] = lambda ended: None,
    ) -> Watched:
        """Follow the newest session until it finished the run, and in a relay session after session.

        `screen` is made anew for each session; `waits` is told how one ended when a relay is to begin another.

        Raises
        ------
        AlertStop, KernelFailed, SessionCut
            It ended otherwise, and no relay goes on.
        NotFound, Interrupted
            See `watch`.
        """
        while True:
            watched = self.watch(screen(), limits)
            try:
                self.outcome(watched)
                return watched
            except (KernelFailed, SessionCut) as ended:
                if not relay.at_work(self):
                    raise
                waits(ended)
                if not relay.next_session(self, after=watched.session.number):
                    raise

    def outcome(self, watched: Watched) -> str:
        """How the session ended, in words, when it finished the run.

        Raises
        ------
        AlertStop, KernelFailed, SessionCut
            It ended otherwise.
        """
        return outcome(self.run, watched.session, watched.state)

    def next_session(self, flags: Flags) -> Next:
        """The session that would follow on the target, and where it would start.

        Raises
        ------
        SessionRuns
            The newest one is not over.
        TrainingMissing
            The target is this machine, and it cannot train.
        """
        submission.require_training(self.target)
        last = continuation.settled(self)
        settings = continuation.next_settings(flags, last)
        return Next(last, continuation.starting_point(self), settings, self.total_timesteps)

    def push(self, following: Next) -> Pushed:
        """Push that session, its checkpoint handed over where only this machine has it.

        Raises
        ------
        Refused, SubmissionUnknown, SessionTaken, CheckpointError
            See `submission.start` and `hand_over.hand_over`.
        """
        prepared, address = continuation.push_next(self, following.last, following.start, following.settings)
        return Pushed(following.number, prepared, address)

    def next_session_here(self, flags: Flags) -> Next:
        """The session that would follow on this machine; a target that cannot be asked is gone on without.

        Raises
        ------
        SessionRuns
            The newest one is not over.
        TrainingMissing
            This machine cannot train.
        """
        here.require_training(self.run)
        last, start = here.where_it_stands(self)
        return Next(last, start, continuation.next_settings(flags, last), self.total_timesteps)

    def start_here(self, following: Next, max_hours: float | None = None) -> int:
        """Start that session in a process of this machine that outlives this one; its process id.

        Raises
        ------
        HereBusy, SessionTaken
            A session of the run is alive on this machine, or another command has just begun this one.
        """
        session = here.session_config(following.settings, following.number, max_hours)
        return here.begin(self, session, following.start)

    def watch_here(self, screen: Screen, limits: WatchSettings) -> Watched:
        """Follow the newest session, on this machine, to its end; Ctrl-C asks it to end well, a second one ends it now.

        Raises
        ------
        AlertStop, Interrupted
            An alert, or Ctrl-C, ended it.
        """
        number = self.newest.number
        state = here.follow(self, number, limits, screen)
        session = self.session(number)
        return Watched(session, state, ending(session, state))

    def relay(
        self, flags: Flags, screen: Callable[[], Screen], begins: Callable[[relay.Relay], object] = lambda wish: None
    ) -> Start:
        """Chain sessions until all timesteps are done; a relay that was interrupted goes on as it was asked for.

        `screen` is made anew for each session; `begins` is told what the relay was asked for.

        Raises
        ------
        RelayRuns
            Another process is at it.
        RelayGaveUp, AlertStop, SessionCut, Refused, Interrupted
            See `Relaying.to_the_end`; the ledger knows the reason too.
        """
        submission.require_training(self.target)
        return relay.relay(self, flags, screen, begins)

    def cancel(self, asks: Callable[[Session], object] = lambda session: None) -> Cancellation:
        """End the newest session for certain.

        `asks` is called with it, as its log tells it up to now, before anything is ended; what it raises leaves the
        session alone.

        Raises
        ------
        BackendUnavailable
            The end could not be confirmed.
        """
        session = self.newest
        compute, slug = self.compute(session), self.run.slug(session.number)
        try:
            state = compute.state(slug)
        except NotFound:
            return Cancellation(session, None)
        if state.status.final:
            self.update(session.number, status=state.status.value, message=state.message)
            return Cancellation(session, state.status)
        if session.here or state.status is Status.QUEUED:
            asks(session)
            done = cancellation.cancel_session(compute, self.run, session, session.session_id)
            known: dict[str, Any] = {}
        else:
            with cancellation.LastWords(compute, self.run, session) as log:
                log.read(cancellation.LOG_WAIT_S)
                self.update(session.number, **log.progress.known())
                asks(self.session(session.number))
                done = cancellation.cancel_session(compute, self.run, session, log.progress.session_id)
                log.read(cancellation.LAST_LINES_S)
            known = {"log_complete": True, **log.progress.known()}
        message = "deleted from here" if done.status == DELETED else "cancelled from here"
        self.update(session.number, status=done.status, message=message, **known)
        if session.here:
            continuation.settle_here(self)
        return Cancellation(self.session(session.number), state.status, done)

    def _gone(self, session: Session) -> NotFound:
        """What a kernel that is not on the target means; a push that was never taken leaves no trace."""
        known = next((one for one in self.sessions if one.number == session.number), session)
        if continuation.may_turn_up(known) and known.submission == Submission.pushing:
            return NotFound(
                f"Session {session.number} of {self.run_id} is being pushed, and the target does not have it yet.\n"
                f"`kaglaunch watch {self.run_id}` follows it in a while."
            )
        if known.submission != Submission.pushed:
            self.ledger.forget_session(self.run_id, session.number)
            return NotFound(
                f"The push of session {session.number} of {self.run_id} was never answered, and the target has no such "
                "kernel: it was not taken, and nothing was spent.\nPush it again."
            )
        return NotFound(
            f"The kernel {self.run.slug(session.number)} is not on the target any more (deleted, or another account).\n"
            f"Its published checkpoints are: `kaglaunch fetch-checkpoints {self.run_id}`."
        )
