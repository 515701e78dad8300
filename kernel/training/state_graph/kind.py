"""What a kind of object must say of itself to be taken and put back, and the two sides that its functions are given."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MemberDescriptorType
from typing import Any, Protocol

from kernel.training.state_graph.lookup import Lookup
from kernel.training.state_graph.nodes import Attributes, Node, NotRestorable


class CannotTake(ValueError):
    """Raised for an object whose state cannot be read; the message says why."""


class Taking(Protocol):
    """The side that takes."""

    lookup: Lookup

    def refer(self, value: Any, label: Any) -> Any:
        """`value` itself if it is immediate, else a reference to its node; `label` leads there from the object."""

    def rank(self, value: Any) -> Any:
        """Where `value` stands in an order that is the same in every process."""

    def weakly(self, entries: list[tuple[Any, list[Any]]]) -> None:
        """The present object holds others without keeping them alive; its items are those that something else keeps.

        Each entry is what must be alive for it, and the items that it is then.
        """

    def later(self, array: Any) -> Node:
        """The node of an array or tensor, made when all that share its memory are known."""


class Putting(Protocol):
    """The side that puts back."""

    lookup: Lookup

    def get(self, held: Any) -> Any:
        """What an entry of a node stands for: itself, or the object that its reference leads to."""

    def live(self, held: Any) -> Any:
        """The object that was there before, where an entry of a node leads; None where there was none."""


def nothing(*_: Any) -> None:
    """What a kind without content is filled with."""


@dataclass(frozen=True)
class Kind:
    """How objects of some types are taken and put back."""

    name: str
    take: Callable[[Any, Taking], Node]
    make: Callable[[Node, Putting], Any]
    """A new one: empty where it is filled later, else whole."""
    fill: Callable[[Any, Node, Putting], None] = nothing
    """Give it what its node holds."""
    fits: Callable[[Any, Node], bool] | None = None
    """Whether a live object of the class may be filled in place of a new one; None where none ever is."""
    parts: Callable[[Any, Node], Sequence[Any]] = lambda live, node: ()
    """The live objects that stand where the node's items do; None, or an end before theirs, where there is none."""
    types: tuple[type, ...] = ()
    """Those whose instances are of it, their subclasses included."""
    base: type = object
    """What its classes hold, names apart."""
    is_whole_at_once: bool = False
    """Whether what it holds must be there when it is made."""
    turn: int = 0
    """When it is filled: objects first, then what finds them by their hash, then what runs over these."""


@dataclass(frozen=True)
class Layout:
    """Where instances of a class keep what they refer to by name."""

    has_dict: bool
    slots: tuple[tuple[str, Any], ...]
    is_fixed: Callable[[str], bool] = lambda name: False
    """Whether a name is what the class makes of its instances, and none of their state."""

    def take(self, value: Any, walk: Taking) -> Attributes:
        """Everything that `value` refers to by name; None where there is nothing."""
        refer = walk.refer
        found = {name: refer(held, name) for name, held in self._names(value).items()}
        for name, slot in self.slots:
            try:
                found[name] = refer(slot.__get__(value), name)
            except AttributeError:
                continue  # a slot that holds nothing
        return found or None

    def live(self, value: Any) -> dict[str, Any]:
        """The live objects under their names."""
        found = self._names(value)
        for name, slot in self.slots:
            try:
                found[name] = slot.__get__(value)
            except AttributeError:
                continue
        return found

    def fill(self, value: Any, attributes: dict[str, Any]) -> None:
        """Let `value` refer to `attributes` by name, and to nothing else; no code of its class is run."""
        slots = dict(self.slots)
        if not self.has_dict and (strange := next((name for name in attributes if name not in slots), None)):
            raise NotRestorable(f"{type(value).__qualname__} has no place for {strange!r}.")
        for name, slot in slots.items():
            if name in attributes:
                slot.__set__(value, attributes[name])
            elif name in self.live(value):
                slot.__delete__(value)
        if self.has_dict:
            names = value.__dict__
            for name in self._names(value):
                del names[name]
            names.update(
                {name: held for name, held in attributes.items() if not (name in slots or self.is_fixed(name))}
            )

    def _names(self, value: Any) -> dict[str, Any]:
        if not self.has_dict:
            return {}
        return {name: held for name, held in value.__dict__.items() if not self.is_fixed(name)}


def layout_of(cls: type, base: type) -> Layout | None:
    """Where instances of `cls` keep their names besides what `base` holds; None where they hold what Python cannot see.

    A class that was written in another language may hold state outside of names: its instances are then larger than
    names, weak references and slots need. Members of an enumeration are what their class says, and what they were
    given besides.
    """
    if base is enum.Enum:
        return Layout(True, (), lambda name: name.startswith("_") and name.endswith("_"))
    own = cls.__mro__[: cls.__mro__.index(base)]
    slots = tuple(
        (name, slot)
        for owner in reversed(own)
        for name, slot in vars(owner).items()
        if isinstance(slot, MemberDescriptorType)
    )
    needed = base.__basicsize__ + 8 * len(slots)
    for at in ("__dictoffset__", "__weakrefoffset__"):
        needed += 8 if getattr(cls, at) > 0 and not getattr(base, at) else 0
    if cls.__basicsize__ > needed or cls.__itemsize__ != base.__itemsize__:
        return None
    return Layout(bool(cls.__dictoffset__), slots)
