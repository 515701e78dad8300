"""Controllers compared on the same episodes: every figure by episode, means, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arz_model.control.batch import TrafficBatch
from arz_model.control.controllers import Controller
from arz_model.control.rewards import lost_time
from arz_model.control.scenarios import Scenario
from arz_model.control.statistics import Estimate, estimate
from arz_model.state import Observables

FIGURES = {
    "delay_s": "mean delay [s/veh]",
    "travel_time_s": "mean time in the network [s/veh]",
    "queue_veh": "mean queue [veh]",
    "stops": "stops [1/veh]",
    "throughput_veh_per_h": "throughput [veh/h]",
    "unserved_veh": "unserved [veh]",
}
"""What is measured of an episode.

delay, time in the network : of all vehicles that arrived, entrance queues included, per vehicle
queue : vehicles slower than the queue speed or waiting to enter, mean over the episode
stops : increases of the queue of each road and entrance from second to second, per vehicle; a vehicle that joins in the
    second in which another leaves is not seen, so it is a lower bound
unserved : vehicles still waiting to enter at the end
"""


@dataclass(frozen=True)
class Result:
    """One controller on all episodes."""

    name: str
    interval: int
    """Decision interval [s]."""
    figures: dict[str, NDArray[np.float64]]
    """(N,) by name, see FIGURES."""


def drive(
    controller: Controller,
    scenario: Scenario | str | Path,
    seeds: Sequence[int],
    *,
    demand: str | None = None,
    decision_interval_s: int | None = None,
    duration_s: int | None = None,
    device: str = "cpu",
    n_threads: int = 1,
) -> Result:
    """One whole episode of each seed, all side by side, on environments of their own."""
    interval = controller.interval if controller.interval is not None else decision_interval_s
    batch = TrafficBatch(
        scenario,
        len(seeds),
        demand=demand,
        decision_interval_s=interval,
        duration_s=duration_s,
        device=device,
        **controller.interface,
        n_threads=n_threads,
    )
    batch.reset(range(len(seeds)), [np.random.Generator(np.random.PCG64(seed)) for seed in seeds])
    controller.begin(batch)
    sums = {name: np.zeros(len(seeds)) for name in ("lost", "time", "queue", "stops", "out", "arrived")}
    before = np.zeros((len(seeds), len(batch.scenario.network.segments)))
    entrances = list(batch.solver.layout.entrances)

    def count_stops(measured: Observables) -> None:
        queued = measured.queue.sum(axis=2)
        queued[:, entrances] += batch.solver.waiting.sum(axis=2)
        sums["stops"] += np.maximum(queued - before, 0.0).sum(axis=1)
        before[...] = queued

    obs, over = batch.observe(), False
    while not over:
        done = batch.step(controller.act(batch, obs), count_stops)
        obs, measured, over = done.obs, done.measured, bool(done.over.all())
        entrance = measured.entrance.sum(axis=(1, 2))
        sums["lost"] += lost_time(measured)
        sums["time"] += measured.vehicles.sum(axis=(1, 2)) + entrance
        sums["queue"] += measured.queue.sum(axis=(1, 2)) + entrance
        sums["out"] += measured.outflow[:, batch.exits].sum(axis=(1, 2))
        sums["arrived"] += measured.arrivals.sum(axis=(1, 2))
    seconds = float(batch.seconds[0])
    arrived = np.maximum(sums["arrived"], 1e-9)
    figures = {
        "delay_s": sums["lost"] / arrived,
        "travel_time_s": sums["time"] / arrived,
        "queue_veh": sums["queue"] / seconds,
        "stops": sums["stops"] / arrived,
        "throughput_veh_per_h": sums["out"] / seconds * 3600.0,
        "unserved_veh": batch.solver.waiting.sum(axis=(1, 2), dtype=np.float64),
    }
    return Result(controller.name, batch.interval, figures)


def means(result: Result) -> dict[str, Estimate]:
    """Mean and 95 % confidence interval of each figure."""
    return {name: estimate(values) for name, values in result.figures.items()}


def difference(result: Result, baseline: Result, figure: str = "delay_s") -> Estimate:
    """Paired difference, result - baseline, with its 95 % confidence interval, in the figure's unit."""
    return estimate(result.figures[figure] - baseline.figures[figure])


def relative(result: Result, baseline: Result, figure: str = "delay_s") -> Estimate:
    """The paired difference over the baseline's mean [-]."""
    found, scale = difference(result, baseline, figure), float(baseline.figures[figure].mean())
    return Estimate(found.mean / scale, found.half_width / scale)


def to_json(results: Sequence[Result], baseline: Result, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that was measured, by controller and episode; plain values."""
    return {
        "seeds": list(seeds),
        "baseline": baseline.name,
        "figures": FIGURES,
        "controllers": [
            {
                "name": result.name,
                "decision_interval_s": result.interval,
                "means": {name: asdict(value) for name, value in means(result).items()},
                "difference": {name: asdict(difference(result, baseline, name)) for name in FIGURES},
                "episodes": {name: values.tolist() for name, values in result.figures.items()},
            }
            for result in results
        ],
    }


def to_markdown(results: Sequence[Result], baseline: Result) -> str:
    """A table: means with confidence intervals, and the paired difference of the delay to `baseline`."""
    header = ["controller", "decides every", *FIGURES.values(), f"delay against {baseline.name}"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for result in results:
        cells = [result.name, f"{result.interval} s"]
        cells += [f"{value.mean:.4g} ± {value.half_width:.2g}" for value in means(result).values()]
        if result is baseline:
            cells.append("")
        else:
            by, share = difference(result, baseline), relative(result, baseline)
            cells.append(f"{by.mean:+.2f} ± {by.half_width:.2f} s ({100 * share.mean:+.1f} %)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
