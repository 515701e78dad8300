"""Awkward environments, one of each kind: where people keep state, and what a resume of it must come out as.

`EXPECTED` names each with what must be said of it: proved, or inexact with a word that the reason must hold. An
environment's observation and reward hang on its hidden state, so that a resume that loses it trains to other weights.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextvars
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import heapq
import io
import itertools
import json
import logging
import mmap
import multiprocessing
import os
import pathlib
import queue
import random
import secrets
import socket
import sqlite3
import string
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch as th
from gymnasium import spaces

EXPECTED: dict[str, str] = {}
PROVED = "proved"
COUNT = 0
TABLE: dict[str, float] = {}
SHARED = np.zeros(3)
LOCAL = threading.local()
CONTEXT: contextvars.ContextVar[int] = contextvars.ContextVar("context", default=0)


def shown(expected: str) -> Callable[[type], type]:
    """Put a class into the gallery."""

    def put(cls: type) -> type:
        EXPECTED[cls.__name__] = expected
        return cls

    return put


class Exhibit(gymnasium.Env):
    """Ends its episodes after a while; `tick` moves the hidden state and says what is seen of it."""

    observation_space = spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps, self.level = 0, 0.0
        self.begin()

    def begin(self) -> None:
        """Once, when it is made."""

    def start(self) -> None:
        """At each reset."""

    def tick(self, action: int) -> float:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.level = 0, float(self.np_random.uniform())
        self.start()
        return self._seen(0.0), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        seen = float(self.tick(int(action))) % 7.0
        self.level = 0.5 * self.level + 0.1 * seen + 0.2 * int(action)
        return self._seen(seen), self.level - seen, False, self.steps >= 11, {}

    def _seen(self, seen: float) -> Any:
        return np.array([seen, self.level, self.steps / 11], np.float32).clip(-10, 10)


# --- names and attributes -------------------------------------------------------------------------------------------


@shown(PROVED)
class Clock(Exhibit):
    def begin(self) -> None:
        self.clock = 0

    def tick(self, action: int) -> float:
        self.clock += 1 + action
        return self.clock * 0.3


@shown(PROVED)
class OddNames(Exhibit):
    def begin(self) -> None:
        self.viewer, self.screen, self.surf, self.window = 0, 1, 2, 3
        self.metadata = {"render_modes": [], "phase": 0}

    def tick(self, action: int) -> float:
        self.viewer += 1
        self.screen += self.viewer % 3
        self.surf += self.screen % 2
        self.metadata["phase"] += action
        return self.surf + self.metadata["phase"]


@shown(PROVED)
class RenderMode(Exhibit):
    def begin(self) -> None:
        self.render_mode = "0"

    def tick(self, action: int) -> float:
        self.render_mode = str((int(self.render_mode) + 1 + action) % 50)
        return int(self.render_mode)


@shown(PROVED)
class DoubleUnderscore(Exhibit):
    def begin(self) -> None:
        self.__hidden = 0

    def tick(self, action: int) -> float:
        self.__hidden += 2 + action
        return self.__hidden


@shown(PROVED)
class Slots(Exhibit):
    class Held:
        __slots__ = ("a", "b")

    def begin(self) -> None:
        self.held = self.Held()
        self.held.a = 0

    def tick(self, action: int) -> float:
        self.held.a += 1
        if self.held.a % 2:
            self.held.b = self.held.a
        elif hasattr(self.held, "b"):
            del self.held.b
        return self.held.a + 3 * hasattr(self.held, "b") + action


@shown(PROVED)
class Lazy(Exhibit):
    def tick(self, action: int) -> float:
        if not hasattr(self, "late"):
            self.late = [0]
        self.late.append(self.late[-1] + action)
        if len(self.late) > 20:
            del self.late
            return 0
        return sum(self.late)


@shown(PROVED)
class Property(Exhibit):
    def begin(self) -> None:
        self._value = 1

    @property
    def value(self) -> int:
        return self._value * 2

    @value.setter
    def value(self, new: int) -> None:
        self._value = new + 1

    def tick(self, action: int) -> float:
        self.value = self.value % 97 + action
        return self.value


@shown(PROVED)
class GuardedSetter(Exhibit):
    """Its attributes refuse to be set from outside."""

    def begin(self) -> None:
        self.__dict__["load"] = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "load":
            raise AttributeError("load is what tick makes it")
        super().__setattr__(name, value)

    def tick(self, action: int) -> float:
        self.__dict__["load"] += 1 + action
        return self.load


# --- identity -------------------------------------------------------------------------------------------------------


@shown(PROVED)
class Alias(Exhibit):
    def begin(self) -> None:
        self.roads = [{"q": 0.0}, {"q": 0.0}]
        self.main = self.roads[0]

    def tick(self, action: int) -> float:
        self.main["q"] += 1.1
        return self.roads[0]["q"] + action


@shown(PROVED)
class View(Exhibit):
    def begin(self) -> None:
        self.cells = np.zeros(6)
        self.middle = self.cells[2:5][::-1]

    def tick(self, action: int) -> float:
        self.middle[0] += 1 + action
        return float(self.cells[4])


@shown(PROVED)
class TensorView(Exhibit):
    def begin(self) -> None:
        self.cells = th.zeros(6)
        self.middle = self.cells[1:3]

    def tick(self, action: int) -> float:
        self.middle += 1 + action
        return float(self.cells[1])


@shown(PROVED)
class Circle(Exhibit):
    class Car:
        def __init__(self) -> None:
            self.ahead: Any = self
            self.x = 0

    def begin(self) -> None:
        a, b = self.Car(), self.Car()
        a.ahead, b.ahead = b, a
        self.car = a

    def tick(self, action: int) -> float:
        self.car.ahead.x += 1 + action
        self.car = self.car.ahead
        return self.car.ahead.x * 2 + self.car.x


@shown(PROVED)
class LongChain(Exhibit):
    def begin(self) -> None:
        self.chain: Any = None
        for number in range(3000):
            self.chain = [number, self.chain]

    def tick(self, action: int) -> float:
        self.chain = [self.chain[0] + 1 + action, self.chain]
        return self.chain[0] % 11


@shown(PROVED)
class KeyedByObject(Exhibit):
    class Road:
        pass

    def begin(self) -> None:
        self.roads = [self.Road(), self.Road()]
        self.load = dict.fromkeys(self.roads, 0)

    def tick(self, action: int) -> float:
        self.load[self.roads[action]] += 1
        return self.load[self.roads[0]] * 2 + self.load[self.roads[1]]


@shown(PROVED)
class Weak(Exhibit):
    class Car:
        def __init__(self, x: int) -> None:
            self.x = x

    def begin(self) -> None:
        self.cars = [self.Car(0), self.Car(5)]
        self.first = weakref.ref(self.cars[0])
        self.by_name = weakref.WeakValueDictionary({"last": self.cars[1]})

    def tick(self, action: int) -> float:
        self.first().x += 1
        self.by_name["last"].x += action
        return self.cars[0].x + self.cars[1].x


@shown(PROVED)
class WeakKeys(Exhibit):
    class Car:
        pass

    def begin(self) -> None:
        self.car = self.Car()
        self.load: Any = weakref.WeakKeyDictionary({self.car: 1})

    def tick(self, action: int) -> float:
        self.load[self.car] += 1 + action
        return self.load[self.car]


# --- containers -----------------------------------------------------------------------------------------------------


@shown(PROVED)
class Containers(Exhibit):
    def begin(self) -> None:
        self.deque = collections.deque([1, 2, 3], maxlen=3)
        self.counter: Any = collections.Counter()
        self.default: Any = collections.defaultdict(lambda: 2)
        self.ordered = collections.OrderedDict(a=1, b=2)
        self.chain = collections.ChainMap({"x": 1}, {"y": 2})
        self.heap = [(5, "e"), (7, "g")]

    def tick(self, action: int) -> float:
        self.deque.append(self.deque[0] + action)
        self.counter[self.deque[-1] % 3] += 1
        self.default[action] += 1
        self.ordered.move_to_end(next(iter(self.ordered)))
        self.chain["x"] += 1
        least, name = heapq.heappushpop(self.heap, (self.heap[0][0] + 2 + action, "n"))
        return (
            self.deque[0]
            + self.counter[0]
            + self.default[1]
            + next(iter(self.ordered.values()))
            + self.chain["x"]
            + least
            + len(name)
        )


@shown(PROVED)
class DictOrder(Exhibit):
    def begin(self) -> None:
        self.table = {name: number for number, name in enumerate("abcd")}

    def tick(self, action: int) -> float:
        name = next(iter(self.table))
        self.table[name] = self.table.pop(name) + 1 + action
        return self.table[name] * len(name)


@shown("env.words")
class Words(Exhibit):
    """Where a set of words is searched for the next to pop, which nobody sees."""

    def begin(self) -> None:
        self.words = {"left"}

    def tick(self, action: int) -> float:
        self.words.add(string.ascii_letters[(self.steps * 7 + action) % 52] * 3)
        if len(self.words) > 9:
            self.words.pop()
        return sum(ord(word[0]) * place for place, word in enumerate(self.words)) % 101


@shown(PROVED)
class Bytes(Exhibit):
    def begin(self) -> None:
        self.bytes, self.array = bytearray(8), array.array("d", [0.0] * 4)
        self.window = memoryview(self.bytes)[2:4]

    def tick(self, action: int) -> float:
        self.window[0] = (self.window[0] + 3 + action) % 256
        self.array[1] += 0.5
        return self.bytes[2] + self.array[1]


@shown(PROVED)
class Records(Exhibit):
    def begin(self) -> None:
        self.cars = np.zeros(3, [("x", "f8"), ("lane", "i4")])
        self.names = np.array(["a", None, {"k": 1}], object)
        self.masked = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])

    def tick(self, action: int) -> float:
        self.cars["x"] += 0.25
        self.cars["lane"][1] += action
        self.names[2]["k"] += 1
        self.masked[0] += 1
        self.masked.mask[2] = not self.masked.mask[2]
        return float(self.cars["x"].sum() + self.cars["lane"][1] + self.names[2]["k"] + self.masked.sum())


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int
    y: tuple[int, ...] = ()


class Light(enum.Enum):
    RED = "r"
    GREEN = "g"


Point = collections.namedtuple("Point", "x y")


@shown(PROVED)
class Values(Exhibit):
    def begin(self) -> None:
        self.frozen, self.light, self.point = Frozen(0), Light.RED, Point(0, 0)
        self.day, self.span = datetime.datetime(2025, 10, 21), datetime.timedelta(hours=1)
        self.part, self.money, self.big = fractions.Fraction(1, 3), decimal.Decimal("1.10"), 1 << 90
        self.wave, self.odd = complex(1, 2), float("nan")
        self.path, self.id = pathlib.PurePosixPath("a/b"), uuid.UUID(int=5)

    def tick(self, action: int) -> float:
        self.frozen = Frozen(self.frozen.x + 1, (*self.frozen.y[-3:], action))
        self.light = Light.GREEN if self.light is Light.RED else Light.RED
        self.point = Point(self.point.x + action, self.point.y + 1)
        self.day += self.span
        self.part += fractions.Fraction(1, 7)
        self.money *= decimal.Decimal("1.01")
        self.big += 1
        self.wave *= 1j
        self.path = self.path / "c" if len(self.path.parts) < 5 else pathlib.PurePosixPath("a")
        self.id = uuid.UUID(int=self.id.int + 1)
        return (
            self.frozen.x
            + sum(self.frozen.y)
            + (self.light is Light.RED)
            + self.point.y
            + self.day.hour
            + float(self.part)
            + float(self.money)
            + self.big % 5
            + self.wave.real
            + len(self.path.parts)
            + self.id.int
        )


# --- functions ------------------------------------------------------------------------------------------------------


@shown(PROVED)
class StateMachine(Exhibit):
    def begin(self) -> None:
        self.phase: Any = self.red

    def red(self, action: int) -> float:
        self.phase = self.green if action else self.yellow
        return 1

    def yellow(self, action: int) -> float:
        self.phase = self.green
        return 2

    def green(self, action: int) -> float:
        self.phase = self.red
        return 3

    def tick(self, action: int) -> float:
        return self.phase(action)


@shown(PROVED)
class Closure(Exhibit):
    def begin(self) -> None:
        total = 0

        def add(much: int) -> int:
            nonlocal total
            total += much
            return total

        self.add, self.twice = add, functools.partial(add, 2)

    def tick(self, action: int) -> float:
        return self.twice() + self.add(action)


@shown(PROVED)
class FunctionAttribute(Exhibit):
    def tick(self, action: int) -> float:
        _counted.calls = getattr(_counted, "calls", 0) + 1 + action
        return _counted.calls


def _counted() -> None:
    pass


@shown(PROVED)
class MutableDefault(Exhibit):
    def remember(self, action: int, seen: list[int] = []) -> float:  # noqa: B006
        seen.append(action + 1)
        return sum(seen)

    def tick(self, action: int) -> float:
        return self.remember(action)


@shown(PROVED)
class OwnMethod(Exhibit):
    def begin(self) -> None:
        self.flow: Any = lambda action: action + 1.0

    def tick(self, action: int) -> float:
        if self.steps == 5:
            self.flow = types.MethodType(_flow, self)
        return self.flow(action)


def _flow(self: Any, action: int) -> float:
    return self.steps + 2.0 * action


# --- classes, modules, globals --------------------------------------------------------------------------------------


@shown(PROVED)
class ModuleGlobal(Exhibit):
    def tick(self, action: int) -> float:
        global COUNT
        COUNT += 1 + action
        return COUNT


@shown(PROVED)
class ModuleTable(Exhibit):
    def tick(self, action: int) -> float:
        TABLE["load"] = TABLE.get("load", 0.0) + 1 + action
        SHARED[1] += TABLE["load"] % 2
        return TABLE["load"] + SHARED[1]


@shown(PROVED)
class ClassAttribute(Exhibit):
    ticks = 0

    def tick(self, action: int) -> float:
        type(self).ticks += 1 + action
        return self.ticks


@shown(PROVED)
class BaseClassAttribute(Exhibit):
    class Base:
        registry: ClassVar[list[int]] = []

    class Derived(Base):
        pass

    def tick(self, action: int) -> float:
        self.Derived.registry.append(action + 1)
        return sum(self.Base.registry[-5:])


@shown(PROVED)
class PatchedMethod(Exhibit):
    class Road:
        def flow(self) -> float:
            return 1.0

    def begin(self) -> None:
        self.road = self.Road()

    def tick(self, action: int) -> float:
        if self.steps == 4:
            self.Road.flow = _fast if action else _slow
        return self.road.flow()


def _fast(self: Any) -> float:
    return 3.0


def _slow(self: Any) -> float:
    return 0.5


@shown(PROVED)
class SharedByAll(Exhibit):
    """One array for all environments of a process."""

    load = np.zeros(2)

    def tick(self, action: int) -> float:
        self.load[action] += 1
        return float(self.load @ [1, 2])


@shown(PROVED)
class ThreadLocal(Exhibit):
    def tick(self, action: int) -> float:
        LOCAL.load = getattr(LOCAL, "load", 0) + 1 + action
        return LOCAL.load


@shown(PROVED)
class ContextVariable(Exhibit):
    def tick(self, action: int) -> float:
        CONTEXT.set(CONTEXT.get() + 1 + action)
        return CONTEXT.get()


# --- chance ---------------------------------------------------------------------------------------------------------


@shown(PROVED)
class Chances(Exhibit):
    def begin(self) -> None:
        self.python = random.Random(1)
        self.legacy = np.random.RandomState(2)
        self.philox = np.random.Generator(np.random.Philox(3))
        self.sfc = np.random.Generator(np.random.SFC64(4))
        self.mt = np.random.Generator(np.random.MT19937(5))
        self.torch = th.Generator().manual_seed(6)

    def tick(self, action: int) -> float:
        drawn = [
            self.python.gauss(0, 1),
            self.legacy.randn(),
            self.philox.random(),
            self.sfc.normal(),
            self.mt.random(),
        ]
        return sum(drawn) + float(th.rand(1, generator=self.torch)) + action


@shown(PROVED)
class SharedBits(Exhibit):
    def begin(self) -> None:
        bits = np.random.PCG64(7)
        self.one, self.other = np.random.Generator(bits), np.random.Generator(bits)

    def tick(self, action: int) -> float:
        return self.one.random() + 2 * self.other.random() + action


@shown(PROVED)
class SeedTree(Exhibit):
    def begin(self) -> None:
        self.seeds = np.random.SeedSequence(8)

    def tick(self, action: int) -> float:
        return np.random.default_rng(self.seeds.spawn(1)[0]).random() + action


@shown(PROVED)
class GlobalChance(Exhibit):
    def tick(self, action: int) -> float:
        return random.random() + np.random.rand() + float(th.rand(1)) + action


@shown(PROVED)
class SpaceSample(Exhibit):
    def begin(self) -> None:
        self.places = spaces.Dict({"x": spaces.Box(0, 1, (1,)), "lane": spaces.Discrete(3)}, seed=9)

    def tick(self, action: int) -> float:
        sample = self.places.sample()
        return float(sample["x"][0]) + sample["lane"] + int(self.action_space.sample())


@shown("")
class SystemChance(Exhibit):
    def begin(self) -> None:
        self.luck = random.SystemRandom()

    def tick(self, action: int) -> float:
        return self.luck.random() + action


@shown("")
class Unseeded(Exhibit):
    def tick(self, action: int) -> float:
        return np.random.default_rng().random() + secrets.randbelow(5)


@shown("")
class NewNames(Exhibit):
    def tick(self, action: int) -> float:
        return uuid.uuid4().int % 7


# --- the machine ----------------------------------------------------------------------------------------------------


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


# --- what Python cannot see -----------------------------------------------------------------------------------------


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


# --- models and wrappers --------------------------------------------------------------------------------------------


@shown(PROVED)
class Network(Exhibit):
    def begin(self) -> None:
        self.net = th.nn.Sequential(th.nn.Linear(2, 3), th.nn.BatchNorm1d(3), th.nn.Dropout(0.5), th.nn.Linear(3, 1))
        self.optimizer = th.optim.Adam(self.net.parameters())

    def tick(self, action: int) -> float:
        loss = self.net(th.tensor([[self.steps, action], [1.0, 2.0]], dtype=th.float32)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach()) * 5


@shown(PROVED)
class InnerNew(Exhibit):
    """A new inner environment for each episode."""

    def start(self) -> None:
        self.inner = gymnasium.make("CartPole-v1")
        self.inner.reset(seed=int(self.np_random.integers(1 << 20)))

    def tick(self, action: int) -> float:
        obs, *_ = self.inner.step(action)
        return float(obs[2]) * 20 + 3


class Tired(gymnasium.Wrapper):
    """A wrapper with a state whose name the environment has too."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.level = 0

    def step(self, action: Any) -> Any:
        self.level += 1
        obs, reward, *rest = self.env.step(action)
        return obs, reward + self.level % 5, *rest


