"""Whether a signal environment is worth training on: what must hold before a second of training is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from arz_model.control.controllers import LongestQueue
from arz_model.control.env import TrafficSignalEnv

RED_S = 90
"""How long each phase is kept red while its queue is watched [s]."""
DISCHARGE_S = 20
"""A queue is long when it lasts so long at the saturation flow [s]."""
EPISODE_S = 3600
"""Simulated time of each policy that is compared, at most [s]: long enough for a peak."""
GREENS_S = (5, 10, 20, 45, 90)
"""Fixed greens whose returns are compared [s]: from too short for the start-up losses to too long for the queues."""
CLEARLY = 3.0
"""A policy that loses so many times more than another must get the lower return."""


@dataclass(frozen=True)
class Finding:
    """One check: what was seen, and where it failed, the likely cause."""

    name: str
    passed: bool
    evidence: str
    cause: str


def check_environment(env: gymnasium.Env[Any, Any], *, seed: int = 0) -> tuple[Finding, ...]:
    """Drive `env`, whose innermost environment is a TrafficSignalEnv, for some simulated minutes and judge it.

    Raises
    ------
    TypeError
        It is another environment.
    """
    inner = env.unwrapped
    if not isinstance(inner, TrafficSignalEnv):
        raise TypeError(f"check_environment judges TrafficSignalEnv; got {type(inner).__qualname__}.")
    episodes = {name: _drive(env, inner, policy, seed) for name, policy in _policies(inner).items()}
    return (
        _demand(inner),
        *_stop_lines(env, inner, seed),
        _arrivals(inner, episodes),
        _reward(episodes),
        _observation(inner, episodes),
        _policies_differ(episodes),
    )


@dataclass(frozen=True)
class _Episode:
    obs: NDArray[np.float32]
    rewards: NDArray[np.float64]
    lost: NDArray[np.float64]
    """Vehicle seconds lost in each interval."""
    arrived: float


def _action(inner: TrafficSignalEnv, phase: int) -> Any:
    """The action that asks every intersection for `phase`; those with fewer begin again."""
    return _ask(inner, phase % inner.signals.n_phases)


def _ask(inner: TrafficSignalEnv, phases: NDArray[np.int64]) -> Any:
    """The action that asks for `phases` (J,)."""
    wanted = phases if inner.batch.observer.view is None else (phases - inner.signals.phase[0]) % inner.signals.n_phases
    return int(wanted[0]) if len(wanted) == 1 else wanted


def _policies(inner: TrafficSignalEnv) -> dict[str, Callable[[int], Any]]:
    """Name -> action at decision k, for policies that are good and bad in different ways."""
    greedy = LongestQueue(slot_s=1, hysteresis_veh=0.0)

    def alternate(green_s: int) -> Callable[[int], Any]:
        n_hold, n_phases = max(1, round(green_s / inner.batch.interval)), int(inner.signals.n_phases.max())
        return lambda k: _action(inner, k // n_hold % n_phases)

    def longest_queue(k: int) -> Any:
        if k == 0:
            greedy.begin(inner.batch)
        (wanted,) = greedy.act(inner.batch, np.zeros(0, np.float32))
        return _ask(inner, wanted)

    plans = {f"greens of {green_s} s": alternate(green_s) for green_s in GREENS_S}
    return {"first phase only": lambda k: _action(inner, 0), **plans, "longest queue at once": longest_queue}


def _drive(env: gymnasium.Env[Any, Any], inner: TrafficSignalEnv, policy: Callable[[int], Any], seed: int) -> _Episode:
    obs, _ = env.reset(seed=seed)
    seen, rewards, lost, arrived = [obs], [], [], 0.0
    for k in range(EPISODE_S // inner.batch.interval):
        obs, reward, terminated, truncated, info = env.step(policy(k))
        seen.append(obs)
        rewards.append(float(reward))
        lost.append(info["delay"])
        arrived += info["arrivals"]
        if terminated or truncated:
            break
    return _Episode(np.array(seen), np.array(rewards), np.array(lost), arrived)


def _demand(inner: TrafficSignalEnv) -> Finding:
    """A flow that arrives needs no more room, at free speed, than half of what the road holds."""
    scenario, worst, where = inner.scenario, 0.0, ""
    rates = scenario.demand.expected_rates()
    for e, segment in enumerate(inner.solver.layout.entrances):
        road = scenario.network.segments[segment]
        density = rates[e] / min(road.v_free_m, road.v_free_c) / scenario.parameters.rho_full
        if density >= worst:
            worst, where = density, road.name
    return Finding(
        "demand below jam density",
        worst < 0.5,
        f"arrivals at free speed fill {100 * worst:.3g} % of {where}",
        "units: a demand in veh/h or a density in veh/km was read as one in veh/s or veh/m",
    )


def _stop_lines(env: gymnasium.Env[Any, Any], inner: TrafficSignalEnv, seed: int) -> tuple[Finding, ...]:
    """Ask for each phase in turn, long enough for the others to queue, and look at what crosses the stop lines."""
    signals, network, interval = inner.signals, inner.scenario.network, inner.batch.interval
    blocked, formed = 0.0, 0.0
    discharged: list[float] = []
    env.reset(seed=seed)
    # Beyond its maximum a green ends by itself.
    held_s = min(RED_S, *(plan.max_green for plan in inner.scenario.intersections))
    n_hold, n_phases = max(1, held_s // interval), int(signals.n_phases.max())
    n_change = -(-int(max(plan.intergreen for plan in inner.scenario.intersections)) // interval)
    for phase in range(2 * n_phases):
        waiting, flows, open_s, free = _queued(inner), [], [], _room_ahead(inner)
        for _ in range(n_hold):
            env.step(_action(inner, phase))
            flows.append(inner.solver.measured.outflow[0].sum(axis=1))
            open_s.append((signals.windows[0, :, 1] - signals.windows[0, :, 0]) / signals.steps_per_second)
            free &= _room_ahead(inner)
        for plan in inner.scenario.intersections:
            green = plan.phases[phase % len(plan.phases)][1]
            for name in sorted({road for _, roads in plan.phases for road in roads}):
                s = network.index[name]
                if name not in green:
                    blocked = max(blocked, float(sum(f[s] for f in flows[n_change:])))
                    formed = max(formed, float(_queued(inner)[s]))
                else:
                    saturation = network.segments[s].saturation_flow
                    if waiting[s] > saturation * max(interval, DISCHARGE_S) and free[s]:
                        rates = [float(f[s]) / t[s] for f, t in zip(flows, open_s, strict=True) if t[s] > 0.0]
                        discharged.append(max(rates, default=0.0) / saturation)
    least = min(discharged, default=0.0)
    return (
        Finding(
            "red blocks",
            blocked == 0.0,
            f"{blocked:.3g} vehicles crossed a red stop line",
            "the signal does not reach the fluxes, or the phases are mapped to the wrong roads",
        ),
        Finding(
            "queues form at red",
            formed > 1.0,
            f"longest queue at red {formed:.3g} vehicles after {n_hold * interval} s",
            "nothing arrives, or red does not stop it",
        ),
        Finding(
            "queues discharge at the saturation flow",
            not discharged or (least > 0.95 and max(discharged) < 1.05),
            f"{len(discharged)} discharges, {100 * least:.3g} % of the saturation flow at least"
            if discharged
            else f"demand is so low that no queue lasts {max(interval, DISCHARGE_S)} s of green",
            "a green that does not open its roads, a stop line without its saturation flow, or blocked exits",
        ),
    )


def _queued(inner: TrafficSignalEnv) -> NDArray[np.float64]:
    """(S,) mean number of queued vehicles in the last interval."""
    queued: NDArray[np.float64] = inner.solver.measured.queue[0].sum(axis=1) / inner.batch.interval
    return queued


def _room_ahead(inner: TrafficSignalEnv) -> NDArray[np.bool_]:
    """(S,) whether every road that a road leads to begins with fewer vehicles than its maximum flow needs."""
    network, solver = inner.scenario.network, inner.solver
    critical = 0.5 * inner.scenario.parameters.rho_full
    density = solver.total_density()[0]
    room = np.ones(len(network.segments), np.bool_)
    for node in network.nodes:
        free = all(density[solver.layout.first[network.index[outlet]]] < critical for outlet in node.outlets)
        room[[network.index[inlet] for inlet in node.inlets]] = free
    return room


def _arrivals(inner: TrafficSignalEnv, episodes: dict[str, _Episode]) -> Finding:
    first = next(iter(episodes.values()))
    expected = inner.scenario.expected_arrivals * len(first.rewards) * inner.batch.interval / inner.scenario.duration
    return Finding(
        "vehicles arrive",
        first.arrived > 0.2 * expected > 0.0,
        f"{first.arrived:.0f} vehicles arrived, {expected:.0f} in the mean of the whole episode",
        "the demand is not passed to the solver, so that the roads drain",
    )


def _reward(episodes: dict[str, _Episode]) -> Finding:
    rewards = np.concatenate([episode.rewards for episode in episodes.values()])
    spread = float(rewards.std())
    return Finding(
        "reward varies",
        bool(np.isfinite(rewards).all()) and spread > 1e-3 * float(np.abs(rewards).mean()) > 0.0,
        f"mean {rewards.mean():.4g}, standard deviation {spread:.3g} over {len(rewards)} decisions",
        "the reward does not see the traffic: a constant, a clipped or an unmeasured quantity",
    )


def _observation(inner: TrafficSignalEnv, episodes: dict[str, _Episode]) -> Finding:
    seen = np.concatenate([episode.obs for episode in episodes.values()])
    n_traffic = seen.shape[1] - int((inner.signals.n_phases + 2).sum())
    roads = seen[:, :n_traffic]
    full, moving = float((roads >= 1.0).mean()), float((roads.std(axis=0) > 1e-6).mean())
    return Finding(
        "observation not saturated",
        bool(np.isfinite(seen).all()) and full < 0.5 and moving > 0.25,
        f"{100 * full:.3g} % of the road readings are at their maximum, {100 * moving:.3g} % of the inputs vary",
        "units: densities or queues are divided by the wrong maximum",
    )


def _policies_differ(episodes: dict[str, _Episode]) -> Finding:
    """Returns differ, and of any two policies the one that clearly loses more time gets the lower return."""
    returns = {name: float(episode.rewards.sum()) for name, episode in episodes.items()}
    lost = {name: float(episode.lost.sum()) for name, episode in episodes.items()}
    differ = len({round(value, 9) for value in returns.values()}) > 1
    wrong = [
        f"{worse} loses {lost[worse] / max(lost[better], 1.0):.3g} times as much as {better} and gets the better return"
        for better, worse in permutations(returns, 2)
        if lost[worse] > CLEARLY * lost[better] and returns[worse] >= returns[better]
    ]
    return Finding(
        "policies get different returns",
        differ and not wrong,
        "; ".join(f"{name}: return {returns[name]:.4g}, {lost[name]:.4g} vehicle seconds lost" for name in returns),
        f"the reward prefers the policy that loses more time: {wrong[0]}"
        if differ and wrong
        else "actions do not reach the traffic",
    )
