"""One memory under several names, across libraries."""

from __future__ import annotations

import array
import ctypes
import mmap
from typing import Any

import numpy as np
import torch as th

from .exhibit import PROVED, Exhibit, shown


@shown(PROVED)
class RowOfRecords(Exhibit):
    """A row of a table of records, which is a view of it."""

    def begin(self) -> None:
        self.cars = np.zeros(3, [("x", "f8"), ("lane", "i4")])
        self.leader = self.cars[1]

    def tick(self, action: int) -> float:
        self.leader["x"] += 0.75 + action
        return float(self.cars["x"].sum())


@shown(PROVED)
class ObjectView(Exhibit):
    """A part of an array of objects."""

    def begin(self) -> None:
        self.cells = np.array([[1], [2], [3], None], object)
        self.part = self.cells[1:3]

    def tick(self, action: int) -> float:
        self.part[0] = [self.cells[1][0] + 1 + action]
        return self.cells[1][0]


@shown(PROVED)
class TensorOfArray(Exhibit):
    """A tensor over the memory of an array."""

    def begin(self) -> None:
        self.cells = np.zeros(4)
        self.tensor = th.from_numpy(self.cells)

    def tick(self, action: int) -> float:
        self.tensor[2] += 1 + action
        return float(self.cells[2])


@shown(PROVED)
class ArrayOfTensor(Exhibit):
    """An array over the memory of a tensor."""

    def begin(self) -> None:
        self.tensor = th.zeros(4)
        self.cells = self.tensor.numpy()[1:]

    def tick(self, action: int) -> float:
        self.cells[1] += 1 + action
        return float(self.tensor[2])


@shown(PROVED)
class ArrayOfBytes(Exhibit):
    """Arrays over the memory of bytes and of an array of the standard library."""

    def begin(self) -> None:
        self.bytes, self.numbers = bytearray(8), array.array("d", [0.0, 1.0])
        self.cells = np.frombuffer(self.bytes, np.uint8)
        self.seen = np.asarray(self.numbers)

    def tick(self, action: int) -> float:
        self.cells[3] += 1 + action
        self.numbers[0] += 0.5
        return float(self.bytes[3] + self.seen[0])


@shown(PROVED)
class BigEndian(Exhibit):
    def begin(self) -> None:
        self.cells = np.zeros(3, ">f8")
        self.half = np.zeros(2, np.float16)
        self.long = np.zeros(2, np.longdouble)
        self.times = np.array(["2025-10-21"], "datetime64[s]")
        self.texts = np.array(["a", "bcd"])

    def tick(self, action: int) -> float:
        self.cells[1] += 1 + action
        self.half[0] += np.float16(0.5)
        self.long[1] += np.longdouble(1) / 3
        self.times += np.timedelta64(61, "s")
        self.texts[0] = "abc"[: 1 + (len(self.texts[0]) + action) % 3]
        seconds = int(self.times.astype("i8")[0]) % 60
        return float(self.cells[1] + self.half[0] + self.long[1]) + seconds + len(self.texts[0])


@shown(PROVED)
class Strided(Exhibit):
    """Views that run backwards, that are broadcast, and of other types."""

    def begin(self) -> None:
        self.cells = np.zeros((4, 5), order="F")
        self.back, self.corner = self.cells[::-1, ::2], self.cells[1:3, 1:3].T
        self.bits = self.cells.view(np.uint64)
        self.wide = np.broadcast_to(self.cells[:, 0], (3, 4))

    def tick(self, action: int) -> float:
        self.back[0, 1] += 1 + action
        self.corner[0, 1] += 0.5
        return float(self.cells.sum() + self.wide.sum()) + int(self.bits[3, 2] >> 52) % 3


@shown("env.map")
class Memmap(Exhibit):
    """An array that lies in a file."""

    def begin(self) -> None:
        self.map = np.memmap("gallery-map.bin", np.float64, "w+", shape=(4,))

    def tick(self, action: int) -> float:
        self.map[1] += 1 + action
        return float(self.map[1])


@shown("env.memory")
class OverMapping(Exhibit):
    """An array over a memory that another library owns."""

    def begin(self) -> None:
        self.memory = mmap.mmap(-1, 64)
        self.cells = np.frombuffer(self.memory, np.float64)

    def tick(self, action: int) -> float:
        self.cells[2] += 1 + action
        return float(np.frombuffer(self.memory, np.float64)[2])


@shown("env.")
class OverStructure(Exhibit):
    """An array over a buffer of a library in C."""

    def begin(self) -> None:
        self.buffer = (ctypes.c_double * 4)()
        self.cells = np.ctypeslib.as_array(self.buffer)

    def tick(self, action: int) -> float:
        self.buffer[1] += 1.5 + action
        return float(self.cells[1])


@shown(PROVED)
class Expanded(Exhibit):
    """Tensors over one storage, one of them with gaps."""

    def begin(self) -> None:
        self.cells = th.zeros(3, 4, dtype=th.float64)
        self.wide, self.column = self.cells[:1].expand(5, 4), self.cells[:, 2]
        self.bits = self.cells.view(th.int64)

    def tick(self, action: int) -> float:
        self.column[0] += 1 + action
        return float(self.wide.sum()) + int(self.bits[0, 2] >> 52) % 5


@shown(PROVED)
class Trained(Exhibit):
    """A network, its optimizer and schedule, with weights that are shared, and a generator of its own."""

    def begin(self) -> None:
        self.chance = th.Generator().manual_seed(3)
        self.one = th.nn.Linear(2, 2)
        self.other = th.nn.Linear(2, 2)
        self.other.weight = self.one.weight
        self.optimizer = th.optim.SGD(self.one.parameters(), lr=0.01, momentum=0.5)
        self.schedule = th.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.9)

    def tick(self, action: int) -> float:
        seen = th.rand(1, 2, generator=self.chance) + action
        loss = self.other(self.one(seen)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach()) * 9 + self.schedule.get_last_lr()[0]


@shown(PROVED)
class HalfPrecision(Exhibit):
    def begin(self) -> None:
        self.brain = th.zeros(3, dtype=th.bfloat16)
        self.flags = th.zeros(3, dtype=th.bool)
        self.wave = th.zeros(2, dtype=th.complex64)

    def tick(self, action: int) -> float:
        self.brain += 0.5 + action
        self.flags[self.steps % 3] ^= True
        self.wave *= 1j
        self.wave += 1
        return float(self.brain[1]) + int(self.flags.sum()) + float(self.wave[0].real)


@shown(PROVED)
class SubclassOfArray(Exhibit):
    """An array with a name, and one of its views."""

    class Named(np.ndarray):
        def __array_finalize__(self, of: Any) -> None:
            self.label = getattr(of, "label", 0)

    def begin(self) -> None:
        self.cells = np.zeros(4).view(self.Named)
        self.cells.label = 3
        self.part = self.cells[1:]
        self.records = np.rec.array([(1.0, 2)], dtype=[("x", "f8"), ("n", "i8")])

    def tick(self, action: int) -> float:
        self.cells.label += 1 + action
        self.part[0] += 0.5
        self.records.x += 1
        return float(self.cells[1]) + self.cells.label + self.part.label + float(self.records.x[0])
