"""How many lines a print of one place in a module makes, as far as the module says."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(eq=False)
class Function:
    """A function of the module, and how often it runs as far as the module says."""

    name: str
    owner: str
    compiled: bool
    cuda: bool
    main: bool
    speaking: bool
    per: str = ""
    """"timestep", "episode", or "" where nothing says."""
    lines: int = 1
    at_least: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Loop:
    """One loop around a print: how often it turns where the source says so, and whether it is over timesteps."""

    turns: int | None
    time: bool


@dataclass(frozen=True)
class Place:
    """Where the walk stands."""

    function: Function | None = None
    owner: str = ""
    loops: tuple[Loop, ...] = ()
    guarded: bool = False
    conditional: bool = False
    failing: bool = False
    main: bool = False
    shadowed: bool = False


def estimate(place: Place, time_loop: bool) -> tuple[int, str, bool, str]:
    """Lines, per what, whether that is a lower bound, and what says so."""
    function, loops = place.function, place.loops
    if function is not None and function.per:
        lines, at_least = _turns(loops)
        return function.lines * lines, function.per, at_least or function.at_least, function.reason
    if time_loop:
        innermost = max(index for index, loop in enumerate(loops) if loop.time)
        return *_around(_turns(loops[innermost + 1 :]), "timestep"), "in a loop over timesteps"
    where = f"of {function.name}" if function else "of the module"
    if any(loop.turns is None for loop in loops):
        return *_around(_turns(loops), "iteration", at_least=True), f"in a loop {where} whose length is not known"
    lines, _ = _turns(loops)
    if function is None:
        return lines, "import", False, "at module level"
    if function.compiled:
        return lines, "thread" if function.cuda else "call", True, f"in {function.name}, which is compiled"
    return lines, "call", False, f"how often {function.name} is called is not known"


def _around(turns: tuple[int, bool], per: str, at_least: bool = False) -> tuple[int, str, bool]:
    return turns[0], per, turns[1] or at_least


def _turns(loops: tuple[Loop, ...]) -> tuple[int, bool]:
    """Lines of one print in `loops`, and whether that is a lower bound: a loop of unknown length counts as one turn."""
    return math.prod(loop.turns for loop in loops if loop.turns is not None), any(loop.turns is None for loop in loops)
