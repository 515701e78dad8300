"""Downloads as they are shown: bars on a terminal, a line a file elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

OnBytes = Callable[[int, int], None]
"""Called with (bytes that are here, bytes in all; -1 while nobody tells)."""


class Transfers(Protocol):
    """Where downloads are shown."""

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


class LiveTransfers:
    """A bar for each file, which stays when it is full."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(highlight=False),
        )

    @contextlib.contextmanager
    def file(self, name: str, origin: str) -> Iterator[OnBytes]:
        task: Any = self._progress.add_task(f"{name} ({origin})", total=None)

        def on_bytes(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total if total >= 0 else None)

        self._progress.start()
        try:
            yield on_bytes
        finally:
            self._progress.stop()
            self._progress.remove_task(task)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False)


def for_terminal(say: Callable[[str], object]) -> Transfers:
    """What fits where standard output goes; lines are said by `say`."""
    return LiveTransfers() if sys.stdout.isatty() else PlainTransfers(say)
