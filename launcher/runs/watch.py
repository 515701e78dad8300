"""Watch one session to its end: show it, keep its log, raise alerts, end it where its kernel cannot, write down how."""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kernel.contract import events
from kernel.contract.endings import STOPPED_BY_ALERT, Ending
from launcher.config import WatchSettings
from launcher.errors import AlertStop, BackendError, KernelFailed, LauncherError, NotFound, SessionCut
from launcher.runs import records, report
from launcher.runs.alerts import Alert, Alerts, Level
from launcher.runs.cancellation import cancel_session
from launcher.runs.endings import ending
from launcher.runs.follower import Cut, Ended, Follower, QuotaSeen, StateSeen
from launcher.runs.forced_end import ForcedEnd
from launcher.runs.kept_log import Copy
from launcher.runs.ledger import Ledger
from launcher.runs.notifier import Notice, Notifier
from launcher.runs.progress import Progress
from launcher.runs.records import Run, Session
from launcher.runs.viewer import Screen
from launcher.tables import duration
from launcher.targets.base import Compute, LogLine, Quota, SessionState, Status

TICK_S = 1.0
NO_ANSWER_S = 5.0
"""An answer may take so long without a word of it."""
RETRY_S = 15.0
"""Between two tries to end a session."""
KEEP_S = 60.0
"""As much of a log may be lost with a watch that is killed."""


