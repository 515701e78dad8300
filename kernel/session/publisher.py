"""The newest checkpoint into a dataset version, again and again, in the background.

At most one upload at a time; when behind, only the newest checkpoint goes. Nothing here ever stops the training.

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
from kernel.contract.events import Cadence, Event, Published, PublishFailed, WriteFailed, WriteProved
from kernel.contract.files import write_aside
from kernel.contract.names import CHECKPOINTS, PUBLISHED, num_timesteps_of, version_note
from kernel.contract.stopping import LAST_PUBLISH_SECONDS
from kernel.session.deadline import Deadline
from kernel.session.upload import Remote, Uploader, UploadFailed

logger = logging.getLogger(__name__)

FIRST_BACKOFF = 2.0
MAX_BACKOFF = 300.0
MAX_UPLOAD_SECONDS = 600.0
MAX_READY_SECONDS = 600.0
LOOKUP_SECONDS = 60.0
POLL_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
BYTES_PER_SECOND = 500_000
"""Uploads stay under this on average, however large checkpoints are."""
TRIES_BEFORE_ALARM = 3
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
        """Timestep of the newest checkpoint that is in a version."""
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
        self._next_at = 0.0
        self._spacing_told = False
        self._alarmed = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Prove the write, then publish whatever is newest."""
        self._write_marker()
        self._thread.start()

    def notify(self) -> None:
        """A checkpoint lies on the disk."""
        self._wake.set()

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
            self._wake.wait(self._pause())
            self._wake.clear()
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
        return self._clock() >= self._next_at and self.deadline.may_begin_upload and self._is_behind()

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
            self.fenced = True
            self._write_marker()
            self._emit(PublishFailed(reason=str(fence), fenced=True))
            return False
        except (UploadFailed, OSError) as failure:
            self._failed(failure, staged)
            return False
        finally:
            if staged is not None:
                staged.remove()
        self._succeeded(staged, remote, self._clock() - began)
        return True

    def _publish(self, staged: Staged) -> Remote:
        handle, session = self.configuration.session.dataset, self.configuration.session.session
        before = self._uploader.newest(handle, self._timeout(LOOKUP_SECONDS))
        if before.session is not None and before.session > session:
            raise Fenced(
                f"Session {before.session} of this run has published already; session {session} would overwrite it."
            )
        if before.exists and not before.ready:
            before = self._wait_until_ready(handle, 0, {})
        t = staged.num_timesteps or 0
        self._uploader.upload(staged.folder, handle, version_note(t, session), self._timeout(MAX_UPLOAD_SECONDS))
        return self._wait_until_ready(handle, (before.version or 0) + 1, staged.sizes)

    def _wait_until_ready(self, handle: str, version: int, sizes: dict[str, int]) -> Remote:
        """The dataset once `version` or a later one is ready and lists the checkpoint files at their sizes."""
        until = self._clock() + self._timeout(MAX_READY_SECONDS)
        polls = 0
        while True:
            remote = self._uploader.newest(handle, self._timeout(LOOKUP_SECONDS))
            if remote.ready and (remote.version or 0) >= version:
                if wrong := _wrong_files(sizes, remote.sizes):
                    raise UploadFailed(f"the new version does not list {', '.join(wrong)} as it was sent")
                return remote
            if self._clock() >= until:
                raise UploadFailed(f"version {version} was not ready in time")
            self._sleep(POLL_SECONDS[min(polls, len(POLL_SECONDS) - 1)])
            polls += 1

    def _timeout(self, longest: float) -> float:
        left = min(self.deadline.upload_seconds_left, self._last_until - self._clock())
        if left <= 0:
            raise UploadFailed("no time is left for it")
        return min(longest, left)

    def _succeeded(self, staged: Staged, remote: Remote, seconds: float) -> None:
        self._failures = 0
        self.deadline.published_in(seconds)
        self._next_at = self._clock() + self._spacing(staged.bytes, seconds)
        first, self.proved = not self.proved, True
        if staged.num_timesteps is not None:
            self.published = staged.num_timesteps
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

    def _write_marker(self) -> None:
        """Tell the trainer and the retention what is published; the trainer waits for nothing that cannot come."""
        given_up = self.fenced or (self._alarmed and not self.proved)
        text = json.dumps({"num_timesteps": self.published, "given_up": given_up})
        try:
            write_aside(self.working / PUBLISHED, text.encode())
        except OSError as error:
            logger.warning("%s could not be written: %s", PUBLISHED, error)


def _wrong_files(sent: dict[str, int], listed: dict[str, int]) -> list[str]:
    """Files that are missing, and checkpoint files of another size."""
    return [
        name
        for name, size in sorted(sent.items())
        if name not in listed or (name.endswith(".bin") and listed[name] != size)
    ]
