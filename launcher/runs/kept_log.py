"""The log of a session: what is kept of it here, and what its target still has.

The kept log has one owner, this module, and any number of followers: each writes a copy of its own, and the longest of
them is the kept log. A target tells a log from its first line on, so a longer copy holds all that a shorter one does.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kernel.contract import events, files
from launcher import locks
from launcher.errors import LauncherError, UsageError
from launcher.runs.bound_run import BoundRun
from launcher.runs.endings import DELETED
from launcher.runs.records import Run, Session
from launcher.targets.base import LogLine, Status

logger = logging.getLogger(__name__)

MEMORY_BYTES = 16 << 20
"""A longer copy goes to the disk: a kernel that governs its log never comes so far, a flood does."""
_KEPT = re.compile(r"(\d+\.\d{3}) (\S+) (.*)", re.DOTALL)


class Copy:
    """A follower's own copy of the log of session `number`, kept when the following ends, however it ends.

    It has no name, so nobody else writes into it, and a kill of its process leaves nothing of it behind.
    """

    def __init__(self, run: Run, number: int) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = run.log(number), run.logs_lock
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(run.folder))  # noqa: SIM115 - __exit__ closes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self.keep()

    def write(self, line: LogLine) -> None:
        """Add a line; what UTF-8 has no bytes for (half a surrogate pair) is written as an escape."""
        text = f"{line.time:.3f} {line.stream} {line.text}\n"
        self._file.write(text.encode("utf-8", "backslashreplace"))

    def keep(self) -> None:
        """Make what was written so far the kept log, unless at least as much is kept already."""
        try:
            with locks.turn(self._lock):
                written = self._file.seek(0, os.SEEK_END)
                if self._path.exists() and self._path.stat().st_size >= written:
                    return
                with files.aside(self._path) as whole:
                    self._file.seek(0)
                    shutil.copyfileobj(self._file, whole)
        except TimeoutError:
            logger.warning("%s stays as it is: another process holds %s.", self._path, self._lock)


def chosen(bound: BoundRun, number: int | None) -> Session:
    """Session `number`, or the newest one.

    Raises
    ------
    UsageError
        The run has no such session.
    """
    sessions = {one.number: one for one in bound.sessions}
    number = number if number is not None else max(sessions)
    if number not in sessions:
        raise UsageError(f"Run {bound.run_id} has no session {number}; it has {', '.join(map(str, sessions))}.")
    return sessions[number]


def lines(bound: BoundRun, session: Session, part: Callable[[str], object] = lambda why: None) -> Iterator[LogLine]:
    """Its lines as they were kept here, where that is all of them; else as its target has them, and what it has lost.

    `part` is told why, where more may have been in it than there is to be had.

    Raises
    ------
    LauncherError
        The target does not give them, and nothing is kept.
    """
    path = bound.run.log(session.number)
    given = 0
    if is_kept(bound.run, session):
        if not (session.log_complete or _tells_its_end(path)):
            part("the target has it no more")
    else:
        try:
            for line in bound.compute(session).log_lines(bound.run.slug(session.number)):
                given += 1 + line.text.count("\n")
                yield line
        except LauncherError as error:
            if not path.exists():
                raise
            part(str(error).split("\n", 1)[0].rstrip("."))
    if path.exists():
        yield from itertools.islice(kept_lines(path), given, None)


def is_kept(run: Run, session: Session) -> bool:
    """Whether its target can give no more than was kept here: that goes to its last word, or is all that is left."""
    path = run.log(session.number)
    if not path.exists():
        return False
    gone = session.status in (Status.CANCEL_ACKNOWLEDGED.value, DELETED)
    return gone or _tells_its_end(path)


def _tells_its_end(path: Path) -> bool:
    return any(isinstance(events.parse(line.text), events.Result) for line in kept_lines(path))


def kept_lines(path: Path) -> Iterator[LogLine]:
    """The lines of a log that was kept."""
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from map(_kept, file)


def _kept(raw: str) -> LogLine:
    """A line of the kept file; one message of several lines goes on in lines without a time."""
    found = _KEPT.fullmatch(raw.rstrip("\n"))
    return LogLine(float(found[1]), found[2], found[3]) if found else LogLine(0.0, "stdout", raw.rstrip("\n"))
