"""Records: what a frozen dataclass would do, done without generating code."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kernel.contract.record import Record


class Point(Record):
    x: float
    y: float = 0.0
    tags: tuple[str, ...] = ()


class Named(Point, kw_only=True):
    name: str
    notes: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class PointOfDataclasses:
    x: float
    y: float = 0.0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NamedOfDataclasses(PointOfDataclasses):
    name: str
    notes: list[str] = field(default_factory=list, repr=False)


GIVEN: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1.0,), {}),
    ((1.0, 2.0, ("a",)), {}),
    ((1.0, 2.0, ("a",), "name"), {}),
    ((1.0,), {"y": 3.0}),
    ((1.0,), {"x": 3.0}),
    ((), {"x": 1.0, "z": 2.0}),
    ((), {"x": 1.0, "name": "n"}),
    ((1.0,), {"name": "n", "notes": ["a"]}),
    ((1.0, 2.0), {"y": 3.0, "name": "n"}),
]


@pytest.mark.parametrize(("ordered", "named"), GIVEN)
@pytest.mark.parametrize(("ours", "theirs"), [(Point, PointOfDataclasses), (Named, NamedOfDataclasses)])
def test_a_record_takes_what_a_frozen_dataclass_takes_and_is_what_that_is(
    ours: Callable[..., Any], theirs: Callable[..., Any], ordered: tuple[Any, ...], named: dict[str, Any]
) -> None:
    try:
        expected = theirs(*ordered, **named)
    except TypeError:
        with pytest.raises(TypeError):
            ours(*ordered, **named)
        return
    made = ours(*ordered, **named)
    assert repr(made) == repr(expected).replace("OfDataclasses", "")
    assert dataclasses.asdict(made) == dataclasses.asdict(expected)
    assert made == ours(*ordered, **named) != dataclasses.replace(made, x=99.0)
    assert made != expected
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made


def test_a_record_is_not_changed_and_can_be_a_key() -> None:
    point = Point(1.0, tags=("a",))
    for change in (lambda: setattr(point, "x", 2.0), lambda: setattr(point, "new", 1), lambda: delattr(point, "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert {point: 1}[Point(1.0, 0.0, ("a",))] == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Named(x=1.0, name="n"))


def test_records_of_two_classes_are_never_equal() -> None:
    assert Point(1.0) != Named(x=1.0, name="n")
    assert Named(x=1.0, name="n").notes is not Named(x=1.0, name="n").notes
