"""Where a verb says what it does, and shows what it downloads: passed in by whoever has a terminal, a page or a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

OnBytes = Callable[[int, int], None]
"""Called with (bytes that are here, bytes in all; -1 while nobody tells)."""


class Transfers(Protocol):
    """Where downloads are shown and things are said."""

    def file(self, name: str, origin: str) -> contextlib.AbstractContextManager[OnBytes]:
        """One file while it comes; left by an exception when it did not."""

    def note(self, text: str) -> None:
        """Say something besides."""


class PlainTransfers:
    """A line for each file that came, and one every `every_s` seconds while a long one comes."""

    def __init__(
        self, say: Callable[[str], object], every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._every_s, self._clock = say, every_s, clock

    @contextlib.contextmanager
    def file(self, name: str, origin: str) -> Iterator[OnBytes]:
        began = shown = self._clock()
        first: int | None = None
        here = 0

        def on_bytes(done: int, total: int) -> None:
            nonlocal shown, first, here
            here = done
            if first is None:
                first = done
                if done:
                    self._say(f"{name}: goes on after {done:,} bytes.")
            if self._clock() - shown >= self._every_s:
                shown = self._clock()
                self._say(f"{name}: {done:,} of {total:,} bytes." if total > 0 else f"{name}: {done:,} bytes.")

        yield on_bytes
        self._say(f"{name}: {here:,} bytes from {origin} in {self._clock() - began:.1f} s.")

    def note(self, text: str) -> None:
        self._say(text)
