"""Frozen dataclasses and records as JSON and back, every type checked; their JSON Schema with each field's docstring.

Standard library only.
"""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")
LARGEST = 2**63 - 1
"""Largest whole number that every reader can hold."""

_SCALARS: Mapping[Any, tuple[tuple[type, ...], str, str]] = {
    int: ((int,), "a whole number", "integer"),
    float: ((int, float), "a number", "number"),
    str: ((str,), "a string", "string"),
    bool: ((bool,), "true or false", "boolean"),
}


class WrongType(ValueError):
    """Raised for a value of another type than its field has; the message names both."""


def plain(value: Any) -> Any:
    """`value` as JSON has it: dataclasses and mappings as objects, sequences as arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def read(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build dataclass `cls` from the fields that `values` has.

    Raises
    ------
    WrongType
        A field has another type, is missing without a default, or is not one of the class.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise WrongType(f"there is no field {name!r}")
    for name, field in known.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise WrongType(f"{name} is missing")
    hints = hints_of(cls)
    return cls(**{name: value_of(name, value, hints[name]) for name, value in values.items()})


def value_of(name: str, value: Any, hint: Any) -> Any:
    """`value` if it has the type `hint`: a mapping becomes a dataclass where one is wanted, an array a tuple.

    Raises
    ------
    WrongType
        It has another one.
    """
    if hint is Any:
        return value
    origin = typing.get_origin(hint) or hint
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        wanted = [one for one in typing.get_args(hint) if one is not type(None)]
        for one in wanted[:-1]:
            try:
                return value_of(name, value, one)
            except WrongType:
                continue
        return value_of(name, value, wanted[-1])
    if origin is typing.Literal:
        literals = typing.get_args(hint)
        if not any(type(value) is type(one) and value == one for one in literals):
            raise WrongType(f"{name} must be {_words(literals)}; got {value!r}")
        return value
    if origin in _SCALARS:
        accepted, wanted_words, _ = _SCALARS[origin]
        if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
            raise WrongType(f"{name} must be {wanted_words}; got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongType(f"{name} must be a finite number; got {value!r}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise WrongType(f"{name} must fit 64 bits; got a number of {value.bit_length()}")
        return value
    if isinstance(origin, type) and issubclass(origin, StrEnum):
        if value not in list(origin):
            raise WrongType(f"{name} must be one of {', '.join(origin)}; got {value!r}")
        return origin(value)
    if origin is collections.abc.Mapping:
        if not isinstance(value, Mapping):
            raise WrongType(f"{name} must be a table; got {value!r}")
        held = _held(hint)
        return value if held is Any else {key: value_of(f"{name}[{key!r}]", one, held) for key, one in value.items()}
    if origin in (tuple, collections.abc.Sequence):
        if not isinstance(value, (list, tuple)):
            raise WrongType(f"{name} must be a list; got {value!r}")
        held = _held(hint)
        return tuple(value_of(f"{name}[{at}]", item, held) for at, item in enumerate(value))
    if dataclasses.is_dataclass(origin):
        assert isinstance(origin, type)
        if isinstance(value, origin):
            return value
        if not isinstance(value, Mapping):
            raise WrongType(f"{name} must be a table; got {value!r}")
        try:
            return read(origin, value)
        except WrongType as error:
            raise WrongType(f"{name}: {error}") from error
    raise TypeError(f"no rule for {hint!r}")


def hints_of(cls: type) -> dict[str, Any]:
    """The types of its fields, resolved once."""
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


_HINTS: dict[type, dict[str, Any]] = {}


def json_schema(cls: type, *, is_open: bool = False) -> dict[str, Any]:
    """JSON Schema (2020-12) of `plain` values of `cls`; with `is_open` further fields may follow."""
    hints, docs = hints_of(cls), field_docs(cls)
    properties = {}
    for field in dataclasses.fields(cls):
        properties[field.name] = _schema(hints[field.name])
        if docs.get(field.name):
            properties[field.name] |= {"description": docs[field.name]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": is_open,
    }


def type_words(hint: Any) -> str:
    """A type as documents name it: `integer`, `string or null`, `array of objects`, or the only values that it has."""
    if typing.get_origin(hint) is typing.Literal:
        return _words(typing.get_args(hint))
    schema = _schema(hint)
    kind = schema.get("type", "any")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    held = schema.get("items") or schema.get("additionalProperties")
    inner = held.get("type") if isinstance(held, dict) else None
    return f"{words} of {inner}s" if inner else words


def _held(hint: Any) -> Any:
    """The type of what an array or a mapping holds."""
    arguments = typing.get_args(hint)
    if not arguments:
        return Any
    return arguments[1] if typing.get_origin(hint) is collections.abc.Mapping else arguments[0]


def _words(literals: tuple[Any, ...]) -> str:
    return " or ".join(json.dumps(one) for one in literals)


def _schema(hint: Any) -> dict[str, Any]:
    origin = typing.get_origin(hint) or hint
    if hint is Any:
        return {}
    if origin in (types.UnionType, typing.Union):
        parts = [_schema(one) for one in typing.get_args(hint) if one is not type(None)]
        names = [str(part["type"]) for part in parts]
        optional = type(None) in typing.get_args(hint)
        return {**(parts[0] if len(parts) == 1 else {}), "type": [*names, *(["null"] if optional else [])]}
    if origin is typing.Literal:
        literals = typing.get_args(hint)
        return {"type": _SCALARS[type(literals[0])][2], "enum": list(literals)}
    if origin in _SCALARS:
        return {"type": _SCALARS[origin][2]}
    if isinstance(origin, type) and issubclass(origin, StrEnum):
        return {"type": "string", "enum": [str(member) for member in origin]}
    if origin is collections.abc.Mapping:
        held = _schema(_held(hint))
        return {"type": "object", **({"additionalProperties": held} if held else {})}
    if origin is tuple:
        return {"type": "array", "items": _schema(_held(hint))}
    return json_schema(origin)


def field_docs(cls: type) -> dict[str, str]:
    """Field -> the string under it in the source, those of its bases included."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                assert isinstance(text.value, ast.Constant)
                found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found
