"""Classes and functions by name: what a checkpoint may name, and what it finds under it.

A name in a checkpoint is never imported. It is looked up in modules that are loaded, and only where that is harmless:

- a class, to make an object of it without calling anything: in the run's own modules, in the libraries that these
  import, and in a short list of the standard library's
- a class or function as a value, which the environment may call: in the run's own modules, among those that a freshly
  made environment refers to, and in the modules of plain mathematics
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kernel.training.state_graph.nodes import NotRestorable, module_of

KNOWN_LIBRARIES = frozenset(("arz_model", "gymnasium", "kernel", "numpy", "stable_baselines3", "torch"))
HARMLESS_MODULES = frozenset(("_operator", "math", "cmath", "numpy", "operator"))
HARMLESS_BUILTINS = frozenset(
    [
        "abs",
        "bool",
        "dict",
        "divmod",
        "float",
        "frozenset",
        "int",
        "len",
        "list",
        "max",
        "min",
        "pow",
        "repr",
        "round",
        "set",
        "sorted",
    ]
)
HARMLESS_BUILTINS |= frozenset(["str", "sum", "tuple"])
STANDARD_CLASSES = frozenset(
    (
        "argparse:Namespace",
        "collections:ChainMap",
        "collections:Counter",
        "collections:UserDict",
        "collections:UserList",
        "fractions:Fraction",
        "random:SystemRandom",
        "queue:LifoQueue",
        "queue:PriorityQueue",
        "queue:Queue",
        "sched:Event",
        "sched:scheduler",
        "statistics:NormalDist",
        "string:Template",
        "threading:BoundedSemaphore",
        "threading:Condition",
        "threading:Event",
        "threading:Semaphore",
        "uuid:UUID",
    )
)


@dataclass
class Lookup:
    """What names mean to one run."""

    own: frozenset[str] = frozenset()
    """Top-level modules of the run: their classes and globals are state too."""
    held: dict[str, Any] = field(default_factory=dict)
    """Classes and functions that a freshly made environment refers to, by name."""
    opaque: dict[str, Any] = field(default_factory=dict)
    """Objects whose state is none of the graph."""
    made: dict[int, Any] = field(default_factory=dict)
    """What the names of modules and classes were when the environments were made."""
    _names: dict[int, tuple[Any, str]] = field(default_factory=dict)
    _loaded: tuple[int, list[ModuleType]] = (-1, [])

    def name_of(self, value: Any) -> str:
        """`module:qualname` under which the very same object is found; empty where there is none."""
        known = self._names.get(id(value))
        if known is None:
            known = self._names[id(value)] = (value, _name_of(value))
        return known[1]

    def is_own(self, module_name: Any) -> bool:
        """Whether it is a module of the run, and none of a library."""
        return isinstance(module_name, str) and module_name.partition(".")[0] in self.own

    def own_modules(self) -> list[ModuleType]:
        """The run's own modules that are loaded, by name."""
        if self._loaded[0] != len(sys.modules):
            names = sorted(name for name in list(sys.modules) if self.is_own(name)) if self.own else []
            found = [sys.modules[name] for name in names if type(sys.modules[name]) is ModuleType]
            self._loaded = (len(sys.modules), found)
        return self._loaded[1]

    def class_of(self, name: str) -> type:
        """The class of that name, to make an object of it without calling anything.

        Raises
        ------
        NotRestorable
            There is none, or it is none of this run's.
        """
        found = self.held.get(name)
        if found is None:
            there = found_at(name)
            is_harmless = name in STANDARD_CLASSES or isinstance(there, enum.EnumType) or _is_exception(name, there)
            found = there if is_harmless or self._is_known(name) else None
        if not isinstance(found, type):
            raise NotRestorable(f"There is no class {name} among what this run loads.")
        return found

    def value_of(self, name: str) -> Any:
        """The class, function or module of that name, which the environment may call.

        Raises
        ------
        NotRestorable
            There is none, or it is none that a checkpoint may name.
        """
        found, module = self.held.get(name), name.partition(":")[0]
        if found is None and (self.is_own(module) or _is_harmless(name)):
            found = found_at(name)
        if found is None:
            raise NotRestorable(f"There is no {name} among what this run's environment refers to.")
        return found

    def code_of(self, name: str, like: str) -> tuple[CodeType, ModuleType]:
        """The code of a function inside another, and its module: `like` tells apart those of one name.

        Raises
        ------
        NotRestorable
            The run's own modules hold no such code.
        """
        module = sys.modules.get(name.partition(":")[0])
        if module is not None and self.is_own(module.__name__):
            for code in _codes_in(module):
                if code.co_qualname == name.partition(":")[2] and likeness(code) == like:
                    return code, module
        raise NotRestorable(f"There is no function {name} in the run's own modules.")

    def _is_known(self, name: str) -> bool:
        top = name.partition(":")[0].partition(".")[0]
        return top in self.own or top in KNOWN_LIBRARIES or top in self._imported()

    def _imported(self) -> set[str]:
        """Libraries whose modules, classes or functions the run's own modules name."""
        tops = {
            str(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")).partition(".")[0]
            for module in self.own_modules()
            for value in list(vars(module).values())
            if isinstance(value, (ModuleType, type, FunctionType))
        }
        return tops - set(sys.stdlib_module_names)


def likeness(code: CodeType) -> str:
    """What tells two functions of one name apart, and stays the same in another process."""
    return f"{code.co_firstlineno}:{len(code.co_code)}:{','.join(code.co_freevars)}"


def found_at(name: str) -> Any:
    """What `module:qualname` leads to in the loaded modules, without running any code; None where to nothing."""
    module_name, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module_name)
    if not qualname or found is None:
        return found
    for part in qualname.split("."):
        if not isinstance(found, (ModuleType, type)):
            return None
        found = next((vars(owner)[part] for owner in _owners(found) if part in vars(owner)), None)
    return found


def _owners(found: ModuleType | type) -> tuple[Any, ...]:
    return found.__mro__ if isinstance(found, type) else (found,)


def _name_of(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__ if sys.modules.get(value.__name__) is value else ""
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    name = f"{module}:{qualname}"
    return name if isinstance(qualname, str) and found_at(name) is value else ""


def _is_harmless(name: str) -> bool:
    module, _, qualname = name.partition(":")
    if module == "builtins":
        return qualname in HARMLESS_BUILTINS
    if module == "numpy":
        return type(found_at(name)).__name__ == "ufunc"
    return module in HARMLESS_MODULES


def _is_exception(name: str, found: Any) -> bool:
    return name.startswith("builtins:") and isinstance(found, type) and issubclass(found, BaseException)


def _codes_in(module: ModuleType) -> Iterator[CodeType]:
    """Every code object of a module's functions and classes, those inside others too."""
    waiting: list[Any] = list(vars(module).values())
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, CodeType):
            yield found
            waiting += [constant for constant in found.co_consts if isinstance(constant, CodeType)]
        elif isinstance(found, type) and module_of(found) == module.__name__:
            waiting += vars(found).values()
        elif isinstance(found, (staticmethod, classmethod)):
            waiting.append(found.__func__)
        elif isinstance(found, property):
            waiting += [found.fget, found.fset, found.fdel]
        elif isinstance(found, FunctionType) and found.__module__ == module.__name__:
            waiting += [found.__code__, getattr(found, "__wrapped__", None)]