@shown(PROVED)
def Wrapped() -> gymnasium.Env:  # noqa: N802  named as the classes are
    return Tired(gymnasium.wrappers.TimeAwareObservation(gymnasium.wrappers.TimeLimit(Clock(), 9)))


@shown(PROVED)
def Normalized() -> gymnasium.Env:  # noqa: N802  named as the classes are
    return gymnasium.wrappers.NormalizeReward(gymnasium.wrappers.NormalizeObservation(Chances()))


@shown(PROVED)
def Transformed() -> gymnasium.Env:  # noqa: N802  named as the classes are
    seen = [0]

    def counted(reward: Any) -> float:
        seen[0] += 1
        return float(reward) + seen[0] % 4

    return gymnasium.wrappers.TransformReward(Clock(), counted)


@shown(PROVED)
class Contract(Exhibit):
    """Tells its state itself, from where nobody sees it."""

    def begin(self) -> None:
        self.box = _box()
        next(self.box)

    def tick(self, action: int) -> float:
        return self.box.send(1 + action)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.box.send(0), "steps": self.steps, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.box = _box()
        next(self.box)
        self.box.send(state["total"])
        self.steps, self.level = state["steps"], state["level"]


def _box() -> Iterator[float]:
    total = 0.0
    while True:
        total += (yield total) or 0.0  # type: ignore[misc]


