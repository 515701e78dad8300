"""What is taken of live objects in one process and put into others in another goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import state_gallery
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.training import codec
from kernel.training.codec import Reference
from kernel.training.state_graph.difference import first_difference
from kernel.training.state_graph.graph import StateGraph
from kernel.training.state_graph.nodes import HalfRestored, Node, NotRestorable
from kernel.training.state_graph.taking import BY_NAME
from tests.limits import limit_s

Holder, Car = state_gallery.Holder, state_gallery.Car


def _play(verb: str, file: Path) -> dict[str, Any]:
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, state_gallery.__file__, verb, str(file)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=limit_s(60), check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the gallery does after its state was taken, and what a fresh one does that was given it."""
    file = tmp_path_factory.mktemp("gallery") / "state"
    return _play("take", file), _play("put", file)


@pytest.mark.parametrize("name", [cls.__name__ for cls in state_gallery.GALLERY])
def test_an_exhibit_does_in_another_process_what_it_would_have_done(name: str, played: Any) -> None:
    taken, put = played
    assert [look[name] for look in put["looks"]] == [look[name] for look in taken["looks"]]


def test_the_whole_gallery_is_kept_and_the_same_bytes_come_of_it_before_and_after(played: Any) -> None:
    taken, put = played
    assert taken["left"] == put["left"] == []
    assert put["digests"] == taken["digests"]
    assert taken["digests"][0] != taken["digests"][1]


def _of(held: Any) -> tuple[Holder, StateGraph]:
    holder = Holder(held)
    return holder, StateGraph({"env": holder}, [state_gallery.__name__])


def _half_run() -> Any:
    yield 1
    yield 2


def _taken_lock() -> Any:
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (socket.socket, "socket"),
        (threading.Thread, "may not name"),
        (_half_run, "half run"),
        (random.SystemRandom, "operating system"),
        (_taken_lock, "lock that is taken"),
        (lambda: memoryview(b"x"), "memoryview"),
        (lambda: subprocess.CompletedProcess([], 0), "may not name"),
    ],
)
def test_what_cannot_be_taken_is_named_with_its_path(make: Any, why: str) -> None:
    held = make()
    _, graph = _of({"sim": [1, held]})
    ((path, said),) = graph.take()["left"]
    assert path == "env.held['sim'][1]"
    assert why in said


def test_what_was_not_taken_stays_as_it_was_made() -> None:
    first, one = _of([1, _half_run()])
    first.other = {"n": 1}  # type: ignore[attr-defined]
    again, other = _of([5, kept := _half_run()])
    other.put(one.take())
    assert again.held == [1, kept]
    assert again.other == {"n": 1}  # type: ignore[attr-defined]


def _with(graph: StateGraph, node: Node) -> Any:
    """What `graph` takes, with `node` in the place of what its root holds."""
    tree = graph.take()
    tree["nodes"].append(list(node))
    tree["nodes"][0][4] = {"held": Reference(len(tree["nodes"]) - 1)}
    return tree


@pytest.mark.parametrize(
    "node",
    [
        Node("named", "", "os:system", None, None),
        Node("named", "", "builtins:eval", None, None),
        Node("named", "", "builtins:exec", None, None),
        Node("named", "", "numpy:load", None, None),
        Node("named", "", "torch:load", None, None),
        Node("named", "", "subprocess:Popen", None, None),
        Node("named", "", "antigravity", None, None),
        Node("object", "subprocess:Popen", None, None, {}),
        Node("object", "antigravity:Nothing", None, None, {}),
        Node("object", "tempfile:TemporaryDirectory", None, None, {}),
        Node("function", "", ["os:system", ""], [None, None], {}),
        Node("function", "", ["posixpath:join", "1:2:"], [None, None], {}),
        Node("iterator", "", ["eval", False], [None, "1"], None),
        Node("bit generator", "", ["beta", {}], [None], None),
        Node("stream", "", "path", None, None),
        Node("file", "", ["/etc/passwd", "r", 0], None, None),
        Node("enum", "os:system", ["x"], None, None),
        Node("no such kind", "", None, None, None),
    ],
)
def test_a_checkpoint_names_nothing_but_what_the_run_itself_would(node: Node) -> None:
    holder, graph = _of([1])
    with pytest.raises(NotRestorable):
        graph.put(_with(graph, node))
    assert holder.held == [1]
    assert "antigravity" not in sys.modules


