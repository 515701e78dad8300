"""State in classes, modules and globals."""

from __future__ import annotations

import contextvars
import threading
from typing import Any, ClassVar

import numpy as np

from .exhibit import PROVED, Exhibit, shown

COUNT = 0
TABLE: dict[str, float] = {}
SHARED = np.zeros(3)
KINDS: dict[Any, Any] = {int: {int}, None: {type(None)}, "code": {(lambda: 0).__code__.__class__}}
LOCAL = threading.local()
CONTEXT: contextvars.ContextVar[int] = contextvars.ContextVar("context", default=0)


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
class GlobalTable(Exhibit):
    """A module has a table of what nobody can name, beside the state."""

    def tick(self, action: int) -> float:
        KINDS["load"] = {action, self.steps}
        return len(KINDS["load"]) + sum(KINDS["load"])


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
