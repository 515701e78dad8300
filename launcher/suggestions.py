"""What was probably meant by a word that nothing is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(word: str, names: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """A question that begins with a space, to put behind a refusal; empty where no name is like `word`.

    A name that holds the whole word comes first, then one that is spelled alike; case does not matter. `also` has
    what names are called elsewhere.
    """
    found = closest(word, names, also)
    return f" Did you mean {' or '.join(found)}?" if found else ""


def closest(word: str, names: Iterable[str], also: Mapping[str, str] | None = None) -> list[str]:
    """The one or two of `names` that are most like `word`, in their order; none where none is."""
    known = {name.lower(): name for name in names}
    asked = word.strip().lower()
    if not asked:
        return []
    if also and asked in also:
        return [also[asked]]
    holding = [name for lower, name in known.items() if lower.startswith(asked)]
    if not holding and len(asked) > 1:
        holding = [name for lower, name in known.items() if asked in lower]
    if holding:
        return holding if len(holding) <= _AT_MOST else holding[-1:]
    alike = _SHORT_ALIKE if len(asked) <= _SHORT else _ALIKE
    return [known[lower] for lower in difflib.get_close_matches(asked, known, n=1, cutoff=alike)]


_AT_MOST = 2
_SHORT = 4
"""Letters of a word that shares many with others by chance: SAC is no mistyped A2C."""
_ALIKE, _SHORT_ALIKE = 0.6, 0.7