def test_a_method_in_c_that_does_more_than_compute_cannot_be_named(tmp_path: Path) -> None:
    holder, graph = _of(np.arange(3))
    tree = _with(graph, Node("method in C", "", "tofile", [Reference(2)], None))
    tree["nodes"].append(["list", "", None, [], None])
    with pytest.raises(NotRestorable, match="tofile"):
        graph.put(tree)
    assert holder.held.tolist() == [0, 1, 2]


ODD = [
    None,
    True,
    -1,
    0,
    10**30,
    1.5,
    "x",
    b"x",
    [],
    [1],
    {},
    {"x": 1},
    (1,),
    Reference(0),
    Reference(3),
    Reference(10**6),
]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), value=st.sampled_from([*ODD, np.arange(2)]))
def test_a_table_of_which_any_part_is_odd_is_put_back_or_refused_and_nothing_else(seed: int, value: Any) -> None:
    held = {"a": [Car(1), {1, 2}], "b": np.arange(4.0), "c": random.Random(1), "d": np.random.default_rng(2)}
    chance = random.Random(seed)
    holder, graph = _of({**held, "e": state_gallery.counting(1)[0], "f": iter([1, 2]), "g": Car(2).drive})
    tree = codec.decode(codec.encode(graph.take()))
    before = codec.encode(graph.take())
    node = chance.choice(tree["nodes"])
    part = chance.randrange(5)
    inner = node[part]
    if isinstance(inner, (list, dict)) and inner and chance.random() < 0.7:
        key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner[key] = value
    else:
        node[part] = value
    try:
        graph.put(tree)
    except NotRestorable:
        assert codec.encode(graph.take()) == before
    assert isinstance(holder, Holder)


def test_the_first_difference_is_told_by_the_words_that_lead_there() -> None:
    one, first = _of({"lanes": [Car(1), Car(2)], "main": None})
    other, second = _of({"lanes": [Car(1), Car(2)], "main": None})
    assert first_difference(first.take(), second.take()) == ""
    other.held["lanes"][1].speed = 3
    assert first_difference(first.take(), second.take()) == "env.held['lanes'][1].speed is 2, and 3"
    other.held["lanes"][1].speed = 2
    one.held["main"], other.held["main"] = one.held["lanes"][0], Car(1)
    assert "is one object with another place" in first_difference(first.take(), second.take())
    one.held = other.held = None
    one.grid, other.grid = np.zeros(9), np.zeros(9)  # type: ignore[attr-defined]
    other.grid[4] = -0.0  # type: ignore[attr-defined]
    assert "at 4" in first_difference(first.take(), second.take())


def _put_afresh(numbers: set[Any]) -> tuple[list[Any], str]:
    """The elements of a set that `numbers` were put into, and the difference that is told."""
    _, graph = _of(numbers)
    fresh, other = _of(set())
    taken = codec.decode(codec.encode(graph.take()))
    other.put(taken)
    return list(fresh.held), first_difference(taken, other.take())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40), st.lists(st.integers(0, 300), max_size=10))
def test_a_set_comes_back_in_the_order_of_its_elements_or_the_difference_is_told(
    added: list[int], removed: list[int]
) -> None:
    numbers = set(added)
    numbers -= set(removed)
    found, difference = _put_afresh(numbers)
    assert set(found) == numbers
    assert found == list(numbers) or difference