@dataclass
class Watch:
    """One session being watched."""

    run: Run
    session: Session
    backend: Compute
    ledger: Ledger
    screen: Screen
    limits: WatchSettings
    clock: Callable[[], float] = time.monotonic
    revive: Callable[[], object] = lambda: None
    quota: Callable[[], Quota | None] | None = None
    """Asks the target for its quota, where the session spends any."""

    def __post_init__(self) -> None:
        self.progress = Progress(total_timesteps=records.total_timesteps(self.run, [self.session]))
        if not self.session.max_timesteps_at_risk:
            self.progress.publish_interval_s = self.session.publish_interval_seconds
        self.alerts = Alerts(self.limits)
        self.notifier = Notifier(self.limits)
        self.forced = ForcedEnd(self.limits.grace_s, self.session.max_seconds)
        self._stop: Alert | None = None
        """The first alert that says that the session ends."""
        self._forced_by: Alert | None = None
        """The alert that the session is ended for by force."""
        self._ended = False
        self._next_try = 0.0
        self._heard_at = self.session.seen_at

    def to_the_end(self) -> SessionState:
        """Follow until the session is over; returns its final state.

        Raises
        ------
        AlertStop
            The session was ended by force.
        LauncherError
            The session cannot be followed; what was seen so far is kept.
        """
        follower = Follower(self.backend, self.run.slug(self.session.number), revive=self.revive, clock=self.clock)
        self.screen.begin(self.run, self.session)
        follower.start()
        if self.quota is not None and self.session.accelerator and self.limits.quota_poll_s:
            follower.ask_quota_every(self.limits.quota_poll_s, self.quota)
        try:
            with Copy(self.run, self.session.number) as log:
                state = self._consume(follower, log)
        finally:
            follower.stop()
            self.screen.end()
            self._remember()
            self.notifier.close()
        if self._forced_by is not None and (self.session.here or self.progress.result is None):
            raise AlertStop(
                f"{self._forced_by}\nThe session was ended, with {self.progress.at_risk:,} timesteps lost. Its "
                f"checkpoints are kept: `kaglaunch fetch-checkpoints {self.run.run_id}` brings them. Its log: "
                f"{self.run.log(self.session.number)}"
            )
        return state

    def _consume(self, follower: Follower, log: Copy) -> SessionState:
        last_line = last_tick = last_keep = self.clock()
        queued = True
        while True:
            try:
                happening = follower.happenings.get(timeout=TICK_S)
            except queue.Empty:
                happening = None
            now = self.clock()
            if follower.answered_at is not None:
                self._heard_at = time.time() - max(0.0, now - follower.answered_at)
            match happening:
                case LogLine():
                    last_line, queued = now, False
                    log.write(happening)
                    self._on_line(happening)
                case StateSeen():
                    self.screen.state(happening.state)
                    self._on_state(happening.state)
                    queued, last_line = happening.state.status is Status.QUEUED, now
                case QuotaSeen():
                    # The hours that this session has reserved are hours that it may still use.
                    self.progress.quota_left_h = max(0.0, happening.quota.allowed_h - happening.quota.used_h)
                case Cut():
                    self.forced.deafen(now + happening.wait_s)
                    self.screen.note(f"{happening.reason} Trying again in {happening.wait_s:.0f} s.")
                case Ended():
                    log.keep()
                    if self._forced_by is not None and isinstance(happening.error, NotFound):
                        # It was ended by deleting its kernel.
                        gone = SessionState(Status.CANCEL_ACKNOWLEDGED, "ended from here")
                        self._on_end(gone, happening.complete)
                        return gone
                    if happening.error is not None:
                        raise happening.error
                    assert happening.state is not None
                    self._on_end(happening.state, happening.complete)
                    return happening.state
            if now - last_tick >= TICK_S:
                last_tick = now
                if now - last_keep >= KEEP_S:
                    last_keep = now
                    log.keep()
                silent_s = 0.0 if queued else now - last_line
                session_s = self.progress.last_time + silent_s
                self.screen.tick(self.progress, session_s, unanswered(follower, now))
                self._raise(
                    self.alerts.on_time(
                        silent_s=silent_s,
                        progress=self.progress,
                        now_s=session_s,
                        limit_s=self.session.max_seconds,
                    )
                )
                self._end_by_force(now)
                self._remember()

    def _on_line(self, line: LogLine) -> None:
        before = self.progress.ending
        event = self.progress.observe(line)
        if self.session.here:
            # What lies on the disk of this machine outlives the session as what is published does.
            self.progress.published_timesteps = self.progress.checkpoint_timesteps
            self.progress.published_time = self.progress.checkpoint_time
        ending = self.progress.ending
        if event is not None:
            self.forced.hear(event, ending, self.clock())
        self.screen.line(line, event, self.progress)
        self._raise(self.alerts.on_line(line, event))
        if ending is not None and ending is not before:
            self.screen.note(
                f"The kernel is stopping itself ({ending}): last checkpoint, publish. Waiting for its end."
            )
        if isinstance(event, (events.Session, events.Result, events.Training)):
            self._remember()

    def _raise(self, alerts: list[Alert]) -> None:
        now = self.clock()
        for alert in alerts:
            self.screen.alert(alert)
            self.notifier.send(Notice(self.run.run_id, self.session.number, alert))
            if alert.level is Level.STOP:
                self._stop = self._stop or alert
                if self.progress.ending is None:
                    self.forced.condemn(alert, now)

    def _end_by_force(self, now: float) -> None:
        """End a session whose kernel has not, again and again until the target has done it."""
        alert = self.forced.due(now)
        if alert is None or self._ended or self.progress.result is not None or now < self._next_try:
            return
        if self._forced_by is None:
            self._forced_by = alert
            if alert is not self._stop:
                self._raise([alert])
            self.screen.note(self._cost())
            self._remember()
        try:
            said = cancel_session(self.backend, self.run, self.session, self.progress.session_id)
            self._ended = True
            self.screen.note(str(said))
        except BackendError as error:
            self._next_try = now + RETRY_S
            self.screen.note(f"{error}\nThe session could not be ended yet; trying again in {RETRY_S:.0f} s.")

    def _cost(self) -> str:
        """What the end by force costs, in words."""
        if self.session.here:
            return "The kernel said nothing of it: asking it to write a last checkpoint and to end."
        published, at_risk = self.progress.published_timesteps, self.progress.at_risk
        return (
            f"The kernel said nothing of its own for {self.limits.grace_s:.0f} s, and the target can only kill: ending "
            f"the session by force. That costs {at_risk:,} timesteps, those since the last published checkpoint "
            f"({'none' if published is None else f't{published:,}'})."
        )

    def _on_state(self, state: SessionState) -> None:
        """Whoever asks the ledger meanwhile hears it; an end waits for what the log still has to say."""
        if not state.status.final:
            values: dict[str, Any] = {"status": state.status.value, "message": state.message, "seen_at": self._heard_at}
            self.ledger.update_session(self.run.run_id, self.session.number, **values)

    def _on_end(self, state: SessionState, complete: bool) -> None:
        values: dict[str, Any] = {"status": state.status.value, "message": state.message}
        if complete:
            values["log_complete"] = True
        if self.progress.result is not None:
            values["result"] = self.progress.result.status
        self.ledger.update_session(self.run.run_id, self.session.number, **values)

    def _remember(self) -> None:
        ended_for = self._forced_by
        if self.progress.ending is not None and self.progress.ending.about.exit_code == STOPPED_BY_ALERT:
            ended_for = self._stop
        known = self.progress.known()
        if ended_for is not None:
            known |= {"alert_rule": ended_for.rule, "alert_message": ended_for.message}
        if known or self._heard_at:
            self.ledger.update_session(
                self.run.run_id,
                self.session.number,
                taken_back=self.progress.lost_publish,
                seen_at=self._heard_at,
                **known,
            )