@shown(PROVED)
class HalfContract(Exhibit):
    """Forgets a part in what it tells; all of it can be seen."""

    def begin(self) -> None:
        self.seen = self.unseen = 0

    def tick(self, action: int) -> float:
        self.seen += 1
        self.unseen += 1 + action
        return self.seen + 2 * self.unseen

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "steps": self.steps, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.steps, self.level = state["seen"], state["steps"], state["level"]


@shown("")
class BrokenContract(Contract):
    """Fails when it is to tell its state, and nobody else can see it after a reset."""

    def state_dict(self) -> dict[str, Any]:
        raise RuntimeError("no state today")


@shown(PROVED)
class Json(Exhibit):
    """State as text."""

    def begin(self) -> None:
        self.state = json.dumps({"load": 0})

    def tick(self, action: int) -> float:
        load = json.loads(self.state)["load"] + 1 + action
        self.state = json.dumps({"load": load})
        return load


@shown(PROVED)
class Endless(Exhibit):
    """Its episodes never end."""

    def begin(self) -> None:
        self.load = 0.0

    def step(self, action: Any) -> Any:
        self.load += 0.1 + int(action)
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info

    def tick(self, action: int) -> float:
        return self.load


@shown(PROVED)
class OneStep(Exhibit):
    """Each step is an episode."""

    def begin(self) -> None:
        self.load = 0.0

    def step(self, action: Any) -> Any:
        self.load += 0.1 + int(action)
        obs, reward, _, _, info = super().step(action)
        return obs, reward, True, False, info

    def tick(self, action: int) -> float:
        return self.load


@shown(PROVED)
class SimulatorThatIsSeeded(Exhibit):
    """Holds a lock and a stream, and all that counts is drawn from its seed."""

    def begin(self) -> None:
        self.lock, self.out = threading.RLock(), sys.stdout

    def tick(self, action: int) -> float:
        with self.lock:
            return float(self.np_random.normal()) + action
