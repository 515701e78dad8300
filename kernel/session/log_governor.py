"""Reads all that the trainer prints: the full text to a compressed file, a little to the log, a verdict on floods.

A thread empties the pipe and does nothing else, so the trainer is never slowed by its own output; a second one looks
at what came. Warnings, errors and tracebacks are always shown, folded when they repeat; other lines until their budget
is spent. What the trainer prints is never an event, whatever it looks like: events have a pipe of their own. Standard
library only; the clock is a parameter.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kernel.contract.events import Flood, quoted
from kernel.session.full_log import FullLog

MAX_LINES_PER_S = 100.0
WINDOW_SECONDS = 10.0
MEASURED_SECONDS = 1.0
"""The rate of a flood is that of its fastest second."""
MIN_DEBUG_LINES_PER_S = 20.0
DEBUG_SHARE = 0.5
CHUNK = 1 << 18
MAX_BACKLOG = 64 << 20
"""Bytes that may wait to be looked at; more than that is counted and kept nowhere."""
MANY_LINES = 200
"""A batch of more lines than this is looked at one by one only if a warning may be among them."""
SHOWN_AT_ONCE = 200
SHOWN_PER_S = 0.03
MAX_LINE = 500
FOLDED_FORMS = 2000
MAX_SAMPLE = 120
"""Characters of the line that a flood is told with."""

_IMPORTANT = (b"warn", b"error", b"exception", b"traceback", b"critical", b"fatal", b"killed", b"out of memory")
_DEBUG_TAG = re.compile(rb"^\W{0,2}\[?DEBUG")
_NUMBERS = re.compile(rb"\d+")
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_SECRET = re.compile(
    r"""(?i:(?<=key)|(?<=token)|(?<=secret)|(?<=password)|(?<=passwd)|(?<=pwd)|(?<=bearer)|(?<=authorization))
        (?P<between>["']?(?:\s*[:=]\s*|\s+)["']?) (?:(?i:bearer|basic)\s+)? [^\s"',;]+
      | (?<=://)[^\s/@]+(?=@)
      | (?=[A-Za-z_+/=.-]*\d) [\w+/=.-]{24,}""",
    re.VERBOSE,
)
"""What may be a credential: what follows such a name, the user of an address, a long word with a digit in it."""


@dataclass
class FloodWatch:
    """Whether output is a flood, by its lines over a sustained window or by its debug tags; and how fast it comes.

    A limit is broken as soon as so many lines have come, however fast, so the rate of that instant tells of the limit
    alone: it is measured for a second more.
    """

    window: float = WINDOW_SECONDS
    max_lines_per_s: float = MAX_LINES_PER_S
    _counts: deque[tuple[float, int, int]] = field(default_factory=deque)
    _lines: int = 0
    _debug_lines: int = 0
    _broken_at: float | None = None
    """When the limit was broken that is broken still."""

    def add(self, now: float, lines: int, debug_lines: int) -> bool:
        """So many lines came now; whether they break a limit that was not broken before."""
        self._counts.append((now, lines, debug_lines))
        self._lines, self._debug_lines = self._lines + lines, self._debug_lines + debug_lines
        # What came exactly a window ago was printed before it.
        while now - self._counts[0][0] >= self.window:
            _, old, old_debug = self._counts.popleft()
            self._lines, self._debug_lines = self._lines - old, self._debug_lines - old_debug
        was_broken = self._broken_at is not None
        if self._broken() is None:
            self._broken_at = None
        elif not was_broken:
            self._broken_at = now
        return self._broken_at is not None and not was_broken

    def due_s(self, now: float) -> float | None:
        """Seconds until the flood has been measured; None without one."""
        return None if self._broken_at is None else max(0.0, self._broken_at + MEASURED_SECONDS - now)

    def verdict(self) -> Flood | None:
        """Rate and reason of the flood as it is by now, or None. The window counts in full: a short burst is none."""
        broken = self._broken()
        return Flood(lines_per_s=self._fastest(), limit=broken[1], reason=broken[0]) if broken else None

    def _broken(self) -> tuple[str, float] | None:
        """Rule and limit that the window's lines break."""
        lines, debug = self._lines / self.window, self._debug_lines / self.window
        if lines > self.max_lines_per_s:
            return "too many lines", self.max_lines_per_s
        if debug >= MIN_DEBUG_LINES_PER_S and debug >= DEBUG_SHARE * lines:
            return "debug output is on", MIN_DEBUG_LINES_PER_S
        return None

    def _fastest(self) -> float:
        """The most lines that came within a second of the window [1/s]."""
        second: deque[tuple[float, int]] = deque()
        inside = fastest = 0
        for now, lines, _ in self._counts:
            second.append((now, lines))
            inside += lines
            while now - second[0][0] >= MEASURED_SECONDS:
                inside -= second.popleft()[1]
            fastest = max(fastest, inside)
        return fastest / MEASURED_SECONDS


@dataclass
class Budget:
    """So many at once, and so many a second after that."""

    at_once: float
    per_s: float
    _left: float = -1.0
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may go now."""
        if self._left < 0:
            self._left, self._at = self.at_once, now
        self._left = min(self.at_once, self._left + (now - self._at) * self.per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Filter:
    """Which lines are shown. Pure but for `show`."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._budget = Budget(SHOWN_AT_ONCE, SHOWN_PER_S)
        self._seen: dict[bytes, int] = {}
        self.in_traceback = False
        self.hidden = 0
        """Ordinary lines that only the full log has."""
        self.last_error = ""
        """The last line of the last traceback."""

    def line(self, line: bytes, now: float) -> None:
        """One line that the trainer printed, without its end."""
        if not line.strip():
            return
        form = _NUMBERS.sub(b"#", line)
        count = self._seen.get(form, 0) + 1
        if count > 1 or len(self._seen) < FOLDED_FORMS:
            self._seen[form] = count
        times = f"  [{count:,} times so far]" if count > 1 else ""
        if self._is_important(line):
            if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th … time
                self._show(_text(line, 4 * MAX_LINE) + times)
        elif str(count).strip("0") == "1" and self._budget.take(now):  # the 1st, 10th, 100th … time
            self._show(_text(line, MAX_LINE) + times)
        else:
            self.hidden += 1

    def _is_important(self, line: bytes) -> bool:
        if line.startswith(b"Traceback (most recent call last)"):
            self.in_traceback = True
            return True
        if self.in_traceback:
            # A traceback ends with its first line that is not indented.
            self.in_traceback = line.startswith((b" ", b"\t")) or not line.strip()
            if not self.in_traceback:
                self.last_error = _text(line, MAX_LINE)
            return True
        return is_important(line)


def is_important(text: bytes) -> bool:
    """Whether a warning, an error or a traceback may be in `text`."""
    lowered = text.lower()
    return any(word in lowered for word in _IMPORTANT)


def _text(line: bytes, limit: int) -> str:
    text = quoted(line[:limit].decode("utf-8", "replace").rstrip())
    return text if len(line) <= limit else f"{text} … [{len(line) - limit:,} bytes more in the full log]"


def sample_of(lines: Sequence[bytes]) -> str:
    """The line that tells best what `lines` are: the newest of the debug output, else the newest that says anything.

    It goes farther than a log, to whoever is notified: no control character, nothing like a credential, not long.
    """
    said = [line for line in lines if line.strip()]
    line = next((line for line in reversed(said) if _DEBUG_TAG.match(line)), said[-1] if said else b"")
    text = _ESCAPE.sub("", line[: 4 * MAX_LINE].decode("utf-8", "replace"))
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    text = _SECRET.sub(lambda found: f"{found['between'] or ''}(hidden)", text)
    return text if len(text) <= MAX_SAMPLE else text[: MAX_SAMPLE - 2] + " …"


class LogGovernor:
    """Owns the reading end of the trainer's output."""

    def __init__(
        self,
        descriptor: int,
        full_log: FullLog,
        show: Callable[[str], None],
        on_flood: Callable[[Flood], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lines = 0
        self.lost_bytes = 0
        self._descriptor = descriptor
        self._full_log = full_log
        self._filter = Filter(show)
        self._watch = FloodWatch()
        self._on_flood = on_flood
        self._flooded = False
        self._sample = ""
        self._clock = clock
        self._rest = b""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._ended = False
        self._arrived = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, name="log reader", daemon=True),
            threading.Thread(target=self._look, name="log governor", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def hidden(self) -> int:
        """Lines that only the full log has."""
        return self._filter.hidden

    @property
    def last_error(self) -> str:
        """The last line that named an exception, if any did."""
        return self._filter.last_error

    def join(self, timeout: float) -> None:
        """Wait until the trainer's end is closed and everything was looked at."""
        for thread in self._threads:
            thread.join(timeout)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, CHUNK)
            except OSError:
                chunk = b""
            if not chunk:
                break
            with self._arrived:
                if self._waiting_bytes > MAX_BACKLOG:
                    self.lost_bytes += len(chunk)
                    continue
                self._waiting.append(chunk)
                self._waiting_bytes += len(chunk)
                self._arrived.notify()
        os.close(self._descriptor)
        with self._arrived:
            self._ended = True
            self._arrived.notify()

    def _look(self) -> None:
        while (chunk := self._next()) is not None:
            self.take(chunk)
        if self._rest:
            self._filter.line(self._rest, self._clock())
        self._judge(self._clock(), ended=True)
        self._full_log.flush()

    def _next(self) -> bytes | None:
        """Everything that came since the last look; nothing where a flood has been measured, None at the end."""
        with self._arrived:
            while not self._waiting:
                if self._ended:
                    return None
                if not self._arrived.wait(None if self._flooded else self._watch.due_s(self._clock())):
                    return b""
            chunks, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return b"".join(chunks)

    def take(self, chunk: bytes) -> None:
        """Look at what came."""
        now = self._clock()
        self._full_log.write(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[: 1 << 20]
        self.lines += len(lines)
        # In a flood only what may matter is looked at line by line.
        sample = lines[::50] if len(lines) > MANY_LINES else lines
        debug = sum(1 for line in sample if _DEBUG_TAG.match(line))
        if self._watch.add(now, len(lines), debug * len(lines) // max(1, len(sample))):
            self._sample = sample_of(sample)
        if len(lines) > MANY_LINES and not self._filter.in_traceback and not is_important(chunk):
            self._filter.hidden += len(lines)
        else:
            for line in lines:
                self._filter.line(line.rstrip(b"\r"), now)
        self._judge(now)

    def _judge(self, now: float, *, ended: bool = False) -> None:
        """Tell a flood once, when it has been measured or nothing more comes, until it has passed."""
        due_s = self._watch.due_s(now)
        if due_s is None:
            self._flooded = False
        elif not self._flooded and (ended or due_s == 0.0) and (verdict := self._watch.verdict()):
            self._flooded = True
            self._on_flood(dataclasses.replace(verdict, sample=self._sample))