def unanswered(follower: Follower, now: float) -> str:
    """How long the target has not answered, and how old what is known is; empty while it does."""
    since = follower.asking_since
    if since is None or now - since < NO_ANSWER_S:
        return ""
    last = follower.answered_at
    ago = f", the last one {duration(now - last)} ago" if last is not None else ""
    return f"no answer for {duration(now - since)}{ago}"


_SAID: Mapping[Ending, str] = {
    Ending.deadline: "The session ended by its own deadline after {safe}.",
    Ending.stopped: "The session was asked to end, and did so after {safe}.",
    Ending.flood: "The kernel stopped itself (flood) after {safe}.",
    Ending.unhealthy: "The kernel stopped itself (unhealthy) after {safe}.",
    Ending.crashed: "The trainer crashed for good after {safe}.",
    Ending.silent: "The kernel ended without saying how, after {safe}.",
    Ending.failed: "The kernel failed after {safe}.",
    Ending.cut: "The session was cut off after {safe}; its outputs and its log are gone there.",
    Ending.cancelled: "The session was cancelled after {safe}; its outputs and its log are gone there.",
    Ending.deleted: "The kernel was deleted after {safe}.",
    Ending.never_ran: "The target took the kernel, and it was never run.",
}
_ERRORS: Mapping[int, type[LauncherError]] = {error.exit_code: error for error in (AlertStop, KernelFailed, SessionCut)}


def outcome(run: Run, session: Session, state: SessionState) -> str:
    """Say how the session ended, when it finished its run.

    Raises
    ------
    KernelFailed, SessionCut, AlertStop
        It ended otherwise, as `Ending.about` has it; the message says what to type next.
    """
    row = report.of_session(run, dataclasses.replace(session, status=state.status.value))
    seen = f"{session.seen_timesteps or 0:,} of {records.total_timesteps(run, [session]):,} timesteps"
    if session.seen_timesteps is None and not session.log_complete:
        seen = "an unknown number of timesteps"
    ended = ending(session, state) or Ending.silent
    if ended is Ending.finished:
        return f"Run {run.run_id} is finished: {seen}."
    lost = "" if row.lost_timesteps is None else f", {row.lost_timesteps:,} lost"
    kept = "safe here" if session.here else "published"
    said = _SAID[ended].format(safe=f"{seen}, t{row.published_timesteps:,} of them {kept}{lost}")
    if state.message and not ended.about.by_kernel:
        said += f" Kaggle says: {state.message}"
    alert = [session.alert] if session.alert else []
    log = f"What was seen of its log: {run.log(session.number)}"
    raise _ERRORS[ended.about.exit_code]("\n".join([said, *alert, log, ended.remedy_for(run.run_id)]))
