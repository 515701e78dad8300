"""One of each kind of state that people keep: how it is made, how it changes, and what it does afterwards.

Run as a program it takes the changed state in one process and puts it back in another:

    python state_gallery.py take FILE    changes everything, writes its state, then prints what it does
    python state_gallery.py put FILE     makes everything afresh, puts the state back, then prints what that does
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import io
import itertools
import logging
import pathlib
import queue
import random
import re
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

TICKS = 0
POOL = ["a"]


class Phase(enum.Enum):
    RED = 1
    GREEN = 2


class Sides(enum.IntFlag):
    LEFT = 1
    RIGHT = 2


class Holder:
    """Holds one thing."""

    def __init__(self, held: Any = None) -> None:
        self.held = held


class Car:
    made = 0

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def drive(self) -> float:
        self.speed += 1
        return self.speed


class Slotted:
    __slots__ = ("_Slotted__hidden", "__dict__", "first", "unset")

    def __init__(self) -> None:
        self.first, self.second, self.__hidden = [1], 2, 3

    def look(self) -> Any:
        return self.first, self.second, self.__hidden, hasattr(self, "unset")


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    cars: list[Any]


class Row(list):
    """A list that has a name."""


class Metres(float):
    """A number that has a name."""


class Grid(np.ndarray):
    """An array that has a name."""


class Locked:
    """Nobody may set an attribute of it."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def look(self) -> Any:
        return vars(self)


