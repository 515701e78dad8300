"""The signal-control environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from arz_model.control import scenarios
from arz_model.control.observations import Observer
from arz_model.control.rewards import REWARDS, lost_time
from arz_model.control.signals import Signal
from arz_model.solver import Solver


class TrafficSignalEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """
    ## Description

    A signalised intersection in two-class traffic (motorcycles and cars). Each approach is a road on which the GARZ
    model is solved; a red stop line has zero flux. Vehicles arrive by a Poisson process; those that find no room wait
    in an entrance queue, so that none is ever lost. Every `decision_interval_s` seconds the agent says which
    phase should be green. The scenario (roads, demand, signal times) is a TOML file: see `arz_model/scenarios`.

    ## Action Space

    `Discrete(n_phases)`: the phase that should be green next. Naming the green phase keeps it. Actions that break the
    minimum green, or come during a change, are held (without effect until the signal may change); a green that would
    exceed the maximum is changed to the next phase. A change costs yellow + all-red seconds without discharge.

    ## Observation Space

    `Box(0, 1, (n,), float32)`; for each approach, in the scenario's order, then for the signal:

    | Num                | Observation                                                        | Min | Max |
    |--------------------|--------------------------------------------------------------------|-----|-----|
    | 0 .. n_bins-1      | vehicles over those of a full bin; the bin at the stop line first   | 0   | 1   |
    | n_bins             | mean queue in the interval over the vehicles of a full approach     | 0   | 1   |
    | n_bins + 1         | entrance queue n / (n + entrance_scale_veh)                         | 0   | 1   |
    | … (next approach)  |                                                                    |     |     |
    | n - n_phases - 2 … | phase that is green, or will be after the change under way, one-hot | 0   | 1   |
    | n - 2              | a change is under way                                              | 0   | 1   |
    | n - 1              | seconds of green so far over the maximum green                      | 0   | 1   |

    For `quick`: n_bins = 10, two approaches, two phases, n = 28.

    ## Rewards

    `delay` (the default): minus the vehicle seconds lost in the interval, on the roads and in the entrance queues,
    divided by (expected vehicles of an episode x `delay_scale_s`). The sum over an episode is minus the mean delay per
    expected vehicle in units of `delay_scale_s`.

    ## Starting State

    Empty roads, phase 0 just turned green; each approach's demand level is drawn once an episode, uniformly in
    1 -+ `demand_spread`.

    ## Episode End

    Truncated after `duration_s`. Never terminated.

    ## Arguments

    `scenario` (name or path of a TOML file, default `"quick"`), `device` (`"auto"`, `"cpu"`, `"cuda"`), `reward` (name,
    default `"delay"`), `decision_interval_s` and `duration_s` (whole seconds; the scenario's own when not given),
    `render_mode` (`None` or `"ansi"`: one line an approach).

    ## Version History

    * v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str | Path | scenarios.Scenario = "quick",
        device: str = "auto",
        reward: str = "delay",
        decision_interval_s: int | None = None,
        duration_s: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if reward not in REWARDS:
            raise scenarios.ScenarioError(f"no reward {reward!r}; there are {', '.join(REWARDS)}.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise scenarios.ScenarioError(f"render_mode must be None or 'ansi'; got {render_mode!r}.")
        loaded = scenario if isinstance(scenario, scenarios.Scenario) else scenarios.load(scenario)
        self.scenario = scenarios.with_times(loaded, decision_interval_s, duration_s)
        self.render_mode = render_mode
        self.solver = Solver(
            self.scenario.network,
            self.scenario.parameters,
            device=device,
            v_queue=self.scenario.observation.queue_speed,
        )
        self.signal = Signal(self.scenario.signal, self.scenario.network, round(1.0 / self.solver.dt))
        self._observer = Observer(self.scenario, self.solver)
        self._reward = REWARDS[reward]
        self._interval = self.scenario.signal.decision_interval
        self._n_steps = self.solver.n_steps(self._interval)
        self._scale = 1.0 / (self.scenario.expected_arrivals() * self.scenario.delay_scale)
        self._windows = np.zeros((1, len(self.scenario.approaches), 2), np.int64)
        self._level = np.ones((len(self.scenario.approaches), 1))
        self._seconds = 0
        self.observation_space = spaces.Box(0.0, 1.0, (self._observer.size,), np.float32)
        self.action_space = spaces.Discrete(len(self.scenario.signal.phases))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.solver.clear()
        self.signal.reset()
        self._seconds = 0
        spread = self.scenario.demand_spread
        self._level = self.np_random.uniform(1.0 - spread, 1.0 + spread, (len(self.scenario.approaches), 1))
        return self._observer.observe(self.solver, self.solver.measured, self.signal), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        changed = self.signal.request(int(action), self._n_steps, self._windows[0])
        measured = self.solver.advance(self._n_steps, self._arrivals(), self._windows)
        self._seconds += self._interval
        obs = self._observer.observe(self.solver, measured, self.signal)
        info = {
            "delay": lost_time(measured),
            "queue": float(measured.queue[0].sum()) / self._interval,
            "entrance_queue": float(self.solver.waiting.sum()),
            "throughput": float(measured.outflow[0].sum()),
            "arrivals": float(measured.arrivals[0].sum()),
            "phase": self.signal.phase,
            "changed": changed,
        }
        return obs, self._reward(measured) * self._scale, False, self._seconds >= self.scenario.duration, info

    def render(self) -> str | None:
        """One line an approach, entrance on the left: densities as digits 0-9 of a full road, stop line | or >."""
        if self.render_mode is None:
            return None
        now_green = self.signal.green[self.signal.phase] & (not self.signal.changing)
        lines = [f"{self._seconds:5d} s  {self.scenario.signal.phases[self.signal.phase][0]}"]
        for i, approach in enumerate(self.scenario.approaches):
            full = self.solver.density(i)[0].sum(axis=0) / self.scenario.parameters.rho_full
            digits = "".join(str(min(9, int(10 * x))) for x in np.maximum(full, 0.0))
            waiting = self.solver.waiting[0, i].sum()
            lines.append(f"{approach.segment.name:>10} {waiting:6.1f} {digits}{'>' if now_green[i] else '|'}")
        return "\n".join(lines)

    def state_dict(self) -> dict[str, NDArray[Any] | int | float | str | bool]:
        """Everything that the rest of the episode and the next ones depend on: arrays and plain values, no objects."""
        generator = self.np_random.bit_generator.state
        if generator["bit_generator"] != "PCG64":
            raise ValueError(f"only PCG64 generators can be saved; this is {generator['bit_generator']}.")
        return {
            **{f"solver.{name}": value for name, value in self.solver.state_dict().items()},
            **{f"signal.{name}": value for name, value in self.signal.state_dict().items()},
            "seconds": self._seconds,
            "level": self._level.copy(),
            "np_random.state": hex(generator["state"]["state"]),
            "np_random.inc": hex(generator["state"]["inc"]),
            "np_random.has_uint32": int(generator["has_uint32"]),
            "np_random.uinteger": int(generator["uinteger"]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an environment of the same scenario, bit for bit."""
        self.solver.load_state_dict(_part(state, "solver."))
        self.signal.load_state_dict(_part(state, "signal."))
        self._seconds = int(state["seconds"])
        self._level = np.array(state["level"], np.float64).reshape(self._level.shape)
        self.np_random.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int(str(state["np_random.state"]), 16), "inc": int(str(state["np_random.inc"]), 16)},
            "has_uint32": int(state["np_random.has_uint32"]),
            "uinteger": int(state["np_random.uinteger"]),
        }

    def _arrivals(self) -> NDArray[np.float64]:
        """Arrivals (1, P, E, 2) of the next interval, one Poisson number a second [veh/s].

        They depend on the seed alone: neither on actions nor on the decision interval.
        """
        mean = self.scenario.flows_by_second[self._seconds : self._seconds + self._interval] * self._level
        return self.np_random.poisson(mean)[None].astype(np.float64)


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
