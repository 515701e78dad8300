"""State in what classes are made of: slots, descriptors, metaclasses, members of enumerations, definitions."""

from __future__ import annotations

import abc
import dataclasses
import enum
import math
import typing
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from .exhibit import PROVED, Exhibit, shown

T = TypeVar("T")


@shown(PROVED)
class InheritedSlots(Exhibit):
    class Base:
        __slots__ = ("__weakref__", "x")

    class Car(Base):
        __slots__ = ("__y", "lane")

        def __init__(self) -> None:
            self.x, self.__y, self.lane = 0, 0, [0]

        def go(self, action: int) -> int:
            self.x += 1
            self.__y += self.x + action
            self.lane[0] += 1
            return self.__y + self.lane[0]

    class Truck(Car):
        """It has a dict beside the slots."""

    def begin(self) -> None:
        self.car, self.truck = self.Car(), self.Truck()
        self.truck.load = 0

    def tick(self, action: int) -> float:
        self.truck.load += self.car.go(action)
        return self.truck.go(action) + self.truck.load


class Kept:
    """A descriptor that keeps the values of all objects itself."""

    def __init__(self) -> None:
        self.values: Any = weakref.WeakKeyDictionary()

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        return self if owner is None else self.values.get(owner, 0)

    def __set__(self, owner: Any, value: Any) -> None:
        self.values[owner] = value


class ByAddress(Kept):
    """A descriptor that keeps them by the address of the object."""

    def __init__(self) -> None:
        self.by_id: dict[int, Any] = {}

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        return self if owner is None else self.by_id.get(id(owner), 0)

    def __set__(self, owner: Any, value: Any) -> None:
        self.by_id[id(owner)] = value


@shown(PROVED)
class Descriptor(Exhibit):
    class Car:
        speed = Kept()

    def begin(self) -> None:
        self.car = self.Car()

    def tick(self, action: int) -> float:
        self.car.speed += 1 + action
        return self.car.speed


@shown("")
class AddressDescriptor(Exhibit):
    class Car:
        speed = ByAddress()

    def begin(self) -> None:
        self.car = self.Car()

    def tick(self, action: int) -> float:
        self.car.speed += 1 + action
        return self.car.speed


class Registering(type):
    """A metaclass that counts."""

    made: ClassVar[list[str]] = []
    calls = 0

    def __call__(cls, *args: Any) -> Any:
        Registering.calls += 1
        cls.made.append(cls.__name__)
        return super().__call__(*args)


@shown(PROVED)
class Metaclass(Exhibit):
    class Car(metaclass=Registering):
        pass

    def tick(self, action: int) -> float:
        for _ in range(1 + action):
            self.Car()
        return Registering.calls + len(Registering.made)


class Phase(enum.Enum):
    """Members that remember."""

    RED = 1
    GREEN = 2

    def __init__(self, number: int) -> None:
        self.seen = 0
        self.history: list[int] = []


@shown(PROVED)
class MemberState(Exhibit):
    def begin(self) -> None:
        self.phase = Phase.RED

    def tick(self, action: int) -> float:
        self.phase.seen += 1 + action
        self.phase.history.append(action)
        self.phase = Phase.GREEN if self.phase is Phase.RED else Phase.RED
        return self.phase.seen + sum(self.phase.history)


@shown(PROVED)
class UnheldMembers(Exhibit):
    """The same, of an enumeration that nothing but its module holds."""

    def tick(self, action: int) -> float:
        phase = Phase(1 + action)
        phase.seen += 1
        return Phase.RED.seen * 2 + Phase.GREEN.seen


class Mode(enum.IntFlag):
    SLOW = 1
    WET = 2
    DARK = 4


@shown(PROVED)
class Flags(Exhibit):
    def begin(self) -> None:
        self.mode = Mode(0)

    def tick(self, action: int) -> float:
        self.mode ^= Mode.WET if action else Mode.SLOW | Mode.DARK
        return self.mode * 0.7


BACKEND: Any = math.sin
LIBRARY: Any = math
__load__ = 0


@shown(PROVED)
class GlobalBuiltin(Exhibit):
    """A name of the module for one function of a library or the other."""

    def tick(self, action: int) -> float:
        global BACKEND
        if action:
            BACKEND = math.cos if BACKEND is math.sin else math.sin
        return BACKEND(self.steps) * 3


@shown(PROVED)
class GlobalModule(Exhibit):
    """A name of the module for one library or the other."""

    def tick(self, action: int) -> float:
        global LIBRARY
        import cmath

        if action:
            LIBRARY = cmath if LIBRARY is math else math
        return abs(LIBRARY.sqrt(self.steps)) + 2 * (LIBRARY is math)


@shown(PROVED)
class GlobalDunder(Exhibit):
    def tick(self, action: int) -> float:
        global __load__
        __load__ += 1 + action
        return __load__


class Road:
    def _slow(self) -> float:
        return 0.5

    def _fast(self) -> float:
        return 3.0

    flow: Callable[[Any], float] = _slow
    speed = property(_slow)
    turn = staticmethod(math.floor)


@shown(PROVED)
class SwappedProperty(Exhibit):
    """A class whose property is another one after a while."""

    def tick(self, action: int) -> float:
        if self.steps == 5:
            Road.speed = property(Road._slow if Road().speed > 1 else Road._fast)
        return Road().speed


