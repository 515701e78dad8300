"""Iterators that are on their way, and what remembers what it was asked."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
from typing import Any

from .exhibit import PROVED, Exhibit, shown

ROADS = {"north": 3, "east": 1, "south": 4, "west": 1.5}


@shown("env.keys")
class DictIterating(Exhibit):
    """Goes through a dict, an item a step, and begins again at its end."""

    def begin(self) -> None:
        self.roads = dict(ROADS)
        self.keys, self.items = iter(self.roads), iter(self.roads.items())

    def tick(self, action: int) -> float:
        try:
            name, load = next(self.items)
            key = next(self.keys)
        except StopIteration:
            self.keys, self.items = iter(self.roads), iter(self.roads.items())
            return 5
        self.roads[name] = load + 1 + action
        return load + len(key)


@shown("env.going")
class SetIterating(Exhibit):
    def begin(self) -> None:
        self.numbers = {5, 17, 3, 80, 41}
        self.going = iter(self.numbers)

    def tick(self, action: int) -> float:
        try:
            return next(self.going) + action
        except StopIteration:
            self.going = iter(self.numbers)
            return 0.5


@shown(PROVED)
class Sharing(Exhibit):
    """Two that draw from one iterator."""

    def begin(self) -> None:
        self.source = iter(range(1, 10**6))
        self.pairs = zip(self.source, self.source, strict=False)
        self.odd = filter(None, map(float, self.source))

    def tick(self, action: int) -> float:
        a, b = next(self.pairs)
        return a + 2 * b + next(self.odd) + action


@shown(PROVED)
class Tee(Exhibit):
    """One iterator that is read twice, at two speeds."""

    def start(self) -> None:
        self.one, self.other = itertools.tee(itertools.count(1))

    def tick(self, action: int) -> float:
        if action:
            next(self.one)
        return next(self.one) + 2 * next(self.other)


@shown("env.")
class LongTee(Tee):
    """It goes on through episodes, and nobody can look into it."""

    def begin(self) -> None:
        super().start()

    def start(self) -> None:
        pass


@shown(PROVED)
class Grouped(Exhibit):
    def start(self) -> None:
        self.pairs = itertools.pairwise(itertools.cycle([1, 4, 9, 16]))
        self.until = iter(iter([5, 6, 7, 8] * 50).__next__, 99)

    def tick(self, action: int) -> float:
        a, b = next(self.pairs)
        return b - a + next(self.until) + action


@shown(PROVED)
class Comprehension(Exhibit):
    """A generator expression, new for each episode."""

    def start(self) -> None:
        loads = [self.np_random.random() for _ in range(3)]
        self.flow = (load * number for number in itertools.count() for load in loads)

    def tick(self, action: int) -> float:
        return next(self.flow) + action


@shown("")
class LongGenerator(Exhibit):
    """A generator that goes on through episodes."""

    def begin(self) -> None:
        def flow() -> Any:
            total = 0
            while True:
                total += 1 + (yield total)

        self.flow = flow()
        next(self.flow)

    def tick(self, action: int) -> float:
        return self.flow.send(action)


@functools.cache
def road(number: int) -> list[float]:
    """A register of roads: the cache keeps them."""
    return [float(number)]


@shown("")
class CacheAsRegister(Exhibit):
    """What is kept nowhere but in a cache changes."""

    def tick(self, action: int) -> float:
        road(action)[0] += 1.25
        return road(action)[0]


@functools.lru_cache(maxsize=64)
def slow(x: int) -> float:
    return (x * 37 % 11) / 3


@shown(PROVED)
class PureCache(Exhibit):
    """A cache that only saves time."""

    def tick(self, action: int) -> float:
        return slow(self.steps + 20 * action)


@shown(PROVED)
class OwnCache(Exhibit):
    """A value that is computed once for an object."""

    class Road:
        def __init__(self, number: int) -> None:
            self.number = number

        @functools.cached_property
        def length(self) -> list[int]:
            return [self.number]

    def begin(self) -> None:
        self.roads = [self.Road(1), self.Road(2)]

    def tick(self, action: int) -> float:
        self.roads[action].length[0] += 1
        return self.roads[0].length[0] * 2 + self.roads[1].length[0]


@shown(PROVED)
class Sorters(Exhibit):
    """Getters of the standard library, held and used."""

    def begin(self) -> None:
        self.by = operator.itemgetter(1)
        self.of = operator.attrgetter("real")
        self.ask = operator.methodcaller("count", 1)
        self.cars = [(0, 3.0), (1, 1.0), (2, 2.0)]

    def tick(self, action: int) -> float:
        number, x = min(self.cars, key=self.by)
        self.cars[number] = (number, x + 1.5 + action)
        return self.of(x) + self.ask([1, 1, number])


@shown(PROVED)
class Ties(Exhibit):
    """A heap whose order of equals is what came first."""

    def begin(self) -> None:
        self.counter = itertools.count()
        self.heap: list[Any] = [(0, next(self.counter), [2])]

    def tick(self, action: int) -> float:
        import heapq

        due, _, load = heapq.heappop(self.heap)
        load[0] = (load[0] * 3 + action) % 13
        heapq.heappush(self.heap, (due + 1, next(self.counter), load))
        heapq.heappush(self.heap, (due + 1 + action, next(self.counter), [load[0] + 1]))
        del self.heap[6:]
        return load[0]


@shown(PROVED)
class OrderedDict(Exhibit):
    """Least recently used first."""

    class Recent(collections.OrderedDict):
        def touch(self, key: Any) -> int:
            self.move_to_end(key)
            return next(iter(self.values()))

    def begin(self) -> None:
        self.recent = self.Recent(a=1, b=2, c=5)

    def tick(self, action: int) -> float:
        first = next(iter(self.recent))
        self.recent[first] += 1
        return self.recent.touch(first if action else "c")
