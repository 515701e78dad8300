"""Downloads as a terminal shows them: bars, and a line a file where standard output is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from launcher.transfers import OnBytes, PlainTransfers, Transfers


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
