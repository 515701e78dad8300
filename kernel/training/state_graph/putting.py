"""Put a captured object graph back into live objects.

A freshly made environment is the ground: where one of its objects stands in the place of a captured one and is of its
class, it is filled and stays what it is, for whatever else refers to it. The others are made anew, without calling
anything of their classes. What was left out when the graph was taken stays as it was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kernel.training.codec import Reference
from kernel.training.state_graph.kind import Kind, layout_of
from kernel.training.state_graph.lookup import Lookup
from kernel.training.state_graph.nodes import (
    ABSENT,
    IMMEDIATE,
    LEFT,
    Node,
    NotRestorable,
    labelled,
    module_of,
    table_of,
)
from kernel.training.state_graph.owners import Globals
from kernel.training.state_graph.taking import BY_NAME, GLOBALS, OBJECT


class Putting:
    """One graph on its way into live objects."""

    def __init__(self, tree: Any, roots: Mapping[str, Any], lookup: Lookup) -> None:
        self.lookup = lookup
        self._nodes = table_of(tree)
        self._roots = {name: held for name, held in tree["roots"].items() if isinstance(held, Reference)}
        self._candidates: list[Any] = [ABSENT] * len(self._nodes)
        self._objects: list[Any] = [None] * len(self._nodes)
        self._is_there = [False] * len(self._nodes)
        self._is_live = [False] * len(self._nodes)
        self._used: set[int] = set()
        self._paths = [""] * len(self._nodes)
        self._live_roots = roots
        self.has_begun_to_fill = False
        """Until then nothing that was there has changed."""
        self._needed = [False] * len(self._nodes)
        """Whether it is reached otherwise than through the names of a module."""

    def run(self) -> None:
        """Put everything back.

        Raises
        ------
        NotRestorable
            Something cannot be: the live objects may hold half of it.
        """
        try:
            self._match()
            for index in range(len(self._nodes)):
                self._make(index)
            self._give_up_what_lacks_a_part()
            self.has_begun_to_fill = True
            self._fill()
        except NotRestorable:
            raise
        except Exception as error:  # a table that is whole in form may hold anything
            raise NotRestorable(
                f"The state of its environments cannot be put back ({type(error).__name__}: {error})."
            ) from error

    def get(self, held: Any) -> Any:
        """What an entry of a node stands for."""
        return self._objects[held.place] if isinstance(held, Reference) else held

    def live(self, held: Any) -> Any:
        """The object that was there before, where an entry of a node leads."""
        return self._candidates[held.place] if isinstance(held, Reference) else None

    def _kind(self, node: Node) -> Kind:
        kind = BY_NAME.get(node.kind)
        if kind is None:
            raise NotRestorable(f"The state of its environments holds an object of the unknown kind {node.kind!r}.")
        return kind

    def _match(self) -> None:
        """Find, from the roots on, the live object that stands in the place of each node."""
        seen = [False] * len(self._nodes)
        waiting: deque[int] = deque()

        def meet(held: Any, candidate: Any, path: str) -> None:
            if isinstance(held, Reference) and not seen[held.place]:
                seen[held.place] = True
                self._candidates[held.place], self._paths[held.place] = candidate, path
                waiting.append(held.place)

        def follow() -> None:
            while waiting:
                index = waiting.popleft()
                self._match_one(index, meet)

        owners = {owner.name: owner for owner in self._live_roots.get("", ())}
        outside = [name for name, held in self._roots.items() if self._nodes[held.place].kind == GLOBALS]
        for name in (name for name in self._roots if name not in outside):
            meet(self._roots[name], self._live_roots.get(name, ABSENT), name)
        follow()
        self._needed = list(seen)
        if missing := [name for name in outside if name not in owners]:
            raise NotRestorable(f"{missing[0]} is not loaded here, and holds a part of the state of its environments.")
        for name in outside:
            meet(self._roots[name], owners.get(name, ABSENT), name)
        follow()

    def _match_one(self, index: int, meet: Callable[[Any, Any, str], None]) -> None:
        node, candidate = self._nodes[index], self._candidates[index]
        if node.kind == LEFT:
            return
        kind = self._kind(node)
        fits = candidate is not ABSENT and self._is_of(candidate, node, kind)
        if fits and kind.fits is not None and kind.fits(candidate, node) and self._is_free(candidate):
            self._objects[index], self._is_live[index] = candidate, True
            self._is_there[index] = not kind.is_whole_at_once
        names = self._names(candidate, kind) if fits else {}
        for name, held in (node.attributes or {}).items():
            meet(held, names.get(name, ABSENT), f"{self._paths[index]}.{name}")
        parts = list(kind.parts(candidate, node)) if fits else []
        shown = [label for label, _ in labelled(node)][len(node.attributes or {}) :]
        for position, held in enumerate(node.items or ()):
            part = parts[position] if position < len(parts) else ABSENT
            meet(held, part, f"{self._paths[index]}{shown[position] if position < len(shown) else ''}")

    def _is_of(self, candidate: Any, node: Node, kind: Kind) -> bool:
        cls = type(candidate)
        if node.of:
            return f"{module_of(cls)}:{cls.__qualname__}" == node.of
        return (
            cls in kind.types
            or kind.name in (OBJECT, GLOBALS)
            or (kind.base is object and isinstance(candidate, kind.types))
        )

    def _is_free(self, candidate: Any) -> bool:
        key: Any = candidate
        while isinstance(key, np.ndarray) and isinstance(key.base, np.ndarray):
            key = key.base
        if id(key) in self._used:
            return False
        self._used.add(id(key))
        return True

    def _names(self, candidate: Any, kind: Kind) -> dict[str, Any]:
        if isinstance(candidate, Globals):
            return candidate.data()
        if kind.base is object and kind.name != OBJECT:
            return dict(getattr(candidate, "__dict__", {}))
        layout = layout_of(type(candidate), kind.base)
        return layout.live(candidate) if layout is not None else {}

    def _make(self, index: int) -> None:
        """Make the object of a node, and before it those that it must hold from the beginning."""
        waiting = [(index, False)]
        begun: set[int] = set()
        while waiting:
            at, are_held_made = waiting.pop()
            if self._is_there[at]:
                continue
            node = self._nodes[at]
            if node.kind == LEFT:
                self._set(at, self._candidates[at])
                continue
            kind = self._kind(node)
            if not kind.is_whole_at_once or are_held_made:
                held = [self.get(item) for item in node.items or ()] if kind.is_whole_at_once else []
                if any(item is ABSENT for item in held):
                    self._set(at, self._candidates[at])
                elif not (self._is_live[at] and self._holds(at, kind, held)):
                    self._is_live[at] = False
                    self._set(at, self._made(at, kind))
                else:
                    self._is_there[at] = True
                continue
            if at in begun:
                raise NotRestorable(f"{self._paths[at]} holds itself from the beginning.")
            begun.add(at)
            waiting.append((at, True))
            waiting += [(held.place, False) for held in node.items or () if isinstance(held, Reference)]

    def _made(self, index: int, kind: Kind) -> Any:
        try:
            return kind.make(self._nodes[index], self)
        except NotRestorable:
            if self._needed[index]:
                raise
            return ABSENT  # what only a module's own names lead to may be more than a state

    def _holds(self, index: int, kind: Kind, held: list[Any]) -> bool:
        """Whether a live object that cannot be given other parts has the right ones."""
        parts = kind.parts(self._candidates[index], self._nodes[index])
        pairs = zip(parts, held, strict=False)
        return all(part is ABSENT or part is item or (type(item) in IMMEDIATE and part == item) for part, item in pairs)

    def _set(self, index: int, found: Any) -> None:
        self._objects[index], self._is_there[index] = found, True

    def _give_up_what_lacks_a_part(self) -> None:
        """What was made anew and holds what was not kept is not kept either; what only modules name stays as it is."""
        changed = True
        while changed:
            changed = False
            for index, node in enumerate(self._nodes):
                if node.kind == LEFT or self._is_live[index] or self._objects[index] is ABSENT:
                    continue
                if any(
                    isinstance(held, Reference) and self._objects[held.place] is ABSENT for held in node.items or ()
                ):
                    if self._needed[index]:
                        raise NotRestorable(f"{self._paths[index]} holds what was not kept.")
                    self._objects[index], changed = ABSENT, True

    def _fill(self) -> None:
        order = sorted(range(len(self._nodes)), key=lambda index: self._kind_rank(self._nodes[index]))
        for index in order:
            node, found = self._nodes[index], self._objects[index]
            if node.kind == LEFT or found is ABSENT:
                continue
            kind = self._kind(node)
            entries = [*(node.items or ())]
            if any(isinstance(held, Reference) and self._objects[held.place] is ABSENT for held in entries):
                continue  # it stays as it was made
            if node.attributes is not None and any(self.get(held) is ABSENT for held in node.attributes.values()):
                present = {name: held for name, held in node.attributes.items() if self.get(held) is not ABSENT}
                node = node._replace(attributes=present)
            kind.fill(found, node, self)
            layout = layout_of(type(found), kind.base) if node.of or node.kind in (OBJECT, "namespace") else None
            if layout is not None:
                layout.fill(found, {name: self.get(held) for name, held in (node.attributes or {}).items()})

    def _kind_rank(self, node: Node) -> int:
        kind = BY_NAME.get(node.kind)
        return 0 if kind is None else kind.turn