class Sly:
    """Nobody may look into it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Measured:
    """Counts how often its value was set."""

    def __init__(self) -> None:
        self.sets, self._value = 0, 0

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self._value, self.sets = value, self.sets + 1


class Crash(Exception):
    def __init__(self, where: str, cars: list[Any]) -> None:
        super().__init__(where)
        self.cars = cars


class Network(th.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = th.nn.Linear(2, 2)
        self.same = self.layer.weight
        with th.no_grad():
            self.layer.weight.fill_(0.5)
            self.layer.bias.fill_(0.1)


Point = collections.namedtuple("Point", "x car")


def counting(count: int) -> tuple[Callable[[], int], Callable[[], int]]:
    def step() -> int:
        nonlocal count
        count += 1
        return count

    return step, lambda: count


def remembers(item: Any, seen: list[Any] = []) -> int:  # noqa: B006
    seen.append(item)
    return len(seen)


def counted() -> int:
    counted.calls += 1  # type: ignore[attr-defined]
    return counted.calls  # type: ignore[attr-defined]


counted.calls = 0  # type: ignore[attr-defined]


def local_class() -> Any:
    class Local:
        def __init__(self) -> None:
            self.cars: list[Any] = []

    return Local()


GALLERY: list[Any] = []


def exhibit(cls: type) -> type:
    """A class that keeps some kinds of state: `change` comes before the state is taken, `look` after it."""
    GALLERY.append(cls)
    return cls


@exhibit
class Identity:
    """What was one object is one object again, whatever refers to it."""

    def __init__(self) -> None:
        a, b = Car(1.0), Car(2.0)
        a.other, b.other = b, a  # type: ignore[attr-defined]
        self.cars, self.main, self.by_name, self.by_car = [a, b], a, {"a": a}, {a: "a"}
        self.matrix = [[a]] * 2
        self.loop: list[Any] = []
        self.loop.append(self.loop)
        self.deep: Any = None
        for _ in range(3_000):
            self.deep = [self.deep]

    def change(self) -> None:
        self.main = self.cars[1]
        self.cars.append(Car(3.0))
        self.by_name["new"] = self.cars[2]
        self.matrix[0].append(self.main)

    def look(self) -> Any:
        self.main.speed += 1
        self.matrix[0].append(self.cars[0])
        depth, at = 0, self.deep
        while at is not None:
            depth, at = depth + 1, at[0]
        same = [self.matrix[0] is self.matrix[1], self.loop[0] is self.loop, self.by_name["new"] is self.cars[2]]
        return [car.speed for car in self.cars], self.by_car[self.cars[0]], same, depth, self.main.other.speed  # type: ignore[attr-defined]


@exhibit
class Outside:
    """Globals of the module, attributes of classes, what functions remember."""

    def change(self) -> None:
        global TICKS
        TICKS += 3
        POOL.append("b")
        Car.made += 2
        remembers(self)
        counted()

    def look(self) -> Any:
        global TICKS
        TICKS += 1
        Car.made += 1
        return TICKS, POOL, Car.made, remembers(1), counted()


@exhibit
class Names:
    """Attributes whose names others take for what is only drawn, and attributes that are gone."""

    def __init__(self) -> None:
        self.clock, self.viewer, self.screen, self.surf, self.metadata, self.spec = 0, 0, 0, 0, {"n": 0}, 0
        self.gone = 1

    def change(self) -> None:
        self.clock += 1
        self.viewer = self.screen = self.surf = self.spec = 5
        self.metadata["n"] = 7
        del self.gone

    def look(self) -> Any:
        self.clock += 1
        return self.clock, self.viewer, self.screen, self.surf, self.metadata, self.spec, hasattr(self, "gone")


@exhibit
class Callables:
    """Bound methods as the state of a state machine, closures that share a cell, functions with arguments."""

    def __init__(self) -> None:
        self.car = Car(1.0)
        self.phase: Callable[[], str] = self.red
        self.step, self.count = counting(10)
        self.part = functools.partial(self.add, 1, key=[self.car])
        self.take = [5, 6, 7].pop
        self.look_at: Callable[[], Any] = lambda: self.car.speed
        self.kind: type = Car
        self.module, self.function, self.builtin = re, remembers, abs

    def red(self) -> str:
        self.phase = self.green
        return "red"

    def green(self) -> str:
        self.phase = self.red
        return "green"

    def add(self, *items: Any, key: list[Any]) -> Any:
        key[0].speed += 1
        return items, key[0].speed

    def change(self) -> None:
        self.phase()
        self.step()
        self.take()
        factor = self.car
        self.late = lambda times=3: factor.speed * times
        self.kind = Slotted

    def look(self) -> Any:
        self.car.speed += 1
        same = self.module is re, self.function is remembers, self.builtin is abs
        found = self.phase(), self.step(), self.count(), self.part(2), self.look_at(), self.late()
        return found, same, self.kind.__name__, self.take() if self.count() < 13 else None


@exhibit
class Classes:
    """Slots, frozen dataclasses, properties, subclasses of what is built in, members of enumerations."""

    def __init__(self) -> None:
        car = Car(1.0)
        self.slotted, self.frozen, self.locked, self.measured = Slotted(), Frozen("x", [car]), Locked(), Measured()
        vars(self.locked)["v"] = car
        self.row, self.metres, self.point, self.crash = Row([car]), Metres(2.5), Point(1, car), Crash("here", [car])
        self.row.name = "north"  # type: ignore[attr-defined]
        self.metres.unit = "m"  # type: ignore[attr-defined]
        self.phase, self.sides, self.local, self.car = Phase.GREEN, Sides.LEFT | Sides.RIGHT, local_class(), car
        self.space = types.SimpleNamespace(car=car, n=1)

    def change(self) -> None:
        self.slotted.first.append(2)
        self.slotted.extra = self.car  # type: ignore[attr-defined]
        self.measured.value = 5
        self.phase = Phase.RED
        self.local.cars.append(self.car)
        self.other = type(self.local)()
        self.space.n = 4
        self.row.append(self.car)

    def look(self) -> Any:
        self.car.speed += 1
        held = [
            self.frozen.cars[0],
            self.row[-1],
            self.point.car,
            self.crash.cars[0],
            self.local.cars[0],
            self.space.car,
        ]
        same = [one is self.car for one in [*held, self.locked.look()["v"], self.slotted.extra]]  # type: ignore[attr-defined]
        named = self.row.name, self.metres.unit, self.metres + 1, self.point.x, str(self.crash)  # type: ignore[attr-defined]
        kinds = self.phase is Phase.RED, self.sides, type(self.other) is type(self.local), self.space.n
        return self.slotted.look(), same, named, kinds, self.measured.value, self.measured.sets


@exhibit
class Containers:
    """Every container, in the order in which it gives its elements."""

    def __init__(self) -> None:
        car = Car(1.0)
        self.car, self.set, self.frozen = car, {3, "x", (1, 2), "lane-4"}, frozenset({1, "y"})
        self.objects = {car}
        self.queue, self.ordered = collections.deque([1, 2], 3), collections.OrderedDict(z=1, a=car)
        self.default: Any = collections.defaultdict(list, x=[1])
        self.counter, self.bytes, self.numbers = collections.Counter("aab"), bytearray(b"abc"), array.array("d", [1, 2])
        self.plain = {"b": 1, "a": 2}
        self.keys, self.proxy = self.plain.keys(), types.MappingProxyType(self.plain)
        self.parts: Any = (car, [car], (1, (car,)))

    def change(self) -> None:
        self.set |= {"lane-1", "lane-2", "lane-3", 11, 27}
        self.set.discard("x")
        self.queue.append(self.car)
        self.ordered.move_to_end("z")
        self.default["y"].append(self.car)
        self.counter.update("bbb")
        self.bytes += b"d"
        self.plain["c"] = self.plain.pop("b")
        self.objects.add(Car(7.0))

    def look(self) -> Any:
        self.queue.append(9)
        self.plain["new"] = 5
        speeds = sorted(car.speed for car in self.objects)
        found = list(self.set), list(self.frozen), speeds, self.car in self.objects, self.counter.most_common()
        more = list(self.ordered), self.default["new"], list(self.default), self.bytes, self.numbers, list(self.keys)
        same = self.queue.maxlen, self.queue[0] is self.car, self.parts[1][0] is self.car, self.proxy["new"]
        return found, more, same, self.ordered["a"] is self.car


@exhibit
class Arrays:
    """Views of one memory, their order, and arrays of everything that numpy knows."""

    def __init__(self) -> None:
        self.base = np.arange(12.0).reshape(3, 4)
        self.row, self.column, self.back = self.base[1], self.base[:, 2], self.base[::-1, ::2]
        self.fortran, self.alone = np.asfortranarray(np.ones((2, 3))), np.arange(20)[::2]
        self.fixed = np.arange(3)
        self.fixed.flags.writeable = False
        self.objects = np.array([Car(1.0), None], object)
        self.records = np.zeros(2, [("x", "i4"), ("y", "f8", (2,))])
        self.texts, self.days = np.array(["a", "bc"]), np.array(["2020-01-01"], "M8[D]")
        self.grid = np.arange(4).view(Grid)
        self.grid.name = "south"  # type: ignore[attr-defined]
        self.empty, self.single, self.number = np.zeros((0, 3)), np.array(5), np.float32(0.1)

    def change(self) -> None:
        self.row[1] = -1
        self.records["y"][1] = 3
        self.first = self.base[0]
        self.objects[1] = self.objects[0]
        self.grid += 1
        self.single = self.base[2, 1:3]

    def look(self) -> Any:
        self.first[2] += 5
        self.back[0, 0] += 1
        flags = self.fortran.flags.f_contiguous, self.fixed.flags.writeable, type(self.grid).__name__
        plain = [
            a.tolist() for a in (self.base, self.row, self.column, self.back, self.alone, self.single, self.records)
        ]
        return plain, flags, self.grid.name, self.texts.tolist(), self.days.tolist(), self.objects[0] is self.objects[1]  # type: ignore[attr-defined]


@exhibit
class Generators:
    """Generators of every kind, two over one stream, and what they spawn."""

    def __init__(self) -> None:
        self.one = np.random.default_rng(3)
        self.same, self.draw, self.twin = self.one, self.one.random, np.random.Generator(self.one.bit_generator)
        self.others = [np.random.Generator(kind(5)) for kind in (np.random.MT19937, np.random.Philox, np.random.SFC64)]
        self.legacy, self.python, self.torch = np.random.RandomState(4), random.Random(5), th.Generator().manual_seed(6)
        self.seeds = np.random.SeedSequence(7)

    def change(self) -> None:
        self.one.integers(7, dtype=np.int32)
        self.children = self.one.spawn(2)
        self.seeds.spawn(3)
        self.python.gauss(0, 1)
        self.legacy.normal()
        th.rand(3, generator=self.torch)
        for other in self.others:
            other.random(3)
        self.late = random.Random(8)
        self.late.random()

    def look(self) -> Any:
        drawn = [self.one.integers(7, dtype=np.int32), self.draw(), self.twin.random(), self.children[1].random()]
        drawn += [other.random() for other in self.others] + [self.legacy.normal(), self.python.gauss(0, 1)]
        drawn += [th.rand(1, generator=self.torch).item(), self.late.random(), self.one.spawn(1)[0].random()]
        return [float(number) for number in drawn], self.same is self.one, self.seeds.spawn(1)[0].spawn_key


@exhibit
class Torch:
    """Tensors that share memory, a network with its optimizer, spaces."""

    def __init__(self) -> None:
        self.tensor = th.arange(6.0)
        self.view, self.network = self.tensor[2:4], Network()
        self.optimizer = th.optim.Adam(self.network.parameters(), 0.1)
        self.space = spaces.Dict({"a": spaces.Discrete(30, seed=1), "b": spaces.Box(0, 1, (2,), seed=2)})
        self.dtype, self.device = th.float32, th.device("cpu")

    def _learn(self) -> None:
        self.optimizer.zero_grad()
        self.network.layer(th.ones(2)).sum().backward()
        self.optimizer.step()

    def change(self) -> None:
        self.tensor[3] = 9
        self.space.sample()
        self._learn()

    def look(self) -> Any:
        self.view += 1
        self._learn()
        tied = self.network.same is self.network.layer.weight, self.dtype, str(self.device)
        return self.tensor.tolist(), self.network.layer.weight.tolist(), tied, str(self.space.sample())


@exhibit
class Weak:
    """References that hold nothing."""

    def __init__(self) -> None:
        self.car, self.other = Car(1.0), Car(2.0)
        self.alive, self.dead = weakref.ref(self.car), weakref.ref(Car(9.0))
        self.values, self.keys = weakref.WeakValueDictionary(x=self.car), weakref.WeakKeyDictionary({self.other: 1})
        self.set = weakref.WeakSet([self.car])

    def change(self) -> None:
        self.values["y"] = self.other
        self.set.add(self.other)
        self.alive = weakref.ref(self.other)

    def look(self) -> Any:
        self.other.speed += 1
        return self.alive().speed, self.dead(), sorted(self.values), self.keys[self.other], len(self.set)  # type: ignore[union-attr]


@exhibit
class Iterators:
    """Iterators in the middle of their way, and buffers."""

    def __init__(self) -> None:
        self.cars = [Car(1.0), Car(2.0), Car(3.0)]
        self.over, self.text = iter(self.cars), io.StringIO("one two")
        self.cycle, self.count, self.pairs = (
            itertools.cycle("abc"),
            itertools.count(4, 2),
            zip(range(6), "xyzuvw", strict=True),
        )
        self.numbered, self.back = enumerate(iter(self.cars)), reversed([1, 2, 3, 4, 5, 6])
        self.chain, self.mapped = itertools.chain([1, 2], [3, 4, 5, 6]), map(abs, [-1, -2, -3, -4, -5])

    def change(self) -> None:
        for one in (self.cycle, self.count, self.pairs, self.back, self.chain, self.mapped):
            next(one)  # type: ignore[call-overload]
        next(self.over)
        next(self.numbered)
        self.text.read(4)
        self.cars.append(Car(4.0))

    def look(self) -> Any:
        found = [next(one, None) for one in (self.cycle, self.count, self.pairs, self.back, self.chain, self.mapped)]  # type: ignore[call-overload]
        car, numbered = next(self.over, None), next(self.numbered, None)
        return found, car and car is self.cars[1], numbered and numbered[0], self.text.read(2)


@exhibit
class Values:
    """What never changes and has a class of its own."""

    def __init__(self) -> None:
        utc = datetime.UTC
        self.held: list[Any] = [
            None,
            True,
            7,
            1 << 9_000,
            float("nan"),
            -float("inf"),
            -0.0,
            1 + 2j,
            b"x\0",
            "é\ud800",
        ]
        self.held += [datetime.datetime(2020, 1, 2, 3, 4, 5, 6, utc), datetime.date(2020, 1, 2), datetime.time(1, 2)]
        self.held += [datetime.timedelta(1, 2), decimal.Decimal("1.10"), fractions.Fraction(1, 3), uuid.UUID(int=5)]
        self.held += [pathlib.Path("a/b"), re.compile("a+", re.I), range(3, 9, 2), slice(1, None), ..., np.dtype("f4")]
        self.log, self.lock, self.lock2 = logging.getLogger("gallery"), threading.Lock(), threading.RLock()
        self.queue: queue.Queue[Any] = queue.Queue()
        self.event = threading.Event()
        self.print_to = sys.stdout

    def change(self) -> None:
        self.held.reverse()
        self.queue.put(self.held)
        self.event.set()

    def look(self) -> Any:
        with self.lock, self.lock2:
            self.queue.put(5)
            first = self.queue.get()
        same = self.log is logging.getLogger("gallery"), self.print_to is sys.stdout
        big = self.held[-4] == 1 << 9_000
        return (
            repr([*self.held[:-4], *self.held[-3:]]),
            big,
            first is self.held,
            self.queue.qsize(),
            self.event.is_set(),
            same,
        )


def main(verb: str, file: str) -> None:
    """Take or put, and print what everything does twice."""
    import json

    from kernel.training import codec
    from kernel.training.state_graph.graph import StateGraph

    held = {cls.__name__: cls() for cls in GALLERY}
    graph = StateGraph(held, [__name__])
    if verb == "take":
        for state in held.values():
            state.change()
        taken = graph.take()
        pathlib.Path(file).write_bytes(codec.encode(taken))
    else:
        graph.put(codec.decode(pathlib.Path(file).read_bytes()))
        taken = graph.take()
    again = codec.encode(taken)
    looks = [{name: repr(state.look()) for name, state in held.items()} for _ in range(2)]
    after = codec.encode(graph.take())
    digests = [hashlib.sha256(data).hexdigest() for data in (again, after)]
    sys.stdout.write(json.dumps({"left": taken["left"], "looks": looks, "digests": digests}))


if __name__ == "__main__":
    import state_gallery  # under its name: classes are found by it

    state_gallery.main(*sys.argv[1:])
