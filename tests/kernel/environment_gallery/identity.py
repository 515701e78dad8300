"""What is one object under several names."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch as th

from .exhibit import PROVED, Exhibit, shown


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
