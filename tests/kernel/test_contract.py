"""The contract: what one side writes the other reads, whatever version either is of."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.contract import endings, events, names, typed
from kernel.contract.checks import Check, Verdict
from kernel.contract.endings import Ending
from kernel.contract.events import EVENTS, Event, Malformed, Unknown
from kernel.contract.exactness import Exactness

INTEGERS = st.integers(-(2**62), 2**62)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OF_TYPE = {
    int: st.integers(-(2**62), 2**62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
    int | None: st.none() | st.integers(-(2**62), 2**62),
    float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    str | None: st.none() | st.text(),
    bool | None: st.none() | st.booleans(),
    float | str | None: st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    Any: JSON,
    Exactness | None: st.none()
    | st.builds(Exactness, st.none() | st.integers(0, 2**62), st.none() | st.integers(0, 2**62), st.text()),
    tuple[Check, ...]: st.lists(
        st.builds(Check, st.text(), st.sampled_from(Verdict), st.text(), st.text()), max_size=2
    ).map(tuple),
}


@st.composite
def any_event(draw: st.DrawFn) -> Event:
    cls = draw(st.sampled_from(sorted(EVENTS.values(), key=lambda one: one.name)))
    hints = typed.hints_of(cls)
    values = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if field.name not in ("time", "extra"):
            values[field.name] = draw(OF_TYPE.get(hint, st.dictionaries(st.text(), JSON, max_size=2)))
    return cls(time=draw(st.floats(0, 1e6)), **values)


def told(event: Event) -> str:
    out = io.StringIO()
    events.emit(event, out)
    return out.getvalue()


@given(any_event())
def test_what_was_emitted_is_read_back_as_it_was(event: Event) -> None:
    assert events.parse(told(event)) == event


@given(any_event(), st.text(min_size=1), JSON)
def test_a_field_of_a_newer_kernel_is_kept_beside_the_known_ones(event: Event, name: str, value: Any) -> None:
    own = {field.name for field in dataclasses.fields(event)} | {"event", "schema", "time"}
    if name in own:
        return
    line = events.PREFIX + json.dumps({**event.plain(), name: value})
    assert events.parse(line) == dataclasses.replace(event, extra={name: value})


@given(any_event(), st.data())
def test_a_known_event_with_another_type_is_malformed_and_says_where(event: Event, data: st.DataObject) -> None:
    hints = typed.hints_of(type(event))
    checked = [name for name, hint in hints.items() if name not in ("time", "extra", "name") and hint is not Any]
    if not checked:
        return
    name = data.draw(st.sampled_from(checked))
    takes_flags = hints[name] in (bool, bool | None)
    wrong: list[Any] = [["a list"]] if takes_flags else [["a list"], True]
    if hints[name] == tuple[Check, ...]:
        wrong = [7, [{"name": "x"}], [{"name": "x", "verdict": "MAYBE", "evidence": ""}]]
    read = events.parse(events.PREFIX + json.dumps({**event.plain(), name: data.draw(st.sampled_from(wrong))}))
    assert isinstance(read, Malformed)
    assert read.kind == event.name
    assert read.problem.startswith(name)


@pytest.mark.parametrize("value", [10**19, 1e999, "7", None, True, [1]])
def test_a_timestep_is_a_whole_number_that_a_database_can_hold(value: Any) -> None:
    line = events.PREFIX + json.dumps({"event": "checkpoint", "num_timesteps": value})
    assert isinstance(events.parse(line), Malformed)


def test_an_event_that_nobody_knows_here_is_shown_as_it_came() -> None:
    read = events.parse('noise @kaglaunch {"event": "teleport", "where": "x", "time": 3, "schema": 9}')
    assert isinstance(read, Unknown)
    assert read.plain() == {"event": "teleport", "schema": 1, "time": 3.0, "where": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "@kaglaunch ",
        '@kaglaunch {"event": "flo',
        "@kaglaunch []",
        '@kaglaunch {"event": 7}',
        "@kaglaunch {}",
    ],
)
def test_other_text_and_torn_lines_are_no_events(text: str) -> None:
    assert events.parse(text) is None


def test_what_json_cannot_hold_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        told(events.Evaluation(num_timesteps=1, mean_reward=math.nan))


def test_every_event_and_every_field_says_what_it_means() -> None:
    for cls in EVENTS.values():
        assert (cls.__doc__ or "").strip().endswith((".", "!"))
        documented = typed.field_docs(cls)
        for field in dataclasses.fields(cls):
            assert documented.get(field.name), f"{cls.__name__}.{field.name}"


def test_what_a_whole_session_says_has_no_field_that_the_contract_lacks(finished: Path) -> None:
    read = [events.parse(line) for line in (finished / "output.txt").read_text().splitlines()]
    said = [event for event in read if event is not None]
    assert {event.name for event in said} >= {"session", "training", "progress", "checkpoint", "result"}
    assert [event for event in said if event.extra or isinstance(event, (Malformed, Unknown))] == []


@pytest.mark.parametrize("ending", Ending)
def test_every_ending_has_a_meaning_an_exit_code_and_something_to_type(ending: Ending) -> None:
    about = ending.about
    assert about.meaning.endswith(".")
    assert about.exit_code in (0, 4, 5, 6)
    assert (about.exit_code == 0) == (ending is Ending.finished)
    assert re.search(r"`kaglaunch [a-z-]+( run-abcdef)?`", ending.remedy_for("run-abcdef"))


def test_only_a_kernels_own_words_are_read_from_its_result() -> None:
    assert endings.ending_of("finished") is Ending.finished
    assert {endings.ending_of(word) for word in ("cut", "", "somehow")} == {None}


RUN_IDS = st.from_regex(names.RUN_ID, fullmatch=True)


@given(RUN_IDS, st.integers(1, 99_999))
def test_names_of_kernels_and_datasets_lead_back_to_their_run(run_id: str, session: int) -> None:
    assert names.session_of_kernel(names.kernel_slug(run_id, session)) == (run_id, session)
    assert names.run_of_dataset(names.dataset_slug(run_id)) == run_id


@given(st.integers(0, 10**15), st.integers(1, 99_999))
def test_notes_and_file_names_tell_their_timestep(num_timesteps: int, session: int) -> None:
    assert names.told_by_version(names.version_note(num_timesteps, session)) == (num_timesteps, session)
    name = names.checkpoint_name(num_timesteps)
    assert names.num_timesteps_of(name) == names.num_timesteps_of(name + names.PUBLISHED_SUFFIX) == num_timesteps


@given(st.text())
def test_names_of_others_are_none_of_ours(text: str) -> None:
    found = names.session_of_kernel(text)
    assert found is None or names.kernel_slug(*found) == text
    owner = names.run_of_dataset(text)
    assert owner is None or names.dataset_slug(owner) == text


@pytest.mark.parametrize("cls", [*EVENTS.values(), Check])
def test_a_schema_takes_what_is_written_and_nothing_of_another_type(cls: type) -> None:
    schema = typed.json_schema(cls)
    assert set(schema["required"]) == {field.name for field in dataclasses.fields(cls)}
    assert all(value.get("description") for value in schema["properties"].values())


@dataclasses.dataclass(frozen=True)
class Held:
    """What a mapping may hold."""

    size: int


@dataclasses.dataclass(frozen=True)
class Holder:
    """Fields of every type that holds others, or has certain values alone."""

    kind: Literal["a", "b"]
    on: Literal[True]
    by_name: Mapping[str, Held]
    lists: Mapping[str, tuple[float, ...]]
    free: Mapping[str, Any]


HOLDER = {"kind": "a", "on": True, "by_name": {"x": {"size": 3}}, "lists": {"y": [1.5, 2]}, "free": {"z": None}}


def test_what_a_mapping_holds_becomes_what_it_is_said_to_hold_and_plain_takes_it_back() -> None:
    read = typed.read(Holder, HOLDER)
    assert read == Holder("a", True, {"x": Held(3)}, {"y": (1.5, 2)}, {"z": None})
    assert typed.plain(read) == HOLDER
    assert typed.read(Holder, {**HOLDER, "by_name": read.by_name}) == read


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "c"}, 'kind must be "a" or "b"; got \'c\''),
        ({"on": 1}, "on must be true; got 1"),
        ({"on": False}, "on must be true; got False"),
        ({"by_name": {"x": {"size": "3"}}}, "by_name['x']: size must be a whole number; got '3'"),
        ({"by_name": {"x": 3}}, "by_name['x'] must be a table; got 3"),
        ({"lists": {"y": [1.5, "2"]}}, "lists['y'][1] must be a number; got '2'"),
    ],
)
def test_what_is_none_of_the_values_or_holds_another_type_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(typed.WrongType, match=re.escape(said)):
        typed.read(Holder, {**HOLDER, **wrong})


def test_a_schema_and_the_words_of_a_type_say_what_is_held_and_which_values_there_are() -> None:
    said = typed.json_schema(Holder)["properties"]
    assert said["kind"] == {"type": "string", "enum": ["a", "b"]}
    assert said["on"] == {"type": "boolean", "enum": [True]}
    assert said["by_name"] == {"type": "object", "additionalProperties": typed.json_schema(Held)}
    assert said["lists"]["additionalProperties"] == {"type": "array", "items": {"type": "number"}}
    assert said["free"] == {"type": "object"}
    words = {name: typed.type_words(hint) for name, hint in typed.hints_of(Holder).items()}
    assert words == {
        "kind": '"a" or "b"',
        "on": "true",
        "by_name": "object of objects",
        "lists": "object of arrays",
        "free": "object",
    }
