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


class _Output(io.BufferedWriter):
    """An output whose reader may go.

    What was written counts as written before any signal is heard: a command that is interrupted says nothing twice.
    """

    gone = False
    ends = False
    """Whether the command ends when its reader goes."""

    def write(self, data: Any, /) -> int:
        if not self.gone:
            try:
                return super().write(data)
            except BrokenPipeError:
                self._reader_is_gone()
        return memoryview(data).nbytes

    def flush(self) -> None:
        if not self.gone:
            try:
                super().flush()
            except BrokenPipeError:
                self._reader_is_gone()

    def _reader_is_gone(self) -> None:
        self.gone = True
        if self.ends:
            raise ReaderGone from None


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
    if isinstance(output := getattr(sys.stdout, "buffer", None), _Output):
        output.ends = True


def finish() -> None:
    """The command is over: what is still to be written goes out, or nowhere where its reader is gone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(output := getattr(stream, "buffer", None), _Output):
            output.ends = False


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
        _Output(io.FileIO(raw.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
