"""State in what can be called."""

from __future__ import annotations

import functools
import types
from typing import Any

from .exhibit import PROVED, Exhibit, shown


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
