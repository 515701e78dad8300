"""Traffic in SUMO (libsumo), as sumo-rl steps it, and with a state file of SUMO's own.

libsumo holds one simulation for each process, so these take one environment.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

NEEDS = ("libsumo", "sumo", "sumolib", "traci", "sumo_rl")
PROVED = "proved"
EXPECTED = {"Plain": PROVED, "Rl": PROVED, "StateFile": PROVED}
PLACE = "nets/single-intersection/single-intersection"


def _files() -> dict[str, str]:
    """A junction of sumo-rl's, and what drives there."""
    import importlib.util

    spec = importlib.util.find_spec("sumo_rl")
    assert spec is not None
    assert spec.origin is not None
    place = Path(spec.origin).parent / PLACE
    return {"net_file": f"{place}.net.xml", "route_file": f"{place}.rou.xml"}


def Rl() -> gymnasium.Env:  # noqa: N802  named as a class would be
    """sumo-rl's own environment, as it comes."""
    import sumo

    os.environ |= {"LIBSUMO_AS_TRACI": "1", "SUMO_HOME": sumo.SUMO_HOME}
    import sumo_rl

    return sumo_rl.SumoEnvironment(
        **_files(), single_agent=True, num_seconds=120, sumo_seed=7, sumo_warnings=False, delta_time=5
    )


class Plain(gymnasium.Env):
    """A junction whose lights are set; nothing of it is in Python but the episode's seed."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0.0, 1e4, (5,), np.float32)
    seconds, seconds_a_step = 120, 4
    options: tuple[str, ...] = ()

    def __init__(self) -> None:
        import libsumo

        self.sumo = libsumo
        self.command: list[str] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        files = _files()
        self.command = ["sumo", "-n", files["net_file"], "-r", files["route_file"], "--no-warnings", "--no-step-log"]
        self.command += ["--seed", str(int(self.np_random.integers(1 << 30))), *self.options]
        self.begin()
        return self._seen(), {}

    def begin(self) -> None:
        """Start the simulation that `command` tells of, in place of the one before."""
        if self.sumo.isLoaded():
            self.sumo.close()
        self.sumo.start(self.command)
        (self.light,) = self.sumo.trafficlight.getIDList()
        self.lanes = list(dict.fromkeys(self.sumo.trafficlight.getControlledLanes(self.light)))[:4]

    def step(self, action: Any) -> Any:
        self.sumo.trafficlight.setPhase(self.light, 2 * int(action))
        waited = 0.0
        for _ in range(self.seconds_a_step):
            self.sumo.simulation.step()
            waited += sum(self.sumo.lane.getWaitingTime(lane) for lane in self.lanes)
        is_over = self.sumo.simulation.getTime() >= self.seconds
        return self._seen(), -waited / 100, False, is_over, {}

    def _seen(self) -> Any:
        speeds = [self.sumo.lane.getLastStepMeanSpeed(lane) for lane in self.lanes]
        return np.array([*speeds, self.sumo.vehicle.getIDCount()], np.float32)

    def close(self) -> None:
        if self.sumo.isLoaded():
            self.sumo.close()


class StateFile(Plain):
    """The same, which tells its state by SUMO's saveState and takes it by loadState.

    What a state file says of the time and place of its writing is no state. Numbers are written to the last bit, and
    the generators with them.
    """

    options = ("--save-state.rng", "--save-state.precision", "17")

    def state_dict(self) -> dict[str, Any]:
        if not self.sumo.isLoaded():
            return {"command": [], "file": b""}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state.xml")
            self.sumo.simulation.saveState(str(path))
            return {"command": self.command, "file": re.sub(rb"<!--.*?-->", b"", path.read_bytes(), flags=re.DOTALL)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.command = state["command"]
        if not self.command:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state.xml")
            path.write_bytes(state["file"])
            self.begin()
            self.sumo.simulation.loadState(str(path))