@shown(PROVED)
class SwappedStatic(Exhibit):
    def tick(self, action: int) -> float:
        if self.steps == 5:
            Road.turn = staticmethod(math.ceil if Road.turn is math.floor else math.floor)
        return Road.turn(self.steps / 3)


def rule() -> float:
    return 1.0


def _other_rule() -> Callable[[], float]:
    def rule() -> float:
        return 4.0

    return rule


@shown(PROVED)
class Redefined(Exhibit):
    """A function of the module is replaced by another of its name."""

    def tick(self, action: int) -> float:
        global rule
        if action and self.steps % 4 == 1:
            rule = _other_rule()
        return rule() + self.steps


@shown(PROVED)
class NewAttributeOfClass(Exhibit):
    """A class gets names, and loses them."""

    class Car:
        pass

    def tick(self, action: int) -> float:
        if action:
            self.Car.load = getattr(self.Car, "load", 0) + 1
        elif self.steps % 5 == 0 and hasattr(self.Car, "load"):
            del self.Car.load
        return getattr(self.Car, "load", 0) * 1.5


@shown(PROVED)
class ChangedClass(Exhibit):
    """An object becomes one of another class."""

    class Red:
        def __init__(self) -> None:
            self.left = 2

    class Green(Red):
        pass

    def begin(self) -> None:
        self.light: Any = self.Red()

    def tick(self, action: int) -> float:
        self.light.left -= 1
        if self.light.left <= 0:
            self.light.left = 2 + action
            self.light.__class__ = self.Green if type(self.light) is self.Red else self.Red
        return self.light.left + 3 * isinstance(self.light, self.Green)


class Flow(abc.ABC, Generic[T]):
    """Abstract and generic."""

    def __init__(self, load: T) -> None:
        self.load = load

    @abc.abstractmethod
    def go(self) -> T: ...


@dataclasses.dataclass(slots=True)
class Lane:
    cars: list[int] = dataclasses.field(default_factory=list)
    open: dataclasses.InitVar[int] = 0

    def __post_init__(self, open: int) -> None:
        self.cars.append(open)


class Pair(typing.NamedTuple):
    a: int
    b: list[int]


class Doc(typing.TypedDict):
    n: int


@shown(PROVED)
class Typed(Exhibit):
    class Straight(Flow[int]):
        def go(self) -> int:
            self.load += 1
            return self.load

    def begin(self) -> None:
        self.flow, self.lane, self.pair = self.Straight(2), Lane(open=3), Pair(1, [2])
        self.doc: Doc = {"n": 1}
        self.kind = list[int]

    def tick(self, action: int) -> float:
        self.lane.cars.append(self.flow.go() % 5 + action)
        self.pair.b[0] += 1
        self.pair = self.pair._replace(a=self.pair.a + action)
        self.doc["n"] += 2
        return sum(self.lane.cars) + self.pair.a + self.pair.b[0] + self.doc["n"] + len(self.kind((1,)))


class Proxy:
    """Hands everything on, and counts."""

    def __init__(self, of: Any) -> None:
        object.__setattr__(self, "_of", of)
        object.__setattr__(self, "_asked", [0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        object.__getattribute__(self, "_asked")[0] += 1
        return getattr(object.__getattribute__(self, "_of"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_of"), name, value)


@shown(PROVED)
class Proxied(Exhibit):
    class Car:
        x = 0

    def begin(self) -> None:
        self.car = Proxy(self.Car())

    def tick(self, action: int) -> float:
        self.car.x = self.car.x + 1 + action
        return self.car.x + object.__getattribute__(self.car, "_asked")[0]


@shown(PROVED)
class Greedy(Exhibit):
    """Whatever it is asked for it has, and reading a property changes it."""

    class Eager:
        def __init__(self) -> None:
            self.__dict__["read"] = 0

        def __getattr__(self, name: str) -> Any:
            return lambda *args: 0

        @property
        def value(self) -> int:
            self.__dict__["read"] += 1
            return self.__dict__["read"]

    def begin(self) -> None:
        self.thing = self.Eager()

    def tick(self, action: int) -> float:
        return self.thing.value + (self.thing.value if action else 0)


@shown(PROVED)
class Hostile(Exhibit):
    """Objects that compare, hash and print badly."""

    class Thing:
        def __init__(self, x: int) -> None:
            self.x = x

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("do not compare me")

        def __bool__(self) -> bool:
            raise RuntimeError("I am neither")

        def __repr__(self) -> str:
            raise RuntimeError("do not print me")

        __hash__ = None  # type: ignore[assignment]

    def begin(self) -> None:
        self.things = [self.Thing(1), self.Thing(2)]

    def tick(self, action: int) -> float:
        self.things[action].x += 1
        return self.things[0].x * 2 + self.things[1].x


@shown(PROVED)
class HashedByState(Exhibit):
    """Keys whose hash is their content, in a dict and a set."""

    class Place:
        def __init__(self, x: int) -> None:
            self.x = x

        def __eq__(self, other: object) -> bool:
            return self.x == getattr(other, "x", None)

        def __hash__(self) -> int:
            return hash(self.x)

    def begin(self) -> None:
        self.load: dict[Any, int] = {}
        self.visited: set[Any] = set()

    def tick(self, action: int) -> float:
        place = self.Place(self.steps % 4 + 5 * action)
        self.load[place] = self.load.get(place, 0) + 1
        self.visited.add(place)
        return self.load[place] + len(self.visited)
