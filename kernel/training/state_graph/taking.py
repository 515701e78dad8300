"""Take the state of an object graph: walk it once, copying as it goes."""

from __future__ import annotations

import datetime
import enum
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from kernel.training import codec
from kernel.training.codec import Reference
from kernel.training.state_graph import callables, containers, generators, memory, streams, values
from kernel.training.state_graph.kind import CannotTake, Kind, Layout, Putting, Taking, layout_of
from kernel.training.state_graph.lookup import Lookup
from kernel.training.state_graph.memory import SharedMemory
from kernel.training.state_graph.nodes import IMMEDIATE, LEFT, Node, is_immediate, module_of
from kernel.training.state_graph.owners import Globals

OBJECT, GLOBALS, OPAQUE = "object", "globals", "opaque"
_BY_VALUE = (np.dtype, re.Pattern, datetime.timezone, zoneinfo.ZoneInfo)
"""Of those that are equal their makers give one object, or another: which one is no state."""


@dataclass
class Way:
    """How instances of one class are taken."""

    kind: Kind
    layout: Layout | None
    of: str


@dataclass
class Walk:
    """One walk over a graph, from its roots to its ends."""

    lookup: Lookup
    ways: dict[type, Way | str] = field(default_factory=dict)
    """How the classes that were met before are taken, or why they are not; kept from walk to walk."""
    nodes: list[Node] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    origins: list[tuple[int, Any]] = field(default_factory=list)
    left: list[tuple[int, str]] = field(default_factory=list)
    _indices: dict[int, int] = field(default_factory=dict)
    _memory: SharedMemory = field(default_factory=SharedMemory)
    _weak: dict[int, list[tuple[Any, list[Any]]]] = field(default_factory=dict)
    _values: dict[tuple[type, Any], Any] = field(default_factory=dict)
    _at: int = -1

    def refer(self, value: Any, label: Any) -> Any:
        """`value` itself if it is immediate, else a reference to its node."""
        if type(value) in IMMEDIATE or (is_immediate(value) and codec.holds(value.dtype)):
            return value
        if issubclass(type(value), _BY_VALUE):
            value = self._values.setdefault((type(value), value), value)
        index = self._indices.get(id(value))
        if index is None:
            index = self._indices[id(value)] = len(self.objects)
            self.objects.append(value)
            self.origins.append((self._at, label))
        return Reference(index)

    def rank(self, value: Any) -> Any:
        """Where `value` stands in an order that is the same in every process."""
        index = self._indices.get(id(value))
        names = getattr(value, "__dict__", {})
        plain = repr([(name, held) for name, held in names.items() if type(held) in IMMEDIATE])
        shown = repr(value) if type(value) in IMMEDIATE or isinstance(value, enum.Enum) else ""
        return (index is None, index or 0, type(value).__qualname__, shown, plain)

    def later(self, array: Any) -> Node:
        """The node of an array or tensor, completed when all that share its memory are known."""
        self._memory.add(self._at, array)
        return Node(memory.TENSOR if not isinstance(array, np.ndarray) else memory.ARRAY, "", None, None, None)

    def weakly(self, entries: list[tuple[Any, list[Any]]]) -> None:
        """The present object keeps none of `entries` alive."""
        self._weak[self._at] = entries

    def take(self, roots: Mapping[str, Any], with_globals: bool = True) -> dict[str, Any]:
        """The graph of `roots`, and of what the run's own modules and classes name, as a tree that the codec holds."""
        found = {name: self.refer(root, name) for name, root in roots.items()}
        self._walk()
        if with_globals:
            for owner in self.owners():
                self._at = -1
                found[owner.name] = self.refer(owner, owner.name)
                self._walk()
        self._take_weak()
        self._memory.finish(self.nodes)
        left = [[self.path(index), why] for index, why in self.left if self._root(index) in roots]
        return {"roots": found, "nodes": list(map(list, self.nodes)), "left": left}

    def _take_weak(self) -> None:
        """Give what holds others weakly those of them that something else holds, too.

        The rest is garbage that was not collected yet: in another process it would be gone at once.
        """
        taken: dict[int, dict[int, list[Any]]] = {}
        grew = True
        while grew:
            grew = False
            for index, entries in list(self._weak.items()):
                held = taken.setdefault(index, {})
                for number, (needed, parts) in enumerate(entries):
                    if number not in held and self._is_held(needed):
                        grew, self._at = True, index
                        held[number] = [self.refer(part, None) for part in parts]
                        self._walk()
        for index, held in taken.items():
            items = [part for _, parts in sorted(held.items()) for part in parts]
            self.nodes[index] = self.nodes[index]._replace(items=items)

    def _is_held(self, value: Any) -> bool:
        if isinstance(value, (type, ModuleType, FunctionType)) and self.lookup.name_of(value):
            return True
        return type(value) in IMMEDIATE or id(value) in self._indices

    def _root(self, index: int) -> Any:
        """The name of the root from which a node was reached."""
        label = None
        while index >= 0:
            index, label = self.origins[index]
        return label

    def path(self, index: int) -> str:
        """Where the object of a node lies, in words: env.sim.socket."""
        words: list[str] = []
        while index >= 0:
            index, label = self.origins[index]
            if index < 0:
                words.append(str(label))
            elif isinstance(label, str) and label in (self.nodes[index].attributes or {}):
                words.append(f".{label}")
            elif label is None:
                words.append("[a key]")
            else:
                words.append(f"[{label!r}]" if type(label) in IMMEDIATE else "[…]")
        return "".join(reversed(words))

    def _walk(self) -> None:
        while len(self.nodes) < len(self.objects):
            self._at = len(self.nodes)
            value = self.objects[self._at]
            try:
                node = self._looked_into(value)
            except CannotTake as error:
                node = self._leave(value, str(error))
            self.nodes.append(node)

    def _leave(self, value: Any, why: str) -> Node:
        self.left.append((self._at, why))
        return Node(LEFT, "", f"{module_of(type(value))}.{type(value).__qualname__}", None, None)

    def _looked_into(self, value: Any) -> Node:
        try:
            return self._node(value)
        except CannotTake:
            raise
        except Exception as error:  # whatever a class does of its own accord
            raise CannotTake(f"cannot be looked into ({type(error).__name__}: {error})") from error

    def _node(self, value: Any) -> Node:
        cls = type(value)
        for name, opaque in self.lookup.opaque.items():
            if value is opaque:
                return Node(OPAQUE, "", name, None, None)
        way = self.ways.get(cls)
        if way is None:
            way = self.ways[cls] = self._way(cls)
        if isinstance(way, str):
            if name := self.lookup.name_of(value):
                return Node("named", "", name, None, None)
            raise CannotTake(way)
        node = way.kind.take(value, self)
        if way.layout is not None and (names := way.layout.take(value, self)):
            node = node._replace(attributes={**(node.attributes or {}), **names})
        return node._replace(of=way.of) if way.of else node

    def _way(self, cls: type) -> Way | str:
        if cls is Globals:
            return Way(GLOBALS_KIND, None, "")
        kind = kind_of(cls)
        if cls in kind.types or (kind.base is object and kind is not OBJECT_KIND):
            return Way(kind, None, "")
        layout = layout_of(cls, kind.base)
        if layout is None:
            return _why_not(cls)
        name = f"{module_of(cls)}:{cls.__qualname__}"
        try:
            if self.lookup.class_of(name) is not cls:
                return f"is of a class {name} that the name does not lead to"
        except ValueError as error:
            return f"is of a class that a checkpoint may not name: {error}"
        return Way(kind, layout, name)

    def owners(self) -> list[Globals]:
        """The run's own modules and classes."""
        modules = self.lookup.own_modules()
        classes = {
            cls: None
            for module in modules
            for value in list(vars(module).values())
            for cls in _classes(value, module.__name__)
        }
        classes |= {cls: None for cls in self.ways if self.lookup.is_own(module_of(cls))}
        owners: dict[str, Globals] = {}
        every: list[ModuleType | type] = [*modules, *classes]
        for owner in every:
            found = Globals(owner, self.lookup.made)
            owners.setdefault(found.name, found)  # objects of another class of that name are left out, and said
        return list(owners.values())