def test_nearly_every_set_that_only_grew_comes_back_in_its_order() -> None:
    chance = random.Random(1)
    sets = [{chance.randrange(1_000) for _ in range(chance.randrange(1, 60))} for _ in range(100)]
    assert sum(_put_afresh(numbers)[0] == list(numbers) for numbers in sets) >= 95


def test_what_this_process_found_for_itself_stays_its_own_and_what_changed_goes_along(monkeypatch: Any) -> None:
    monkeypatch.setattr(state_gallery, "PORT", 4001, raising=False)
    monkeypatch.setattr(state_gallery, "PHASE", "red", raising=False)
    monkeypatch.setattr(state_gallery.Car, "folder", "/tmp/one", raising=False)
    graph = StateGraph({"env": Holder()}, [state_gallery.__name__])
    state_gallery.PHASE = "green"  # type: ignore[attr-defined]
    taken = codec.decode(codec.encode(graph.take()))
    state_gallery.PHASE, state_gallery.PORT, Car.folder = "red", 4002, "/tmp/two"  # type: ignore[attr-defined]
    again = StateGraph({"env": Holder()}, [state_gallery.__name__])
    again.put(taken)
    assert (state_gallery.PHASE, state_gallery.PORT, Car.folder) == ("green", 4002, "/tmp/two")  # type: ignore[attr-defined]
    state_gallery.PHASE = "red"  # type: ignore[attr-defined]
    assert codec.encode(again.take()) != codec.encode(taken)


def test_an_object_that_fights_being_looked_into_costs_no_checkpoint() -> None:
    holder, graph = _of([1])
    holder.held.append(state_gallery.Sly())
    ((path, said),) = graph.take()["left"]
    assert (path, "cannot be looked into" in said) == ("env.held[1]", True)


def test_a_state_that_is_refused_leaves_globals_as_they_were() -> None:
    ticks = state_gallery.TICKS
    holder = Holder()
    graph = StateGraph({"env": holder}, [state_gallery.__name__])
    tree = graph.take()
    places = [node for node in tree["nodes"] if node[0] == "globals" and node[2] == state_gallery.__name__]
    places[0][4]["TICKS"] = 77
    tree["nodes"].append(["object", "os:nothing", None, None, {}])
    tree["nodes"][0][4] = {"held": Reference(len(tree["nodes"]) - 1)}
    with pytest.raises(NotRestorable):
        graph.put(tree)
    assert ticks == state_gallery.TICKS


def test_of_two_classes_of_one_name_the_second_is_left_out_and_said_and_the_rest_comes_back() -> None:
    def made() -> Any:
        return type("Cart", (), {"__module__": state_gallery.__name__, "wheels": 4, "x": 0})()

    first, second = Holder(), Holder()
    first.held, second.held = [made(), 1], [made(), 2]
    graph = StateGraph({"env0": first, "env1": second}, [state_gallery.__name__])
    first.held[0].x, second.held[1] = 5, 6
    tree = graph.take()
    ((path, why),) = tree["left"]
    assert path == "env1.held[0]"
    assert why.endswith("that the name does not lead to")
    first.held[0].x, second.held[1] = 7, 8
    graph.put(tree)
    assert (first.held[0].x, second.held[1]) == (5, 6)


@pytest.mark.parametrize(("fails", "raised"), [(1, NotRestorable), (2, HalfRestored)])
def test_objects_that_cannot_be_made_what_they_were_are_said_to_be_of_no_more_use(
    fails: int, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, graph = _of([1, 2])
    tree = graph.take()
    holder.held[0] = 3
    calls: list[int] = []

    def fill(live: Any, node: Node, put: Any) -> None:
        calls.append(1)
        live[:] = [9]
        if len(calls) <= fails:
            raise ValueError("no")
        live[:] = [put.get(item) for item in node.items or ()]

    lists = BY_NAME["list"]
    monkeypatch.setitem(BY_NAME, "list", dataclasses.replace(lists, fill=fill))
    with pytest.raises(raised):
        graph.put(tree)
    assert (holder.held == [3, 2]) == (raised is NotRestorable)
