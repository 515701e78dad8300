"""State that a library in another language holds."""

from __future__ import annotations

import collections
import ctypes
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numba
import numpy as np
import torch as th
from numba.experimental import jitclass

from .exhibit import PROVED, Exhibit, shown


@jitclass([("load", numba.float64), ("cells", numba.float64[:])])
class Compiled:
    def __init__(self) -> None:
        self.load = 0.0
        self.cells = np.zeros(3)

    def go(self, much: float) -> float:
        self.load += much
        self.cells[1] += self.load
        return self.cells[1]


@shown("env.road")
class CompiledClass(Exhibit):
    def begin(self) -> None:
        self.road = Compiled()

    def tick(self, action: int) -> float:
        return self.road.go(0.5 + action)


@shown(PROVED)
class CompiledEachEpisode(Exhibit):
    def start(self) -> None:
        self.road = Compiled()

    def tick(self, action: int) -> float:
        return self.road.go(0.5 + action)


@numba.njit
def _moved(cells: Any, much: float) -> float:
    cells[0] += much
    return cells[0]


@shown(PROVED)
class CompiledFunction(Exhibit):
    """A compiled function as an attribute, over arrays that Python holds."""

    def begin(self) -> None:
        self.cells, self.move = np.zeros(2), _moved

    def tick(self, action: int) -> float:
        return self.move(self.cells, 0.25 + action)


@numba.njit
def _drawn() -> float:
    return np.random.random()


@shown("")
class CompiledChance(Exhibit):
    """The generator of compiled code, which nobody else can see."""

    def tick(self, action: int) -> float:
        return _drawn() * 5 + action


@shown("env.counts")
class CompiledDict(Exhibit):
    def begin(self) -> None:
        self.counts = numba.typed.Dict.empty(numba.int64, numba.float64)

    def tick(self, action: int) -> float:
        self.counts[action] = self.counts.get(action, 0.0) + 1.5
        return self.counts[action]


@shown(PROVED)
class Tree(Exhibit):
    """A tree of a parser, new for each episode."""

    def start(self) -> None:
        self.tree = ElementTree.fromstring("<net><road load='0'/><road load='3'/></net>")

    def tick(self, action: int) -> float:
        road = self.tree[action]
        road.set("load", str(int(road.get("load", "0")) + 1))
        return sum(int(road.get("load", "0")) * place for place, road in enumerate(self.tree, 1))


@shown(PROVED)
class Matched(Exhibit):
    """A match that is held from one step to the next."""

    def begin(self) -> None:
        self.text = "ab12cd345ef6" * 9
        self.match = re.search(r"\d+", self.text)

    def start(self) -> None:
        self.match = re.search(r"\d+", self.text)

    def tick(self, action: int) -> float:
        found = re.compile(r"\d+").search(self.text, self.match.end()) if self.match else None
        self.match = found or re.search(r"\d+", self.text)
        return int(self.match.group()) + action


@shown("")
class LibraryChance(Exhibit):
    """rand() of the C library."""

    def begin(self) -> None:
        self.c = ctypes.CDLL(None)

    def tick(self, action: int) -> float:
        return self.c.rand() % 100 / 9


@shown(PROVED)
class Scripted(Exhibit):
    """A model of torch with buffers, hooks and a queue of tensors."""

    def begin(self) -> None:
        self.net = th.nn.GRUCell(2, 3)
        self.hidden = th.zeros(1, 3)
        self.past: Any = collections.deque([th.zeros(2)], maxlen=3)
        self.calls = [0]
        self.net.register_forward_hook(self._called)

    def _called(self, *_: Any) -> None:
        self.calls[0] += 1

    def tick(self, action: int) -> float:
        self.past.append(th.tensor([float(action), self.steps / 11]))
        with th.no_grad():
            self.hidden = self.net(sum(self.past)[None], self.hidden)
        return float(self.hidden.sum()) * 5 + self.calls[0]


@shown(PROVED)
class OwnChance(Exhibit):
    """Generators with memory of their own."""

    class Counted(random.Random):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self.calls = 0

        def random(self) -> float:
            self.calls += 1
            return super().random()

    def begin(self) -> None:
        self.chance = self.Counted(4)
        self.drawing = self.chance.random
        self.choose = np.random.default_rng(4).choice

    def tick(self, action: int) -> float:
        return self.drawing() + self.chance.gauss(0, 1) + self.chance.calls + float(self.choose(9)) + action


@shown(PROVED)
class Decoder(Exhibit):
    """Encoders and decoders of the standard library, held."""

    def begin(self) -> None:
        self.decoder, self.encoder = json.JSONDecoder(), json.JSONEncoder()
        self.text = self.encoder.encode({"n": 0})

    def tick(self, action: int) -> float:
        doc = self.decoder.decode(self.text)
        doc["n"] += 1 + action
        self.text = self.encoder.encode(doc)
        return doc["n"]


@shown(PROVED)
class NumpyPolynomial(Exhibit):
    """Objects of numpy that are no arrays."""

    def begin(self) -> None:
        self.line = np.polynomial.Polynomial([1.0, 2.0])
        self.places = np.ndindex(3, 3)
        self.vector = np.vectorize(abs)

    def start(self) -> None:
        self.places = np.ndindex(4, 4)

    def tick(self, action: int) -> float:
        self.line = self.line * 0.9 + 0.1 * action
        row, column = next(self.places)
        return float(self.line(1.5)) + row * 4 + column + float(self.vector(-action))
