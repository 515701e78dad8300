"""Fill a set so that it gives its elements in a wanted order.

CPython keeps the elements of a set in a table and gives them as they lie there. Where one lies depends on its hash, on
what came before it, and on the size of the table, which grows and never shrinks. Elements are put where they lay: those
that had to make way find their places taken, by others or for the moment by placeholders.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

_LINEAR_PROBES, _PERTURB_SHIFT = 9, 5
_ENTRY_BYTES, _SMALL, _LOOKED_AT = 16, 8, 24


class _Placeholder:
    def __init__(self, slot: int) -> None:
        self._slot = slot

    def __hash__(self) -> int:
        return self._slot


def table_size(elements: Any) -> int:
    """Slots of the table of a set."""
    return max(_SMALL, (set.__sizeof__(elements) - set().__sizeof__()) // _ENTRY_BYTES)


def fill(live: set[Any], items: list[Any], size: int) -> None:
    """Let `live` hold `items`, in their order if a table of `size` slots can give it."""
    set.clear(live)
    slots = _slots(items, size)
    owners = dict(zip(slots, items, strict=True))
    placeholders: list[_Placeholder] = []
    if size > _SMALL and 5 * (len(items) + size // 4 + 1) < 3 * (size - 1):
        # It must not grow while it is filled: what lies in it would move.
        free = (slot for slot in range(size) if slot not in owners)
        placeholders += map(_Placeholder, itertools.islice(free, size // 4))
        set.update(live, set(placeholders))  # a set that takes in another makes room for it first
    taken = {hash(placeholder) for placeholder in placeholders}
    waiting = {slot: list(_before(item, slot, size)) for slot, item in owners.items()}
    while waiting:
        # Those whose way there is taken already; else one for whom placeholders can take it.
        ready = [slot for slot, before in waiting.items() if taken.issuperset(before)]
        ready = (
            ready or [slot for slot, before in waiting.items() if not waiting.keys() & before][:1] or list(waiting)[:1]
        )
        for slot in ready:
            for free_slot in sorted(set(waiting.pop(slot)) - taken - waiting.keys()):
                placeholders.append(_Placeholder(free_slot))
                set.add(live, placeholders[-1])
                taken.add(free_slot)
            set.add(live, owners[slot])
            taken.add(slot)
    for placeholder in placeholders:
        set.discard(live, placeholder)


def _slots(items: list[Any], size: int) -> list[int]:
    """Where the items lie if they come in this order, each as early on its way as all of them together can."""
    best: dict[int, tuple[int, tuple[int, Any]]] = {-1: (0, (-1, None))}  # last slot -> cost, and the way to it
    for item in items:
        found: dict[int, tuple[int, tuple[int, Any]]] = {}
        for cost, slot in enumerate(dict.fromkeys(itertools.islice(_probes(item, size), _LOOKED_AT))):
            ways = [(spent + cost, (slot, way)) for last, (spent, way) in best.items() if last < slot]
            if ways:
                found[slot] = min(ways, key=lambda way: way[0])
        if not found:
            return list(range(len(items)))  # no table of this size gives them so
        best = found
    _, way = min(best.values(), key=lambda way: way[0])
    slots: list[int] = []
    while way[1] is not None:
        slots.append(way[0])
        way = way[1]
    return slots[::-1]


def _before(item: Any, slot: int, size: int) -> Iterator[int]:
    """The slots that are looked at before `slot` is."""
    for probe in _probes(item, size):
        if probe == slot:
            return
        yield probe


def _probes(item: Any, size: int) -> Iterator[int]:
    """The slots that are looked at for `item`, one after the other (`set_add_entry` of CPython 3.11 to 3.13)."""
    mask, code = size - 1, hash(item)
    perturb = code % (1 << 64)
    at = code & mask
    for _ in range(4 * size.bit_length() + 16):
        yield at
        if at + _LINEAR_PROBES <= mask:
            yield from range(at + 1, at + 1 + _LINEAR_PROBES)
        perturb >>= _PERTURB_SHIFT
        at = (at * 5 + 1 + perturb) & mask
