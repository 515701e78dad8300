"""Mappings and lists that nothing can change, all the way down; a deep copy of them is ordinary, to be given away.

    frozen({"net_arch": [64, 64]})["net_arch"].append(8)      raises TypeError
    copy.deepcopy(frozen({"net_arch": [64, 64]}))             {"net_arch": [64, 64]}, the receiver's own

They are dicts and lists all the same, so that JSON, comparisons and `dataclasses.asdict` take them as such.

Standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NoReturn


def frozen(value: Any) -> Any:
    """`value` with every mapping and list in it frozen, and copies of all else."""
    if isinstance(value, Mapping):
        return FrozenDict((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return FrozenList(frozen(item) for item in value)
    if type(value) is tuple:
        return tuple(frozen(item) for item in value)
    return copy.deepcopy(value)


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise TypeError("A configuration is frozen; change a copy.deepcopy of it.")


class FrozenDict(dict[Any, Any]):
    """A dict that refuses every change."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)


class FrozenList(list[Any]):
    """A list that refuses every change."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]

    def __reduce__(self) -> Any:
        return type(self), (list(self),)
