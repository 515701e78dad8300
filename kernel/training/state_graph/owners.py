"""Modules and classes of the run's own: which of their names are state."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from kernel.training.state_graph import callables
from kernel.training.state_graph.nodes import is_immediate

_DEFINITIONS = (
    *(ModuleType, type, BuiltinFunctionType, property, staticmethod, classmethod),
    *(GetSetDescriptorType, MemberDescriptorType),
)
_OF_PYTHON = frozenset((*vars(ModuleType("")), *vars(type("", (), {})), "__builtins__", "__cached__", "__file__"))
_OF_PYTHON |= frozenset(("__abstractmethods__", "__annotations__", "__dataclass_fields__", "__dataclass_params__"))
_OF_PYTHON |= frozenset(("__match_args__", "__orig_bases__", "__parameters__", "__path__", "__slots__", "__set_name__"))
_OF_PYTHON |= frozenset(("__warningregistry__", "_abc_impl", "__protocol_attrs__", "__classcell__"))
"""Names by which Python itself keeps what it made of a definition."""


@dataclass(frozen=True)
class Made:
    """What the names of an owner were when it was first seen."""

    owner: Any
    """Kept, so that its address stays its own."""
    names: frozenset[str]
    fixed: dict[str, Any]
    """Values and definitions that have not changed since."""


Table = dict[int, Made]
"""By the address of the owner."""


@dataclass(frozen=True)
class Globals:
    """The names of a module or class of the run's own.

    The number of a process, a port or the name of a temporary folder belong to the process that found them: a value
    that stays what it was when the environments were made is no state, and so is a definition. What is given a name
    later is.
    """

    owner: ModuleType | type
    table: Table
    """What all owners were when the environments were made."""

    @property
    def name(self) -> str:
        """`module` or `module:qualname`."""
        owner = self.owner
        return owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__}:{owner.__qualname__}"

    @property
    def module(self) -> str:
        """The module that defines it."""
        return self.owner.__name__ if isinstance(self.owner, ModuleType) else self.owner.__module__

    def data(self) -> dict[str, Any]:
        """All names but Python's own; of an enumeration its members, which may have been given names."""
        if isinstance(self.owner, enum.EnumType):
            return dict(self.owner.__members__)
        return {name: value for name, value in vars(self.owner).items() if name not in _OF_PYTHON}

    def made(self) -> Made:
        """What it was when it was first seen."""
        found = self.table.get(id(self.owner))
        if found is None:
            values = self.data()
            fixed = {name: value for name, value in values.items() if self._may_be_fixed(value)}
            found = self.table[id(self.owner)] = Made(self.owner, frozenset(values), fixed)
        return found

    def changed(self) -> dict[str, Any]:
        """The names that may be state, with their values."""
        values, fixed = self.data(), self.made().fixed
        for name, value in list(fixed.items()):
            if name not in values or not _is_same(value, values[name]) or not self._may_be_fixed(value):
                del fixed[name]
        return {name: value for name, value in values.items() if name not in fixed}

    def gone(self) -> list[str] | None:
        """Names that it had and has no more."""
        return sorted(self.made().names - set(self.data())) or None

    def fill(self, values: Mapping[str, Any], gone: Iterable[str]) -> None:
        """Give the names these values, as far as the owner takes them, and take from it what it had not."""
        made, now = self.made(), self.data()
        if isinstance(self.owner, enum.EnumType):
            return
        for name, value in values.items():
            made.fixed.pop(name, None)
            with contextlib.suppress(AttributeError, TypeError):
                setattr(self.owner, name, value)
        came = [name for name in now if name not in made.names and name not in values]
        for name in (*gone, *(name for name in came if not self._is_definition(now[name]))):
            with contextlib.suppress(AttributeError, TypeError):
                delattr(self.owner, name)

    def _may_be_fixed(self, value: Any) -> bool:
        return is_immediate(value) or self._is_definition(value)

    def _is_definition(self, value: Any) -> bool:
        if isinstance(value, FunctionType):
            return value.__module__ != self.module or not callables.has_state(value)
        if isinstance(value, (staticmethod, classmethod)):
            return self._is_definition(value.__func__)
        return isinstance(value, _DEFINITIONS)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (is_immediate(one) and type(one) is type(other) and bool(one == other))
