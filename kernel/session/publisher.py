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
from dataclasses import replace
from pathlib import Path

from kernel.checkpoints import staging
from kernel.checkpoints.staging import Staged
from kernel.contract import chunks
from kernel.contract.chunks import Chunk
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
from kernel.contract.manifest import Manifest
from kernel.contract.names import CHECKPOINTS, PUBLISHED, num_timesteps_of, replay_dataset
from kernel.contract.stopping import LAST_PUBLISH_SECONDS
from kernel.session import risk
from kernel.session.deadline import Deadline
from kernel.session.listing import Remote
from kernel.session.remote_dataset import Fenced, RemoteDataset
from kernel.session.replay_dataset import ReplayDataset
from kernel.session.standing import Standing
from kernel.session.upload import Uploader, UploadFailed

logger = logging.getLogger(__name__)

FIRST_BACKOFF = 2.0
MAX_BACKOFF = 300.0
LOOK_AGAIN_SECONDS = 300.0
"""Between two looks at what is published, where nothing is to be published."""
BYTES_PER_SECOND = 500_000
"""Uploads stay under this on average, however large checkpoints are."""
TRIES_BEFORE_ALARM = 3
"""So many failures in a row: the trainer waits for no publish until one succeeds."""
UNAUTHORISED = 401
CONFLICTS = (403, 409)
"""What the service answers while the first version is being processed, or another version was just made."""

Emit = Callable[[Event], None]


