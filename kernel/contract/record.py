"""Values of named fields that nobody changes, made without generating code.

A frozen dataclass compiles six methods for each class, and a command loads dozens of classes before it says a word:
here the methods are written once, and `dataclasses.fields`, `replace` and `asdict` take a record as any dataclass.

Standard library only.
"""

from __future__ import annotations

import dataclasses
from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Record:
    """Base of classes whose annotations are their fields, given in their order or by name; `kw_only`, by name alone.

    Raises
    ------
    TypeError
        A field without a default was not given, or one was that there is not.
    dataclasses.FrozenInstanceError
        Something was to be changed.
    """

    def __init_subclass__(cls, *, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)

    def __init__(self, *ordered: Any, **values: Any) -> None:
        if ordered:
            names = [one.name for one in _fields(self) if not one.kw_only]
            if len(ordered) > len(names) or values.keys() & set(names[: len(ordered)]):
                raise TypeError(f"{type(self).__name__} takes {', '.join(names)}, each once")
            values |= zip(names, ordered, strict=False)
        missing = []
        for one in _fields(self):
            if one.name in values:
                value = values.pop(one.name)
            elif one.default is not dataclasses.MISSING:
                value = one.default
            elif one.default_factory is not dataclasses.MISSING:
                value = one.default_factory()
            else:
                missing.append(one.name)
                continue
            object.__setattr__(self, one.name, value)
        if missing:
            raise TypeError(f"{type(self).__name__} lacks {', '.join(missing)}")
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """What a class does with the fields that it was given: `object.__setattr__` may still write them."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Record) and type(other) is type(self):
            return self._values() == other._values()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        told = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in _fields(self) if one.repr)
        return f"{type(self).__qualname__}({told})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, one.name) for one in _fields(self))


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)
