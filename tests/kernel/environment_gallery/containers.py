"""Containers and values."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import heapq
import pathlib
import string
import uuid
from typing import Any

import numpy as np

from .exhibit import PROVED, Exhibit, shown


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


@shown("is another state: env.")
class Words(Exhibit):
    """Where a set is searched for the next to pop, which nobody sees: the words differ, and what hangs on them."""

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