class Publisher:
    """Owns the datasets of a run for one session."""

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
        self.proved = False
        """A version of this session exists: writing works."""
        self.fenced = False
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
        self._slowest: float | None = None
        """The longest that a publish took [s]."""
        self._next_at = 0.0
        session = configuration.session
        self._risk = risk.RiskAlarm(session.max_timesteps_at_risk, session.checkpoint_seconds)
        self._spacing_told = False
        self._told_given_up = False
        self._alarmed = False
        self._waiting_told = False
        self._staged_timesteps: int | None = None
        self._sent = [0, 0]
        """Bytes and files of replay chunks that came to be listed since the last publish."""
        self._dataset = RemoteDataset(
            session.dataset, session.session, uploader, self._timeout, clock=clock, sleep=sleep
        )
        self._dataset.waits = self._tell_slow
        apart = replace(self._dataset, handle=replay_dataset(session.dataset), spoilt=set())
        self._replay = ReplayDataset(apart, configuration, self._chunks_came, clock)
        self._standing = Standing(self._dataset, self._replay, self._found_changed, clock)
        self._dataset.looked = self._standing.take_back
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def published(self) -> int | None:
        """Timestep of the newest checkpoint that the dataset lists, with all that it needs."""
        return self._standing.published

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
            if self._try():
                continue
            if self._refused >= TRIES_BEFORE_ALARM:
                return  # credentials that are not accepted any more are not renewed by waiting
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
        return self._clock() - self._standing.looked_at >= LOOK_AGAIN_SECONDS

    def _look_again(self) -> None:
        try:
            self._standing.look()
        except Fenced as fence:
            self._fence(fence)
        except UploadFailed as failure:
            # What cannot be seen is not gone; the next look tells.
            self._standing.looked_at = self._clock()
            logger.info("%s could not be looked at: %s", self.configuration.session.dataset, failure)

    def _newest_timesteps(self) -> int | None:
        found = staging.checkpoints_in(self.working / CHECKPOINTS)
        timesteps = [t for path in found if (t := num_timesteps_of(path.name)) not in self._invalid]
        return timesteps[0] if timesteps else None

    def _try(self) -> bool:
        """One publish, start to end; whether it succeeded."""
        began = self._clock()
        self._waiting_told = False
        staged: Staged | None = None
        try:
            named = self._newest_timesteps()
            checkpoint = staging.newest_verified(self.working, self.configuration)
            if named is not None and (checkpoint is None or checkpoint[1].num_timesteps < named):
                self._invalid.add(named)
                if self.proved:
                    return True  # whether an older one is due is looked at anew
            apart = self._chunks_apart(checkpoint)
            staged = staging.stage(self.working, self.configuration, checkpoint, self._digests(), apart=apart)
            self._staged_timesteps = staged.num_timesteps
            before = self._look_before()
            sent = self._sent[0]
            if checkpoint is not None and apart:
                staged = staging.name_places(staged, self._replay.bring(checkpoint[0], apart))
            alone = self._clock()
            # Chunks that had to be sent anew lie elsewhere than a version says that is there already.
            remote = self._dataset.add(staged, before, again=self._sent[0] > sent)
        except Fenced as fence:
            self._fence(fence)
            return False
        except (UploadFailed, OSError) as failure:
            self._failed(failure, staged)
            return False
        finally:
            if staged is not None:
                staged.remove()
        if staged.num_timesteps is not None:
            self._standing.succeeded(staged.num_timesteps, {chunk.name: chunk.size for chunk in apart})
        self._succeeded(staged, remote, began, alone)
        return True

    def _chunks_apart(self, checkpoint: tuple[Path, Manifest] | None) -> list[Chunk]:
        """Chunks of a checkpoint that the dataset of chunks is to hold: all that are sealed, where they are much."""
        sealed = chunks.sealed(checkpoint[1]) if checkpoint else []
        much = sum(chunk.size for chunk in sealed) >= self.configuration.session.replay_dataset_bytes
        return sealed if much else []

    def _look_before(self) -> Remote:
        before = self._standing.look()
        if before.refused and self._standing.seen:
            raise UploadFailed(f"the service does not tell what {self._dataset.handle} has", 403)
        return before

    def _chunks_came(self, size: int, files: int) -> None:
        """Something got through: what fails after it is a new failure."""
        self._sent = [self._sent[0] + size, self._sent[1] + files]
        self._failures = self._refused = 0

    def _fence(self, fence: Fenced) -> None:
        self.fenced, self._reason = True, str(fence)
        self._write_marker()
        self._emit(PublishFailed(reason=str(fence), fenced=True))

    def _found_changed(self, lost: PublishLost | None) -> None:
        """A look found other things published than were said to be."""
        if lost is not None:
            self._risk.taken_back()
        self._write_marker()
        if lost is not None:
            self._emit(lost)

    def _tell_slow(self, what: str, waited: float) -> None:
        if waited <= self._patience or self._waiting_told:
            return
        self._waiting_told = True
        usual = None if self._slowest is None else round(self._slowest, 1)
        t, seconds = self._staged_timesteps, round(waited, 1)
        self._emit(PublishSlow(num_timesteps=t, seconds=seconds, usual_seconds=usual, waits_for=what))

    @property
    def _patience(self) -> float:
        return risk.patience(self._slowest)

    def _timeout(self, longest: float) -> float:
        left = min(self.deadline.upload_seconds_left, self._last_until - self._clock())
        if left <= 0:
            raise UploadFailed("no time is left for it")
        return min(longest, left)

    def _succeeded(self, staged: Staged, remote: Remote, began: float, alone: float) -> None:
        """The version `staged`, which was begun at `began`, its chunks at their place by `alone`, is listed."""
        seconds = self._clock() - began
        self._failures = self._refused = 0
        self._reason = ""
        self.deadline.published_in(seconds)
        self._slowest = max(seconds, self._slowest or 0.0)
        # Chunks are sent once, so they cost what is new; a longer time between two publishes would save nothing of it.
        self._next_at = self._clock() + self._spacing(staged.bytes, self._clock() - alone)
        first, self.proved = not self.proved, True
        if staged.num_timesteps is not None:
            self._risk.published(began)
        else:
            self._standing.take_back(remote)
        self._write_marker()
        if first:
            self._emit(WriteProved(dataset=self.configuration.session.dataset, version=remote.version))
        if staged.num_timesteps is not None:
            (size, files), self._sent = self._sent, [0, 0]
            self._emit(
                Published(
                    num_timesteps=staged.num_timesteps,
                    bytes=staged.bytes + size,
                    files=len(staged.sizes) + files,
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
