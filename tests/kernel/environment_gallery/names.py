"""Names that somebody may skip, and attributes that are none."""

from __future__ import annotations

from typing import Any

from .exhibit import PROVED, Exhibit, shown


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
