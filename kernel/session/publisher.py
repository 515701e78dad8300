"""The newest checkpoint into a dataset version, again and again, in the background.

At most one upload at a time; when behind, only the newest checkpoint goes. Nothing here ever stops the training. What
is published is what the dataset lists now: it is looked at before each publish, and now and then without one.

Standard library only.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kernel.checkpoints import staging
from kernel.checkpoints.staging import Staged
from kernel.contract.config import Configuration
from kernel.contract.events import (
    Cadence,
    Event,
    Published,
    PublishFailed,
    PublishLost,
    PublishSlow,
    WriteFailed,
    WriteProved,
)
from kernel.contract.files import write_aside
from kernel.contract.names import CHECKPOINTS, PUBLISHED, num_timesteps_of, version_note
from kernel.contract.stopping import LAST_PUBLISH_SECONDS
from kernel.session import risk
from kernel.session.deadline import Deadline
from kernel.session.listing import Remote, holds, safe_timesteps, wrong_files
from kernel.session.upload import Uploader, UploadFailed

logger = logging.getLogger(__name__)

FIRST_BACKOFF = 2.0
MAX_BACKOFF = 300.0
MIN_UPLOAD_SECONDS = 120.0
MAX_UPLOAD_SECONDS = 600.0
SLOWEST_BYTES_PER_SECOND = 20_000
"""An upload that takes longer than at this speed hangs, within the two limits."""
MAX_READY_SECONDS = 600.0
NOTHING_COMES_SECONDS = 120.0
"""A service that processes nothing, and lists what was sent by then neither, will not list it."""
LOOKUP_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 300.0
"""Between two looks at what is published, where nothing is to be published."""
POLL_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
BYTES_PER_SECOND = 500_000
"""Uploads stay under this on average, however large checkpoints are."""
TRIES_BEFORE_ALARM = 3
"""So many failures in a row: the trainer waits for no publish until one succeeds."""
UNAUTHORISED = 401
CONFLICTS = (403, 409)
"""What the service answers while the first version is being processed, or another version was just made."""

Emit = Callable[[Event], None]


class Fenced(ValueError):
    """Raised when a later session of the run has published: ours must not overwrite it."""


class Publisher:
    """Owns the dataset of a run for one session."""

    def __init__(
        self,
        working: Path,
        configuration: Configuration,
        deadline: Deadline,
        uploader: Uploader,
        emit: Emit,
        digests: Callable[[], dict[int, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[], float] = random.random,
        longest_pause: float = 1.0,
    ) -> None:
        self.working = working
        self.configuration = configuration
        self.deadline = deadline
        self.published: int | None = None
        """Timestep of the newest checkpoint that the dataset lists."""
        self.proved = False
        """A version of this session exists: writing works."""
        self.fenced = False
        self._uploader = uploader
        self._emit = emit
        self._digests = digests
        self._clock = clock
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._sleep = sleep
        self._jitter = jitter
        self._longest_pause = longest_pause
        self._last_until = float("inf")
        self._abandoned = False
        self._invalid: set[int] = set()
        self._failures = 0
        self._refused = 0
        """How often in a row the credentials were not accepted."""
        self._reason = ""
        self._spoilt: set[int] = set()
        """Versions that do not list what was sent."""
        self._seen = False
        """The dataset was listed in this session."""
        self._looked_at = 0.0
        self._slowest: float | None = None
        """The longest that a publish took [s]."""
        self._next_at = 0.0
        session = configuration.session
        self._risk = risk.RiskAlarm(session.max_timesteps_at_risk, session.checkpoint_seconds)
        self._spacing_told = False
        self._told_given_up = False
        self._alarmed = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Prove the write, then publish whatever is newest."""
        self._risk.safe = self._newest_timesteps() or 0
        self._write_marker()
        self._thread.start()

    def notify(self) -> None:
        """A checkpoint lies on the disk."""
        self._risk.checkpointed(self._clock())
        self._wake.set()

    def look_at_risk(self, done: int) -> None:
        """Raise the alarm where far more than was asked for would be lost; `done` timesteps are done."""
        final = self._refused >= TRIES_BEFORE_ALARM
        if not (self._may_begin or final):
            return  # the session ends, and its last publish is to come
        spacing = max(self.configuration.session.publish_interval_seconds, 2 * (self._slowest or 0.0))
        alarm = self._risk.look(
            self._clock(), done, self.published, spacing, self._patience, reason=self._reason, final=final
        )
        if alarm is not None:
            self._emit(alarm)

    def close(self) -> None:
        """Publish the newest checkpoint if it is not published, for as long as the deadline allows, and end.

        A network that is gone is not waited for longer than LAST_PUBLISH_SECONDS: the session's outputs have it too.
        """
        self._last_until = self._clock() + min(self.deadline.upload_seconds_left, LAST_PUBLISH_SECONDS)
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and not self._abandoned:
            self._thread.join(0.1)

    def abandon(self) -> None:
        """Wait for nothing any more."""
        self._abandoned = True

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._is_due():
                self._try()
            elif self._may_look():
                self._look_again()
            if self._told_given_up != self._given_up:
                self._write_marker()
            self._wake.wait(self._pause())
            self._wake.clear()
        if self.published is not None and not self.fenced and not self._abandoned and not self._is_behind():
            self._look_again()  # the last word on what is published is the dataset's
        while self._is_behind() and not self._abandoned and self._last_until - self._clock() > 1.0:
            if not self._try():
                self._sleep(max(0.0, min(self._next_at - self._clock(), 10.0, self._last_until - self._clock())))

    def _pause(self) -> float:
        return min(self._longest_pause, max(0.002, self._next_at - self._clock()))

    def _is_behind(self) -> bool:
        if self.fenced:
            return False
        newest = self._newest_timesteps()
        return not self.proved or (newest is not None and newest > (-1 if self.published is None else self.published))

    def _is_due(self) -> bool:
        return self._clock() >= self._next_at and self._may_begin and self._is_behind()

    @property
    def _may_begin(self) -> bool:
        """Whether an upload that is not the last may still begin: where the trainer waits for it, for longer."""
        if self.deadline.may_begin_upload:
            return True
        return self.configuration.session.max_timesteps_at_risk > 0 and (
            self.deadline.training_seconds_left > self._patience
        )

    def _may_look(self) -> bool:
        """Whether what is published was not looked at for long."""
        if self.fenced or self.published is None or self._clock() < self._next_at:
            return False
        return self._clock() - self._looked_at >= LOOK_AGAIN_SECONDS

    def _look_again(self) -> None:
        try:
            self._look()
        except Fenced as fence:
            self._fence(fence)
        except UploadFailed as failure:
            # What cannot be seen is not gone; the next look tells.
            self._looked_at = self._clock()
            logger.info("%s could not be looked at: %s", self.configuration.session.dataset, failure)

    def _newest_timesteps(self) -> int | None:
        found = staging.checkpoints_in(self.working / CHECKPOINTS)
        timesteps = [t for path in found if (t := num_timesteps_of(path.name)) not in self._invalid]
        return timesteps[0] if timesteps else None

    def _try(self) -> bool:
        """One publish, start to end; whether it succeeded."""
        began = self._clock()
        staged: Staged | None = None
        try:
            named = self._newest_timesteps()
            checkpoint = staging.newest_verified(self.working, self.configuration)
            if named is not None and (checkpoint is None or checkpoint[1].num_timesteps < named):
                self._invalid.add(named)
                if self.proved:
                    return True  # whether an older one is due is looked at anew
            staged = staging.stage(self.working, self.configuration, checkpoint, self._digests())
            remote = self._publish(staged)
        except Fenced as fence:
            self._fence(fence)
            return False
        except (UploadFailed, OSError) as failure:
            self._failed(failure, staged)
            return False
        finally:
            if staged is not None:
                staged.remove()
        self._succeeded(staged, remote, began)
        return True

    def _fence(self, fence: Fenced) -> None:
        self.fenced, self._reason = True, str(fence)
        self._write_marker()
        self._emit(PublishFailed(reason=str(fence), fenced=True))

    def _publish(self, staged: Staged) -> Remote:
        handle, session = self.configuration.session.dataset, self.configuration.session.session
        t = staged.num_timesteps or 0
        before = self._look()
        if before.refused and self._seen:
            raise UploadFailed(f"the service does not tell what {handle} has", 403)
        if not before.settled:
            before = self._wait(staged, "the version before", lambda remote: remote.settled)
        if holds(before, t, session, staged.sizes) and not wrong_files(staged.sizes, before.sizes):
            return before  # it was taken, and the answer was lost
        longest = min(max(staged.bytes / SLOWEST_BYTES_PER_SECOND, MIN_UPLOAD_SECONDS), MAX_UPLOAD_SECONDS)
        self._uploader.upload(staged.folder, handle, version_note(t, session), self._timeout(longest))
        after = self._wait(staged, "the new version", lambda remote: self._came(remote, staged), before)
        if wrong := wrong_files(staged.sizes, after.sizes):
            self._spoilt |= {after.version or 0}
            raise UploadFailed(f"the new version does not list {', '.join(wrong)} as it was sent")
        self._spoilt.discard(after.version or 0)  # a dataset that was made anew counts from one again
        return after

    def _came(self, remote: Remote, staged: Staged) -> bool:
        """Whether what was sent is listed; a version that was spoilt before is not it, unless it is whole by now."""
        t, session = staged.num_timesteps or 0, self.configuration.session.session
        known = remote.version in self._spoilt and wrong_files(staged.sizes, remote.sizes)
        return holds(remote, t, session, staged.sizes) and not known

    def _look(self) -> Remote:
        """What the dataset lists now; what it lists no more is taken back."""
        remote = self._ask()
        self._take_back(remote)
        return remote

    def _ask(self) -> Remote:
        handle, session = self.configuration.session.dataset, self.configuration.session.session
        remote = self._uploader.newest(handle, self._timeout(LOOKUP_SECONDS))
        if remote.session is not None and remote.session > session:
            raise Fenced(
                f"Session {remote.session} of this run has published already; session {session} would overwrite it."
            )
        return remote

    def _take_back(self, remote: Remote) -> None:
        """Hold what is said to be published to what `remote` lists."""
        if remote.refused:
            return
        self._looked_at = self._clock()
        safe, was = safe_timesteps(remote, self._spoilt), self.published
        if not self._seen and remote.exists:
            self._seen, self.published = True, safe
            self._write_marker()
        elif was is not None and (safe is None or safe < was):
            self.published = safe
            self._risk.taken_back()
            self._write_marker()
            left = "it holds no checkpoint" if remote.exists else "there is no such dataset"
            left = left if safe is None else f"its newest checkpoint is that at t={safe}"
            reason = f"{self.configuration.session.dataset} was changed from elsewhere: {left}"
            self._emit(PublishLost(num_timesteps=was, published_timesteps=safe, reason=reason))

    def _wait(self, staged: Staged, what: str, over: Callable[[Remote], bool], before: Remote | None = None) -> Remote:
        """The dataset once `over` of what it lists; `before` is what it listed before the upload that is waited for.

        Raises
        ------
        UploadFailed
            It failed in processing, cannot come any more, or did not come in time.
        """
        began, polls, slow = self._clock(), 0, False
        until = began + self._timeout(MAX_READY_SECONDS)
        while True:
            remote = self._ask()
            if over(remote):
                return remote
            self._take_back(remote)
            if before is not None and remote.failed is not None and remote.failed != before.failed:
                raise UploadFailed(f"{what} failed in processing on the service")
            waited = self._clock() - began
            if remote.settled and not remote.refused and waited >= NOTHING_COMES_SECONDS:
                raise UploadFailed(f"{what} is not listed, and the service processes nothing")
            if self._clock() >= until:
                raise UploadFailed(f"{what} was not ready within {waited:.0f} s")
            if waited > self._patience and not slow:
                slow = True
                self._tell_slow(staged, what, waited)
            self._sleep(POLL_SECONDS[min(polls, len(POLL_SECONDS) - 1)])
            polls += 1

    def _tell_slow(self, staged: Staged, what: str, waited: float) -> None:
        usual = None if self._slowest is None else round(self._slowest, 1)
        waits_for = f"{what} of {self.configuration.session.dataset} to be ready"
        self._emit(
            PublishSlow(
                num_timesteps=staged.num_timesteps, seconds=round(waited, 1), usual_seconds=usual, waits_for=waits_for
            )
        )

    @property
    def _patience(self) -> float:
        return risk.patience(self._slowest)

    def _timeout(self, longest: float) -> float:
        left = min(self.deadline.upload_seconds_left, self._last_until - self._clock())
        if left <= 0:
            raise UploadFailed("no time is left for it")
        return min(longest, left)

    def _succeeded(self, staged: Staged, remote: Remote, began: float) -> None:
        seconds = self._clock() - began
        self._failures = self._refused = 0
        self._reason = ""
        self.deadline.published_in(seconds)
        self._slowest = max(seconds, self._slowest or 0.0)
        self._next_at = self._clock() + self._spacing(staged.bytes, seconds)
        first, self.proved = not self.proved, True
        if staged.num_timesteps is not None:
            self.published, self._seen = staged.num_timesteps, True
            self._risk.published(began)
        else:
            self._take_back(remote)
        self._write_marker()
        if first:
            self._emit(WriteProved(dataset=self.configuration.session.dataset, version=remote.version))
        if staged.num_timesteps is not None:
            self._emit(
                Published(
                    num_timesteps=staged.num_timesteps,
                    bytes=staged.bytes,
                    files=len(staged.sizes),
                    seconds=round(seconds, 3),
                    version=remote.version,
                )
            )

    def _spacing(self, size: int, seconds: float) -> float:
        if self.configuration.session.max_timesteps_at_risk:
            return 0.0  # the trainer waits for the next publish
        asked = self.configuration.session.publish_interval_seconds
        spacing = max(asked, 2 * seconds, size / BYTES_PER_SECOND)
        if spacing > asked and asked and not self._spacing_told:
            self._spacing_told = True
            reason = f"a version of {size:,} bytes takes {seconds:.0f} s to publish"
            every = f"a publish every {asked:.0f} s"
            self._emit(Cadence(asked=every, seconds_between=round(spacing), reason=reason))
        return spacing

    def _failed(self, failure: Exception, staged: Staged | None) -> None:
        self._failures += 1
        status = getattr(failure, "status", None)
        self._refused = self._refused + 1 if status == UNAUTHORISED else 0
        self._reason = str(failure)
        retry_after = getattr(failure, "retry_after", None)
        backoff = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(self._failures - 1, 20)) * self._jitter()
        if status in CONFLICTS:
            backoff = min(backoff, 5.0)
        wait = max(0.1, backoff if retry_after is None else retry_after)
        self._next_at = self._clock() + wait
        t = staged.num_timesteps if staged else None
        retry_seconds = round(wait, 1)
        self._emit(PublishFailed(num_timesteps=t, reason=str(failure), status=status, retry_seconds=retry_seconds))
        alarm = not self.proved and not self._alarmed and self._failures >= TRIES_BEFORE_ALARM
        self._alarmed |= alarm
        # Whoever hears the alarm finds what it says already written down.
        self._write_marker()
        if alarm:
            self._emit(WriteFailed(dataset=self.configuration.session.dataset, reason=str(failure)))

    @property
    def _given_up(self) -> bool:
        """Whether no publish is to be waited for."""
        return self.fenced or self._failures >= TRIES_BEFORE_ALARM or not self._may_begin

    def _write_marker(self) -> None:
        """Tell the trainer and the retention what is published; the trainer waits for nothing that cannot come."""
        self._told_given_up = self._given_up
        told = {
            "num_timesteps": self.published,
            "given_up": self._told_given_up,
            "patience_seconds": round(self._patience, 1),
        }
        text = json.dumps(told)
        try:
            write_aside(self.working / PUBLISHED, text.encode())
        except OSError as error:
            logger.warning("%s could not be written: %s", PUBLISHED, error)
