"""One dataset of a run as a session sees it: looked at, added to, and waited for until it lists what was sent.

Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel.checkpoints.staging import Staged
from kernel.contract.names import version_note
from kernel.session.listing import Remote, holds, wrong_files
from kernel.session.upload import Uploader, UploadFailed

MIN_UPLOAD_SECONDS = 120.0
MAX_UPLOAD_SECONDS = 600.0
SLOWEST_BYTES_PER_SECOND = 20_000
"""An upload that takes longer than at this speed hangs, within the two limits."""
MAX_READY_SECONDS = 600.0
NOTHING_COMES_SECONDS = 120.0
"""A service that processes nothing, and lists what was sent by then neither, will not list it."""
LOOKUP_SECONDS = 60.0
POLL_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


class Fenced(ValueError):
    """Raised when a later session of the run has published: ours must not overwrite it."""


@dataclass
class RemoteDataset:
    """The dataset `handle` (`owner/slug`), as session number `session` of the run may write it."""

    handle: str
    session: int
    uploader: Uploader
    timeout: Callable[[float], float]
    """How long something may take at the most [s], of what it would be given; UploadFailed where nothing is left."""
    looked: Callable[[Remote], object] = lambda remote: None
    """Hears what is listed while it is waited for."""
    waits: Callable[[str, float], object] = lambda what, seconds: None
    """Hears each time what is waited for, and for how long so far [s]."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    spoilt: set[int] = field(default_factory=set)
    """Versions that do not list what was sent."""

    def ask(self) -> Remote:
        """What it lists now.

        Raises
        ------
        Fenced
            A later session wrote its newest version.
        UploadFailed
            No answer, or one that does not tell.
        """
        remote = self.uploader.newest(self.handle, self.timeout(LOOKUP_SECONDS))
        if remote.session is not None and remote.session > self.session:
            raise Fenced(
                f"Session {remote.session} of this run has published already; session {self.session} would overwrite "
                "it."
            )
        return remote

    def settled(self, remote: Remote) -> Remote:
        """What it lists once nothing of it is being processed; `remote` is what it listed last.

        Raises
        ------
        Fenced, UploadFailed
            As `ask`; or that did not come to an end.
        """
        return remote if remote.settled else self._wait("the version before", lambda found: found.settled)

    def add(self, staged: Staged, before: Remote, *, again: bool = False) -> Remote:
        """Make `staged` its next version, unless the newest is that one; what it lists then.

        `before` is what it listed last. With `again` it is sent in any case.

        Raises
        ------
        Fenced, UploadFailed
            As `ask`; or it did not come, or not as it was sent.
        """
        before = self.settled(before)
        if not again and self._is(before, staged) and not wrong_files(staged.sizes, before.sizes):
            return before  # it was taken, and the answer was lost
        longest = min(max(staged.bytes / SLOWEST_BYTES_PER_SECOND, MIN_UPLOAD_SECONDS), MAX_UPLOAD_SECONDS)
        note = version_note(staged.num_timesteps or 0, self.session)
        self.uploader.upload(staged.folder, self.handle, note, self.timeout(longest))
        after = self._wait("the new version", lambda remote: self._came(remote, staged), before)
        if wrong := wrong_files(staged.sizes, after.sizes):
            self.spoilt |= {after.version or 0}
            raise UploadFailed(f"the new version does not list {', '.join(wrong)} as it was sent")
        self.spoilt.discard(after.version or 0)  # a dataset that was made anew counts from one again
        return after

    def _is(self, remote: Remote, staged: Staged) -> bool:
        return holds(remote, staged.num_timesteps or 0, self.session, staged.sizes)

    def _came(self, remote: Remote, staged: Staged) -> bool:
        """Whether what was sent is listed; a version that was spoilt before is not it, unless it is whole by now."""
        known = remote.version in self.spoilt and wrong_files(staged.sizes, remote.sizes)
        return self._is(remote, staged) and not known

    def _wait(self, what: str, over: Callable[[Remote], bool], before: Remote | None = None) -> Remote:
        """What it lists once `over` of that; `before` is what it listed before the upload that is waited for.

        Raises
        ------
        UploadFailed
            It failed in processing, cannot come any more, or did not come in time.
        """
        began, polls, existed = self.clock(), 0, before is not None and before.exists
        until = began + self.timeout(MAX_READY_SECONDS)
        while True:
            remote = self.ask()
            if over(remote):
                return remote
            self.looked(remote)
            if existed and not remote.exists and not remote.refused:
                raise UploadFailed(f"{self.handle} was deleted before {what} was ready")
            existed |= remote.exists
            if before is not None and remote.failed is not None and remote.failed != before.failed:
                raise UploadFailed(f"{what} failed in processing on the service")
            waited = self.clock() - began
            if remote.settled and not remote.refused and waited >= NOTHING_COMES_SECONDS:
                raise UploadFailed(f"{what} is not listed, and the service processes nothing")
            if self.clock() >= until:
                raise UploadFailed(f"{what} was not ready within {waited:.0f} s")
            self.waits(f"{what} of {self.handle} to be ready", waited)
            self.sleep(POLL_SECONDS[min(polls, len(POLL_SECONDS) - 1)])
            polls += 1
