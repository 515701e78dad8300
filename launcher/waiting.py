"""Signs of life while something takes its time: a spinner on a terminal, a line every ten seconds elsewhere.

All of it goes to standard error: what a command prints stays what it is.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

AFTER_S = 0.5
"""What is done sooner needs no word."""
FIRST_S = 2.0
"""A first line comes by then where there is no terminal: nobody wonders longer."""
EVERY_S = 10.0
"""Between two lines where there is no terminal."""
TICK_S = 0.2


class Waiting:
    """What is being waited for; `__call__` says what it is about now."""

    def __init__(
        self, what: str, out: TextIO, clock: Callable[[], float] = time.monotonic, every_s: float = EVERY_S
    ) -> None:
        self._out, self._clock, self._every_s = out, clock, every_s
        self._lock = threading.Lock()
        self._what = what
        self._began = self._said = clock()
        self._heard_of = False
        self._spinner: Any = None
        self._live: Any = None
        self._over = False

    def __call__(self, what: str) -> None:
        """Another step of the same wait has begun."""
        with self._lock:
            self._what = what
            self._began = self._clock()
            if not self._over and not self._out.isatty():
                self._say(f"{what}…")

    def tick(self) -> None:
        """Show what is due."""
        with self._lock:
            now = self._clock()
            if self._over:
                return
            if self._out.isatty():
                if self._spinner is not None or now - self._began >= AFTER_S:
                    self._spin(now)
            elif now - self._said >= (self._every_s if self._heard_of else min(FIRST_S, self._every_s)):
                self._say(f"{self._what}: {now - self._began:.0f} s…")

    def end(self) -> None:
        """Leave nothing on a terminal."""
        with self._lock:
            self._over = True
            if self._live is not None:
                self._live.stop()

    def _spin(self, now: float) -> None:
        text = f"{self._what}… {now - self._began:.0f} s"
        if self._spinner is None:
            from rich.console import Console
            from rich.live import Live
            from rich.spinner import Spinner

            console = Console(file=self._out, highlight=False, markup=False)
            self._spinner = Spinner("dots", style="status.spinner")
            # This is a thread of its own: the streams of the process are not its to redirect.
            self._live = Live(
                self._spinner,
                console=console,
                refresh_per_second=12.5,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._spinner.update(text=text)

    def _say(self, text: str) -> None:
        self._said, self._heard_of = self._clock(), True
        self._out.write(text + "\n")
        self._out.flush()


@contextlib.contextmanager
def waiting(
    what: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """Show `what` for as long as the block takes; the value that it gives tells a further step.

    Example
    -------
        with waiting("Asking kaggle.com for its quota"):
            quota = backend.quota()
    """
    shown = Waiting(what, sys.stderr if out is None else out, clock)
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK_S):
            shown.tick()

    thread = threading.Thread(target=tick, name="waiting", daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        over.set()
        thread.join()
        shown.end()