def _classes(value: Any, module: str) -> list[type]:
    """`value` if it is a class that `module` defines, and the classes that it defines inside."""
    if not isinstance(value, type) or module_of(value) != module:
        return []
    return [value, *(inner for held in vars(value).values() for inner in _classes(held, module) if inner is not value)]


def _why_not(cls: type) -> str:
    name = f"{module_of(cls)}.{cls.__qualname__}"
    if cls in (GeneratorType, CoroutineType, AsyncGeneratorType):
        return "is a generator that is half run"
    return f"is a {name}, whose state Python cannot see"


def _take_globals(value: Globals, walk: Taking) -> Node:
    named = {name: walk.refer(held, name) for name, held in value.changed().items()}
    return Node(GLOBALS, "", value.name, value.gone(), named)


def _fill_globals(live: Globals, node: Node, put: Putting) -> None:
    live.fill({name: put.get(held) for name, held in (node.attributes or {}).items()}, node.items or [])


def kind_of(cls: type) -> Kind:
    """The kind whose instances are of `cls`."""
    for base in (enum.Enum,) if issubclass(cls, enum.Enum) else cls.__mro__:
        if (found := BY_TYPE.get(base)) is not None:
            return found
    return OBJECT_KIND


OBJECT_KIND = Kind(
    OBJECT,
    lambda value, walk: Node(OBJECT, "", None, None, None),
    lambda node, put: object.__new__(put.lookup.class_of(node.of)),
    fits=lambda live, node: True,
)
GLOBALS_KIND = Kind(
    GLOBALS,
    _take_globals,
    lambda node, put: None,
    _fill_globals,
    fits=lambda live, node: live.name == node.value,
)
OPAQUE_KIND = Kind(
    OPAQUE, lambda value, walk: Node(OPAQUE, "", "", None, None), lambda node, put: put.lookup.opaque[node.value]
)
_ALL = tuple(kind for part in (values, generators, streams, callables, containers, memory) for kind in part.KINDS)
BY_TYPE: dict[type, Kind] = {}
for _kind in _ALL:
    for _type in _kind.types:
        BY_TYPE.setdefault(_type, _kind)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in (*_ALL, OBJECT_KIND, GLOBALS_KIND, OPAQUE_KIND)}
