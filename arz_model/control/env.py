"""The signal-control environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from arz_model.control.batch import TrafficBatch, pack_generator, set_generator
from arz_model.control.rewards import Reward
from arz_model.control.scenarios import Scenario, ScenarioError
from arz_model.control.signals import Signals
from arz_model.solver import Solver


class TrafficSignalEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """
    ## Description

    Signalised intersections in two-class traffic (motorcycles and cars). The GARZ model is solved on every road; a red
    stop line has zero flux. Vehicles arrive by a Poisson process; those that find no room wait in an entrance queue, so
    that none is ever lost. Every `decision_interval_s` seconds the agent says which phase should be green at each
    intersection. The scenario (roads, junctions, signals, demand) is a TOML file: see `arz_model/scenarios`.

    ## Action Space

    `Discrete(n_phases)` with one intersection, `MultiDiscrete([n_phases, ...])` with several: the phase that should be
    green next. Naming the green phase keeps it. Actions that break the minimum green, or come during a change, are held
    (without effect until the signal may change); a green that would exceed the maximum is changed to the next phase. A
    change costs yellow + all-red seconds, less the part of the yellow that traffic uses, and the start-up loss.
    `action_masks()` says which actions would not be held. With `view="relative"` an action says how many phases on from
    the present one: 0 keeps it.

    With `change_step_s` a change may also begin 1, 2, ... such steps after the decision, before the next one. For each
    of these moments, in order, `n_phases - 1` actions follow those above: the phase 1, 2, ... on from the present one.

    ## Observation Space

    `Box(0, 1, (n,), float32)`; for each road with a stop line or an entrance, in the scenario's order, then for each
    intersection. `observation_names` gives the list.

    | Num                | Observation                                                        | Min | Max |
    |--------------------|--------------------------------------------------------------------|-----|-----|
    | 0 .. n_bins-1      | vehicles over those of a full bin; the bin at the stop line first   | 0   | 1   |
    | n_bins             | mean queue in the interval over the vehicles of a full road         | 0   | 1   |
    | n_bins + 1         | entrance queue n / (n + entrance_scale_veh), on entrance roads      | 0   | 1   |
    | … (next road)      |                                                                    |     |     |
    | n - n_phases - 2 … | phase that is green, or will be after the change under way, one-hot | 0   | 1   |
    | n - 2              | part of the change under way that is still to come                 | 0   | 1   |
    | n - 1              | seconds of green so far over the maximum green                      | 0   | 1   |

    Densities and queues are given as their square roots. With `view="relative"` the roads of the present phase come
    first, then those of the phase after it; within a phase the fullest comes first. Situations that differ by symmetry
    then look the same: less has to be learnt. It is for one intersection whose phases open equally many like roads.

    For `quick`: n_bins = 10, two roads, two phases, n = 28. A road shorter than n_bins bins has as many as fit.

    ## Rewards

    By the name given as `reward`; each is an exact integral over the interval, in vehicle seconds divided by (expected
    vehicles of an episode x `delay_scale_s`), and each counts the entrance queues.

    | Name         | Reward of an interval                                                                        |
    |--------------|----------------------------------------------------------------------------------------------|
    | `delay`      | minus the time lost against free flow, on the roads and waiting to enter (the default)        |
    | `queue`      | minus the time spent slower than the queue speed or waiting to enter                          |
    | `pressure`   | minus the integral of vehicles upstream of stop lines less those downstream by turning ratio   |
    | `throughput` | vehicles that left, each worth `delay_scale_s`                                                |
    | `wait_diff`  | decrease of the queued time against the interval before                                       |

    With `delay` the sum over an episode is minus the mean delay per expected vehicle in units of `delay_scale_s`.

    ## Starting State

    Empty roads, phase 0 just turned green; the demand of the episode is drawn at reset, from the seed alone: it depends
    neither on actions nor on the decision interval. With `random_start` the first episode begins at a random second.

    ## Episode End

    Truncated after `duration_s`. Never terminated.

    ## Arguments

    `scenario` (name or path of a TOML file, default `"quick"`), `device` (`"auto"`, `"cpu"`, `"cuda"`), `reward` (name,
    default `"delay"`), `demand` (name of a profile of the scenario), `decision_interval_s` and `duration_s` (whole
    seconds; the scenario's own when not given), `random_start` (default false), `view`
    (`"absolute"` or `"relative"`, default `"absolute"`), `change_step_s` (whole seconds, a part of the decision
    interval; when not given, changes begin with intervals), `render_mode` (`None` or `"ansi"`: one line a road).
    `gymnasium.make_vec` and `arz_model.control.sb3.TrafficSignalVecEnv` step many in one kernel call.

    ## Version History

    * v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        scenario: str | Path | Scenario = "quick",
        device: str = "auto",
        reward: str | Reward = "delay",
        demand: str | None = None,
        decision_interval_s: int | None = None,
        duration_s: int | None = None,
        random_start: bool = False,
        view: str = "absolute",
        change_step_s: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ScenarioError(f"render_mode must be None or 'ansi'; got {render_mode!r}.")
        self.render_mode = render_mode
        self.batch = TrafficBatch(
            scenario,
            device=device,
            reward=reward,
            demand=demand,
            decision_interval_s=decision_interval_s,
            duration_s=duration_s,
            random_start=random_start,
            view=view,
            change_step_s=change_step_s,
        )
        self.observation_space, self.action_space = make_spaces(self.batch)

    @property
    def scenario(self) -> Scenario:
        """What is simulated."""
        return self.batch.scenario

    @property
    def solver(self) -> Solver:
        """The traffic, a batch of one network."""
        return self.batch.solver

    @property
    def signals(self) -> Signals:
        """The signals, a batch of one network."""
        return self.batch.signals

    @property
    def observation_names(self) -> list[str]:
        """What each number of an observation is."""
        return self.batch.observer.names

    def reward_specification(self) -> str:
        """What the reward is, for the record of a run."""
        return self.batch.reward_specification()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.batch.reset([0], [self.np_random])
        return self.batch.observe()[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        done = self.batch.step(self.batch.requests(action))
        return done.obs[0], float(done.rewards[0]), False, bool(done.over[0]), self.batch.figures(done.measured)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions would not be held, flat over the intersections."""
        return self.batch.action_masks()[0]

    def render(self) -> str | None:
        """One line a road, its beginning on the left: densities as digits 0-9 of a full road, stop line | or >."""
        if self.render_mode is None:
            return None
        signals, network = self.signals, self.scenario.network
        phases = [
            f"{plan.name}: {plan.phases[signals.phase[0, j]][0]}" for j, plan in enumerate(self.scenario.intersections)
        ]
        lines = [f"{self.batch.seconds[0]:5d} s  {', '.join(phases)}"]
        entrance = {segment: e for e, segment in enumerate(self.solver.layout.entrances)}
        for s, road in enumerate(network.segments):
            full = self.solver.density(s)[0].sum(axis=0) / self.scenario.parameters.rho_full
            digits = "".join(str(min(9, int(10 * x))) for x in np.maximum(full, 0.0))
            waiting = f"{self.solver.waiting[0, entrance[s]].sum():6.1f}" if s in entrance else " " * 6
            j = signals.owner[s]
            green = j < 0 or (signals.green[j, signals.phase[0, j], s] and not signals.changing[0, j])
            lines.append(f"{road.name:>10} {waiting} {digits}{'>' if green else '|'}")
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the episode and the next ones depend on: arrays and plain values, no objects."""
        return {**self.batch.state_dict(), "generator": pack_generator(self.np_random)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an environment of the same scenario, bit for bit."""
        self.batch.load_state_dict(state)
        set_generator(self.np_random, np.asarray(state["generator"], np.uint64))


def make_spaces(batch: TrafficBatch) -> tuple[spaces.Space[NDArray[np.float32]], spaces.Space[Any]]:
    """Observation and action space of one episode of `batch`."""
    n_actions = batch.n_actions
    action = spaces.Discrete(int(n_actions[0])) if len(n_actions) == 1 else spaces.MultiDiscrete(n_actions)
    observation: Any = spaces.Box(0.0, 1.0, (batch.observer.size,), np.float32)
    return observation, action
