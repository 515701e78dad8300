"""Every environment of the gallery that must be proved: its graph is taken in one process and put back in another.

    python gallery_twice.py take FOLDER    steps each, keeps its graph, then steps on and keeps what comes
    python gallery_twice.py put FOLDER     makes each afresh, puts the graph back, steps on, and prints what differs

It is a conformance kit for the graph alone, in seconds: what the graph had to leave out needs the real one.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import environment_gallery
import gymnasium
import numpy as np
import torch as th

from kernel.training import codec
from kernel.training.state_graph.difference import first_difference
from kernel.training.state_graph.graph import StateGraph
from kernel.training.state_graph.nodes import NotRestorable

BEFORE, AFTER = 24, 40


def stepped(env: gymnasium.Env, begins: int, steps: int) -> list[Any]:
    """What comes of so many steps, whose actions are the same in every process."""
    came: list[Any] = []
    for number in range(begins, begins + steps):
        action: Any = number * 7 % 5 % 2 if hasattr(env.action_space, "n") else np.full(2, number % 3 / 3, np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        came.append(codec.encode([obs, float(reward)]).hex())
        if terminated or truncated:
            env.reset()
    return came


def made(place: str) -> tuple[gymnasium.Env, StateGraph]:
    """A new one, after its first reset, and its graph."""
    random.seed(3)
    np.random.seed(3)
    th.manual_seed(3)
    module, _, name = place.partition(":")
    env = getattr(importlib.import_module(module), name)()
    graph = StateGraph({"env": env}, ["environment_gallery"])
    env.reset(seed=1)
    return env, graph


def chances() -> list[Any]:
    """The generators that no environment holds."""
    version, numbers, gauss = random.getstate()
    return [[version, list(numbers), gauss], np.random.get_state(legacy=False), th.get_rng_state().numpy()]


def set_chances(state: list[Any]) -> None:
    """Put back what `chances` gave."""
    version, numbers, gauss = state[0]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state[1])
    th.set_rng_state(th.from_numpy(state[2].copy()))


def take(place: str, file: Path) -> None:
    """Keep its graph, and what it does afterwards."""
    env, graph = made(place)
    stepped(env, 0, BEFORE)
    kept = [graph.take(), chances()]
    file.write_bytes(codec.encode([*kept, stepped(env, BEFORE, AFTER)]))


def put(place: str, file: Path) -> str:
    """Do it again from the graph: what differs; `left` where the graph does not hold it all."""
    taken, drawn, came = codec.decode(file.read_bytes())
    if taken["left"]:
        return "left"
    env, graph = made(place)
    try:
        graph.put(taken)
    except NotRestorable:  # what it holds may come by stepping
        stepped(env, 0, BEFORE)
        graph.learn()
        graph.put(taken)
    if found := first_difference(taken, graph.take()):
        return found
    set_chances(drawn)
    again = stepped(env, BEFORE, AFTER)
    return next((f"step {number} is another" for number in range(AFTER) if again[number] != came[number]), "")


if __name__ == "__main__":
    th.set_num_threads(1)
    told = {}
    for number, (place, wanted) in enumerate(environment_gallery.expected().items()):
        if wanted == "proved":
            file = Path(sys.argv[2], str(number))
            told[place] = put(place, file) if sys.argv[1] == "put" else take(place, file)
    sys.stdout.write(f"{json.dumps(told)}\n")
