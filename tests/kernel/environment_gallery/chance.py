"""Chance from every generator."""

from __future__ import annotations

import random
import secrets
import uuid

import numpy as np
import torch as th
from gymnasium import spaces

from .exhibit import PROVED, Exhibit, shown


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
