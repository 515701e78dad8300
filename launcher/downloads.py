"""Downloads as a terminal shows them: bars, and a line a file where standard output is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self

from launcher.runs.bound_run import BoundRun
from launcher.transfers import OnBytes, PlainTransfers, Transfers
from launcher.waiting import waiting


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


class Between:
    """`shown`, and what is waited for while no file is on its way: the two never write at the same time."""

    def __init__(self, shown: Transfers, what: str) -> None:
        self._shown, self._what = shown, what
        self._waits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._waits.enter_context(waiting(self._what))
        return self

    def __exit__(self, *raised: object) -> None:
        self._waits.close()

    @contextlib.contextmanager
    def file(self, name: str, origin: str) -> Iterator[OnBytes]:
        with self._alone(), self._shown.file(name, origin) as on_bytes:
            yield on_bytes

    def note(self, text: str) -> None:
        with self._alone():
            self._shown.note(text)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._waits.close()
        try:
            yield
        finally:
            self._waits.enter_context(waiting(self._what))


@contextlib.contextmanager
def between_files(handle: BoundRun, what: str) -> Iterator[None]:
    """Show `what` for as long as the block takes, and the transfers of `handle` in its place."""
    shown = handle.transfers
    try:
        with Between(shown, what) as handle.transfers:
            yield
    finally:
        handle.transfers = shown


def for_terminal(say: Callable[[str], object]) -> Transfers:
    """What fits where standard output goes; lines are said by `say`."""
    return LiveTransfers() if sys.stdout.isatty() else PlainTransfers(say)
