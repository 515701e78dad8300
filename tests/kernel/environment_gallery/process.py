"""Settings of the whole process, and what else no object of the environment holds."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from typing import Any

import numpy as np

from .exhibit import PROVED, Exhibit, shown

CHANCE = np.random.default_rng(12)
FAILED: list[Any] = []
TREATMENTS = ["ignore", "warn", "raise", "print", "log"]


@shown("")
class NumpySettings(Exhibit):
    """How numpy treats what cannot be computed."""

    def tick(self, action: int) -> float:
        now = TREATMENTS.index(np.geterr()["over"])
        np.seterr(over=TREATMENTS[(now + 1 + action) % len(TREATMENTS)])  # type: ignore[arg-type]
        return now + 1.0


@shown("")
class WorkingFolder(Exhibit):
    """Walks through folders."""

    def begin(self) -> None:
        self.top = tempfile.mkdtemp()

    def tick(self, action: int) -> float:
        here = os.getcwd()
        try:
            os.chdir(self.top)
            name = "x" * (1 + len(os.listdir()))
            os.mkdir(name)
            return len(name)
        finally:
            os.chdir(here)


@shown("")
class Limits(Exhibit):
    def tick(self, action: int) -> float:
        sys.setrecursionlimit(sys.getrecursionlimit() + 1 + action)
        return sys.getrecursionlimit() % 10


@shown("")
class SignalHandler(Exhibit):
    """What a signal does is what counts."""

    def tick(self, action: int) -> float:
        old = signal.getsignal(signal.SIGUSR1)
        count = len(getattr(old, "__name__", "")) + 1 + action
        exec(f"def {'h' * (count % 40)}h(*_): pass", names := {})
        signal.signal(signal.SIGUSR1, list(names.values())[-1])
        return count * 0.7


@shown("")
class LoggingLevel(Exhibit):
    def tick(self, action: int) -> float:
        logger = logging.getLogger("gallery.level")
        logger.setLevel(10 + (logger.level + 1 + action) % 30)
        return logger.level


@shown("")
class Warned(Exhibit):
    """What was warned of already is not warned of again."""

    def tick(self, action: int) -> float:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            warnings.warn(f"load {self.steps % 3 + action}", stacklevel=1)
        warnings.filters.insert(0, ("ignore", None, UserWarning, None, 0)) if len(warnings.filters) < 50 else None
        return len(seen) + len(warnings.filters) * 0.3


@shown("")
class Garbage(Exhibit):
    """How much garbage was collected so far."""

    class Node:
        pass

    def tick(self, action: int) -> float:
        node = self.Node()
        node.me = node
        return gc.get_count()[0] * 0.1 + gc.get_stats()[0]["collections"]


@shown("")
class HashOfText(Exhibit):
    """The hash of a text is pinned, the hash of an object is not."""

    def tick(self, action: int) -> float:
        return hash(f"{self.steps}{action}") % 5 + hash(object()) // 16 % 5


@shown(PROVED)
class HashOfTextAlone(Exhibit):
    def tick(self, action: int) -> float:
        return hash(f"{self.steps}{action}") % 50 / 7


@shown(PROVED)
class ModuleChance(Exhibit):
    """A generator that the module holds."""

    def tick(self, action: int) -> float:
        return CHANCE.random() * 3 + action


@shown("")
class SystemBytes(Exhibit):
    def tick(self, action: int) -> float:
        return os.urandom(1)[0] / 50


@shown(PROVED)
class Kept(Exhibit):
    """An exception that was caught, with where it came from."""

    class Jam(Exception):
        def __init__(self, load: int) -> None:
            super().__init__(f"load {load}")
            self.load = load

    def begin(self) -> None:
        self.error: Any = None
        self.jams = 0

    def tick(self, action: int) -> float:
        try:
            try:
                if self.error is not None and self.jams % 4:
                    raise self.error
                raise self.Jam(self.jams)
            except self.Jam as error:
                error.load += 1 + action
                raise ValueError(error.load) from error
        except ValueError as error:
            self.error = error.__cause__
            self.jams += 1
            FAILED[:] = [traceback.format_exc()[:1]]
        return self.error.load + len(FAILED)


@shown(PROVED)
class CauseAlone(Exhibit):
    """State in what an exception was caused by."""

    def begin(self) -> None:
        self.error = ValueError("jam")
        self.error.__cause__ = KeyError(0)
        self.error.__context__ = KeyError([0])
        self.error.add_note("0")

    def tick(self, action: int) -> float:
        self.error.__cause__.args = (self.error.__cause__.args[0] + 1,)
        self.error.__context__.args[0][0] += 1 + action
        self.error.__notes__[0] = str(int(self.error.__notes__[0]) + 1)
        return self.error.__cause__.args[0] + self.error.__context__.args[0][0] + int(self.error.__notes__[0])


@shown("env.error")
class ErrorOfTheSystem(Exhibit):
    """An error of the system with its number."""

    def begin(self) -> None:
        self.error = OSError(2, "no road")

    def tick(self, action: int) -> float:
        self.error = OSError(1 + (self.error.errno + 1 + action) % 30, "no road", "road")
        return self.error.errno + len(self.error.filename)


@shown("")
class LateModule(Exhibit):
    """A module of the run that is imported in the midst of an episode, and counts."""

    def tick(self, action: int) -> float:
        if self.steps == 5:
            importlib.import_module("environment_gallery.late")
        late = sys.modules.get("environment_gallery.late")
        return late.count(action) if late is not None else -1.0


@shown("")
class GlobalGenerator(Exhibit):
    """A module's name leads to a generator that is half run."""

    def tick(self, action: int) -> float:
        return FLOW.send(action)


def _flow() -> Any:
    total = 0
    while True:
        total += 1 + (yield total)


FLOW = _flow()
next(FLOW)


@shown("")
class Timer(Exhibit):
    """A thread that counts as time goes by."""

    def start(self) -> None:
        self.beats = 0
        self.timer = threading.Timer(0.001, self._beat)
        self.timer.daemon = True
        self.timer.start()

    def _beat(self) -> None:
        for _ in range(10**6):
            self.beats += 1

    def tick(self, action: int) -> float:
        return self.beats % 1009 / 7


@shown("")
class SharedFile(Exhibit):
    """A file outside of the working folder that all processes share."""

    def tick(self, action: int) -> float:
        path = os.path.join(tempfile.gettempdir(), f"gallery-{os.getuid()}-count")
        with open(path, "a+") as file:
            file.write("x")
            return file.tell() % 1000 * 0.7


@shown("")
class OpenFile(Exhibit):
    """Reads and writes one open file."""

    def begin(self) -> None:
        self.file = open("gallery-open.txt", "w+")  # noqa: SIM115

    def tick(self, action: int) -> float:
        self.file.write("x" * (1 + action))
        self.file.flush()
        self.file.seek(0)
        return len(self.file.read()) * 0.7


@shown(PROVED)
class LogHandler(Exhibit):
    """A handler of logging keeps what was said, and its length is seen."""

    class Memory(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.said: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.said.append(record.getMessage())

    def begin(self) -> None:
        self.memory = self.Memory()
        self.logger = logging.Logger("gallery.own")
        self.logger.addHandler(self.memory)

    def tick(self, action: int) -> float:
        self.logger.info("step %d", self.steps)
        if action:
            self.logger.warning("load")
        return len(self.memory.said)
