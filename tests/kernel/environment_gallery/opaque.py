"""Objects whose state Python cannot see."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import hashlib
import io
import itertools
import logging
import mmap
import multiprocessing
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from .exhibit import PROVED, Exhibit, shown


@shown(PROVED)
class Generating(Exhibit):
    @staticmethod
    def flow() -> Iterator[float]:
        total = 0.0
        while True:
            much = yield total
            total += 1.0 + (much or 0)

    def start(self) -> None:
        self.flowing: Any = self.flow()
        next(self.flowing)

    def tick(self, action: int) -> float:
        return self.flowing.send(action)


@shown(PROVED)
class Iterating(Exhibit):
    def begin(self) -> None:
        self.count, self.cycle = itertools.count(3), itertools.cycle([1, 5, 2])
        self.pairs = enumerate(itertools.chain([4, 4, 1], range(10**6)))

    def tick(self, action: int) -> float:
        number, value = next(self.pairs)
        return next(self.count) + next(self.cycle) + number + value + action


@shown(PROVED)
class Coroutine(Exhibit):
    def start(self) -> None:
        async def drive() -> None:
            total = 0.0
            while True:
                total += 1 + await _Wanted(total)

        self.driving = drive()
        self.driving.send(None)

    def tick(self, action: int) -> float:
        return self.driving.send(action)


class _Wanted:
    def __init__(self, total: float) -> None:
        self.total = total

    def __await__(self) -> Any:
        return (yield self.total)


@shown(PROVED)
class Streams(Exhibit):
    def start(self) -> None:
        self.text, self.raw = io.StringIO("".join(map(str, range(50)))), io.BytesIO(bytes(range(99)))
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.file.write(bytes(range(90)))
        self.file.seek(0)

    def tick(self, action: int) -> float:
        return len(self.text.read(1 + action)) + self.text.tell() + self.raw.read(2)[0] + self.file.read(1 + action)[0]


@shown(PROVED)
class Hashing(Exhibit):
    def start(self) -> None:
        self.hash, self.packer = hashlib.sha256(b"k"), zlib.compressobj()

    def tick(self, action: int) -> float:
        self.hash.update(bytes([action]))
        self.packer.compress(bytes([action]) * 9)
        return self.hash.digest()[0] + len(self.packer.copy().flush())


@shown("env.cell")
class CStructure(Exhibit):
    class Cell(ctypes.Structure):
        _fields_ = [("load", ctypes.c_double), ("lane", ctypes.c_int)]

    def begin(self) -> None:
        self.cell, self.buffer = self.Cell(), (ctypes.c_int * 4)()

    def tick(self, action: int) -> float:
        self.cell.load += 0.5 + action
        self.buffer[1] += 1
        return self.cell.load + self.buffer[1]


@shown(PROVED)
class Mapped(Exhibit):
    def start(self) -> None:
        self.memory = mmap.mmap(-1, 64)

    def tick(self, action: int) -> float:
        self.memory[3] = (self.memory[3] + 1 + action) % 256
        return self.memory[3]


@shown(PROVED)
class Locks(Exhibit):
    def begin(self) -> None:
        self.lock, self.event, self.queue = threading.Lock(), threading.Event(), queue.Queue()
        self.load = 0

    def tick(self, action: int) -> float:
        with self.lock:
            self.load += 1 + action
            self.queue.put(self.load)
            if self.queue.qsize() > 4:
                self.queue.get()
            self.event.set()
        return self.load + self.queue.qsize()


@shown(PROVED)
class Worker(Exhibit):
    """A thread keeps the state."""

    def start(self) -> None:
        self.asked, self.told = queue.Queue(), queue.Queue()
        threading.Thread(target=_work, args=(self.asked, self.told), daemon=True).start()

    def tick(self, action: int) -> float:
        self.asked.put(action)
        return self.told.get(timeout=10)


def _work(asked: Any, told: Any) -> None:
    total = 0
    while True:
        total += 1 + asked.get()
        told.put(total)


SERVER = """
import sys
total = 0
for line in sys.stdin:
    total += 1 + int(line)
    print(total, flush=True)
"""


@shown(PROVED)
class Subprocess(Exhibit):
    """A simulator in another process, new for each episode."""

    def start(self) -> None:
        if hasattr(self, "server"):
            self.server.kill()
            self.server.wait()
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def tick(self, action: int) -> float:
        self.server.stdin.write(f"{action}\n")
        return int(self.server.stdout.readline())

    def close(self) -> None:
        self.server.kill()


@shown("")
class LongServer(Subprocess):
    """A simulator in another process that outlives episodes: a reset does not bring it back."""

    def begin(self) -> None:
        super().start()

    def start(self) -> None:
        pass


@shown(PROVED)
class Socket(Exhibit):
    """Two ends of a socket, with what is under way between them."""

    def start(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.sendall(struct.pack("d", 1.0))

    def tick(self, action: int) -> float:
        (value,) = struct.unpack("d", self.there.recv(8))
        self.here.sendall(struct.pack("d", value + 1 + action))
        return value


@shown(PROVED)
class Multiprocessing(Exhibit):
    def start(self) -> None:
        self.value = multiprocessing.Value("d", 0.0)

    def tick(self, action: int) -> float:
        self.value.value += 1 + action
        return self.value.value


@shown(PROVED)
class EventLoop(Exhibit):
    def start(self) -> None:
        self.loop, self.total = asyncio.new_event_loop(), 0

    async def drive(self, action: int) -> float:
        await asyncio.sleep(0)
        self.total += 1 + action
        return self.total

    def tick(self, action: int) -> float:
        return self.loop.run_until_complete(self.drive(action))


@shown(PROVED)
class Cached(Exhibit):
    """What a cache holds decides what is computed."""

    def begin(self) -> None:
        self.misses = 0

    def tick(self, action: int) -> float:
        before = _squared.cache_info().misses
        _squared(self.steps % 4 + 10 * action)
        self.misses += _squared.cache_info().misses - before
        return self.misses * 1.5 + self.steps


@functools.lru_cache(maxsize=3)
def _squared(x: int) -> int:
    return x * x


@shown(PROVED)
class Logged(Exhibit):
    def begin(self) -> None:
        self.logger = logging.getLogger("gallery")
        self.seen: list[int] = []

    def tick(self, action: int) -> float:
        self.logger.debug("step %d", self.steps)
        self.seen.append(self.steps)
        return len(self.seen)
