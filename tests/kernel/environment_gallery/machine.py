"""State that lies outside of Python: clocks, files, the process."""

from __future__ import annotations

import decimal
import os
import pathlib
import sqlite3
import time

from .exhibit import PROVED, Exhibit, shown


@shown("")
class WallClock(Exhibit):
    def tick(self, action: int) -> float:
        return time.time() * 1e3 % 7


@shown("")
class Stopwatch(Exhibit):
    def begin(self) -> None:
        self.began = time.perf_counter()

    def tick(self, action: int) -> float:
        return (time.perf_counter() - self.began) * 100 % 7


@shown("")
class ProcessNumber(Exhibit):
    def tick(self, action: int) -> float:
        return os.getpid() % 1001 / 7 + action


@shown("")
class Address(Exhibit):
    def tick(self, action: int) -> float:
        return id(self) // 16 % 1009 / 7


@shown("")
class FileCounter(Exhibit):
    """Counts in a file of the working folder."""

    def tick(self, action: int) -> float:
        path = pathlib.Path("gallery-counter.txt")
        count = int(path.read_text()) + 1 if path.exists() else 0
        path.write_text(str(count))
        return count * 0.7


@shown("")
class Database(Exhibit):
    def begin(self) -> None:
        self.path = "gallery.sqlite"
        with sqlite3.connect(self.path) as db:
            db.execute("CREATE TABLE IF NOT EXISTS seen (x REAL)")

    def tick(self, action: int) -> float:
        with sqlite3.connect(self.path) as db:
            db.execute("INSERT INTO seen VALUES (?)", (self.steps,))
            return db.execute("SELECT COUNT(*) FROM seen").fetchone()[0]


@shown(PROVED)
class MemoryDatabase(Exhibit):
    def start(self) -> None:
        self.db = sqlite3.connect(":memory:")
        self.db.execute("CREATE TABLE seen (x REAL)")

    def tick(self, action: int) -> float:
        self.db.execute("INSERT INTO seen VALUES (?)", (self.steps * 1.5 + action,))
        return self.db.execute("SELECT SUM(x) FROM seen").fetchone()[0]


@shown("")
class EnvironmentVariable(Exhibit):
    def tick(self, action: int) -> float:
        count = int(os.environ.get("GALLERY_COUNT", "0")) + 1 + action
        os.environ["GALLERY_COUNT"] = str(count)
        return count


@shown("")
class DecimalContext(Exhibit):
    """The precision of the process's decimals."""

    def tick(self, action: int) -> float:
        context = decimal.getcontext()
        context.prec = 5 + (context.prec - 5 + 1 + action) % 20
        return context.prec
