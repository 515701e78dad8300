"""Environments and wrappers that people use as they come, and what a resume of each must come out as.

`expected` lists everything that the installed gymnasium has: its classic control, toy text, Box2D and MuJoCo by id,
and each of its wrappers around one of them; besides, SUMO. What is new there is in the list by itself. `NOT_TRAINED`
says of the rest why nothing can be trained on it, and `needs` which packages something needs that a development
environment has not: requirements/campaign.txt.
"""

from __future__ import annotations

import importlib.util

import gymnasium

from . import sumo, wrappers

PROVED = "proved"
FAMILIES = {"classic_control": (), "toy_text": (), "box2d": ("Box2D", "pygame"), "mujoco": ("mujoco",)}
"""Rooms of gymnasium.envs, and the modules that they need."""
NOT_TRAINED = {
    "Blackjack-v1": "its observation is a tuple, which stable-baselines3 refuses: wrappers:Blackjack flattens it",
    "Pusher-v4": "gymnasium wants a mujoco below 3 for it",
    "phys2d/": "its functions are jax's, and its steps one array of many environments",
    "tabular/": "its functions are jax's",
    "GymV21Environment-v0": "a shell around environments of another library",
    "GymV26Environment-v0": "a shell around environments of another library",
}
"""Ids, or what they begin with, and why they are not in the list."""


def expected() -> dict[str, str]:
    """Id or `module:name` -> what must come out."""
    found = dict.fromkeys([*ids(), *(f"{wrappers.__name__}:{name}" for name in wrappers.FACTORIES)], PROVED)
    return found | {f"{sumo.__name__}:{name}": wanted for name, wanted in sumo.EXPECTED.items()}


def ids() -> list[str]:
    """What the installed gymnasium has and can be trained on."""
    return [name for name in sorted(gymnasium.registry) if not why_not(name)]


def why_not(name: str) -> str:
    """Why an id that gymnasium knows is not in the list; empty where it is."""
    if reason := next((reason for start, reason in NOT_TRAINED.items() if name.startswith(start)), ""):
        return reason
    entry = gymnasium.registry[name].entry_point
    if not isinstance(entry, str) or _family(entry) not in FAMILIES:
        return "it is of no family that is tried"
    module = entry.partition(":")[0]
    if module.startswith("gymnasium.envs.mujoco") and name.endswith(("-v2", "-v3")):
        return "gymnasium took it out: it was for mujoco-py"
    return ""


def needs(place: str) -> list[str]:
    """Modules that are not here, and without which `place` cannot be made."""
    if place in gymnasium.registry:
        wanted = FAMILIES[_family(str(gymnasium.registry[place].entry_point))]
    else:
        wanted = wrappers.NEEDS.get(place.partition(":")[2], ()) if ".wrappers:" in place else sumo.NEEDS
    return [name for name in wanted if importlib.util.find_spec(name) is None]


def _family(entry: str) -> str:
    parts = entry.partition(":")[0].split(".")
    return parts[2] if parts[:2] == ["gymnasium", "envs"] and len(parts) > 2 else ""
