"""The state of live objects, taken and put back as one graph."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from kernel.training.state_graph.lookup import KNOWN_LIBRARIES, Lookup
from kernel.training.state_graph.nodes import HalfRestored, NotRestorable, module_of
from kernel.training.state_graph.putting import Putting
from kernel.training.state_graph.taking import Walk, Way


class StateGraph:
    """Objects by name, freshly made, and the modules whose classes and globals are state with them.

    What is found in them now decides which classes and functions a checkpoint may name besides those of the modules.
    The state of those in `opaque` is none of the graph: it is referred to by their names.
    """

    def __init__(
        self, roots: Mapping[str, Any], own_modules: Iterable[str] = (), opaque: Mapping[str, Any] | None = None
    ) -> None:
        self._roots = dict(roots)
        tops = frozenset(name.partition(".")[0] for name in own_modules) - KNOWN_LIBRARIES
        self._lookup = Lookup(tops, opaque=dict(opaque or {}))
        self._ways: dict[type, Way | str] = {}
        self.learn()
        self.take()  # now that every class is known

    def learn(self) -> None:
        """Let a checkpoint name the classes and functions of what is held now, too."""
        walk = Walk(self._lookup)
        walk.take(self._roots)
        for node, value in zip(walk.nodes, walk.objects, strict=False):
            if node.kind == "named":
                self._lookup.held[node.value] = value
            cls = type(value)
            if module_of(cls).partition(".")[0] not in sys.stdlib_module_names:
                self._lookup.held.setdefault(f"{module_of(cls)}:{cls.__qualname__}", cls)

    def take(self) -> dict[str, Any]:
        """The state of everything that the objects lead to, as a tree that `kernel.training.codec` holds.

        `left` in it names by path what could not be taken, and why.
        """
        return Walk(self._lookup, self._ways).take(self._roots)

    def put(self, tree: Any) -> None:
        """Put back what `take` took, here or in another process.

        Raises
        ------
        kernel.training.state_graph.nodes.NotRestorable
            It cannot be; the objects are as they were.
        kernel.training.state_graph.nodes.HalfRestored
            They are not, and cannot be made so.
        """
        before = self.take()
        putting = self._putting(tree)
        try:
            putting.run()
        except NotRestorable as error:
            if putting.has_begun_to_fill:
                try:
                    self._putting(before).run()
                except NotRestorable as failed:
                    raise HalfRestored(f"{error} What was there cannot be put back either: {failed}") from error
            raise

    def _putting(self, tree: Any) -> Putting:
        return Putting(tree, {**self._roots, "": Walk(self._lookup, self._ways).owners()}, self._lookup)
