"""`kaglaunch logs`: the log of a session, its events as sentences."""

from __future__ import annotations

import collections
import queue
from collections.abc import Callable, Iterable, Iterator

import typer

from kernel.contract import events
from launcher import streams
from launcher.commands.say import say
from launcher.documents import printed
from launcher.documents.watching import LoggedLine
from launcher.errors import Interrupted, LauncherError
from launcher.runs import kept_log
from launcher.runs.follower import Ended, Follower
from launcher.runs.records import Session
from launcher.runs.run import RunHandle
from launcher.sentences import sentence
from launcher.tables import clock, printable, width, wrapped
from launcher.targets.base import LogLine, Status

QUIET_S = 2.0
"""A log that says nothing for this long has been read up to now."""
_PATIENCE = 10
"""So many times that long are waited for the first line."""


def logs(
    run_id: str,
    *,
    session: int | None,
    follow: bool = False,
    tail: int | None = None,
    raw: bool = False,
    as_json: bool = False,
) -> None:
    """Print it, a line at a time; with `follow` to the session's end, with `tail` the last lines alone.

    Raises
    ------
    Interrupted
        Ctrl-C ended the following.
    """
    streams.end_with_reader()
    handle = RunHandle.of(run_id)
    chosen = kept_log.chosen(handle, session)
    waiting: collections.deque[LogLine] | None = collections.deque(maxlen=tail) if tail is not None else None
    part: list[str] = []
    try:
        for line in _told(handle, chosen, follow, part.append):
            if line is None:
                _say_all(waiting or (), raw, as_json)
                waiting = None
            elif waiting is not None:
                waiting.append(line)
            else:
                _say(line, raw, as_json)
        _say_all(waiting or (), raw, as_json)
        for why in part:
            say(
                f"That is what was seen here of the log of session {chosen.number}, maybe not all of it: {why}.",
                err=True,
            )
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped following; session {chosen.number} of run {handle.run_id} is as it was.") from error


def readable(line: LogLine) -> str:
    """A line as a person reads it: an event as a sentence, anything else as it is, each with its time."""
    event, when = events.parse(line.text), f"{clock(line.time)}  "
    if event is None:
        return when + printable(line.text)
    said = printable(sentence(event))
    return "\n".join(wrapped(when + said, width(), " " * len(when)))


def _told(handle: RunHandle, session: Session, follow: bool, part: Callable[[str], object]) -> Iterator[LogLine | None]:
    """Its lines, and None each time that all there is has been read: what was kept here, or the session itself."""
    path, slug = handle.run.log(session.number), handle.run.slug(session.number)
    if not follow and kept_log.is_kept(handle.run, session):
        yield from kept_log.lines(handle, session, part)
        return
    try:
        place = handle.compute(session)
        state = place.state(slug)
    except LauncherError as error:
        if follow or not path.exists():
            raise
        part(str(error).split("\n", 1)[0].rstrip("."))
        yield from kept_log.kept_lines(path)
        return
    if state.status.final:
        yield from kept_log.lines(handle, session, part)
    elif state.status is Status.QUEUED and not follow:
        typer.echo(f"Session {session.number} has not begun yet: it is queued.", err=True)
    else:
        yield from _followed(Follower(place, slug), until_quiet=not follow)


def _followed(follower: Follower, *, until_quiet: bool) -> Iterator[LogLine | None]:
    follower.start()
    quiet, heard = 0, False
    try:
        while not (until_quiet and quiet >= (1 if heard else _PATIENCE)):
            try:
                happening = follower.happenings.get(timeout=QUIET_S)
            except queue.Empty:
                quiet += 1
                if heard:
                    yield None
                continue
            if isinstance(happening, LogLine):
                quiet, heard = 0, True
                yield happening
            elif isinstance(happening, Ended):
                if happening.error is not None:
                    raise happening.error
                return
    finally:
        follower.stop()


def _say_all(lines: Iterable[LogLine], raw: bool, as_json: bool) -> None:
    for line in lines:
        _say(line, raw, as_json)


def _say(line: LogLine, raw: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(printed.line(LoggedLine(time=line.time, stream=line.stream, text=line.text)))
    elif raw:
        typer.echo(f"{line.time:.3f} {line.stream} {line.text}")
    else:
        typer.echo(readable(line))
