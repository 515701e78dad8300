"""The standard streams of a command: one that is closed, before or while it runs, never decides what the command does.

A reader that has seen enough (`| head`) is no error. Whatever acts goes on without it, what only shows ends well.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class ReaderGone(Exception):
    """Raised once where a command that only shows has nobody left to show it to."""


class _Output(io.FileIO):
    """An output whose reader may go."""

    gone = False
    ends = False
    """Whether the command ends when its reader goes."""

    def write(self, data: Any, /) -> int:
        if not self.gone:
            try:
                return super().write(data) or 0
            except BrokenPipeError:
                self.gone = True
                if self.ends:
                    raise ReaderGone from None
        return memoryview(data).nbytes


def prepare() -> None:
    """Put what works in the place of a stream that was closed; outlive readers; show an escape for odd characters."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere(number))
        elif number and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _outliving(stream))


def end_with_reader() -> None:
    """From here on the command only shows: it ends when nobody reads its standard output any more."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output):
        raw.ends = True


def finish() -> None:
    """The command is over: what is still to be written goes out, or nowhere where its reader is gone."""
    for stream in (sys.stdout, sys.stderr):
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, _Output):
            raw.ends = False


def _nowhere(number: int) -> io.TextIOWrapper:
    """Open the null device under `number`, where no file that is opened later can take it for its own."""
    opened = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(number)
    except OSError:
        os.dup2(opened, number)
    if opened != number:
        os.close(opened)
    return os.fdopen(number, "w" if number else "r", encoding="utf-8", errors="backslashreplace", closefd=False)


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:  # a terminal of Windows, or something that a program has put there
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(raw.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
