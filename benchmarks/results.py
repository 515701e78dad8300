"""Agents against tuned baselines: trains, tunes, compares on held-out demand, and writes docs/results.md.

python -m benchmarks.results [CASE ...]

Every figure comes from a run of this machine. Trainings go through `python -m kernel` with the shipped recipes, two at
a time; one that was stopped goes on from its last checkpoint, one that has finished is not repeated (folder .results).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from arz_model.control import scenarios, tuning
from arz_model.control.comparison import Result, difference, drive, means, relative
from arz_model.control.controllers import FixedTime, Policy, RandomPhase, Webster
from arz_model.control.scenarios import Scenario
from arz_model.control.statistics import Estimate
from benchmarks import svg
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.manifest import checkpoints_in
from kernel.contract.names import num_timesteps_of
from kernel.training.policy import load_policy

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".results"
TUNED = tuning.TUNING_SEEDS
PAGE, PLOTS = ROOT / "docs" / "results.md", ROOT / "docs" / "results"
SEEDS = (1, 2, 3)
"""Training seeds; all are reported."""


@dataclass(frozen=True)
class Case:
    """One scenario with one demand profile, and the bars that the scenario's agents have to pass there."""

    scenario: str
    demand: str
    bars: tuple[tuple[str, float], ...]
    """(baseline, share): each agent's upper confidence limit must be below minus this share of the baseline's delay."""

    @property
    def name(self) -> str:
        """As in file names."""
        return f"{self.scenario}-{self.demand}".replace("_", "-")

    def load(self) -> Scenario:
        """The scenario with its profile."""
        return scenarios.choose(scenarios.load(self.scenario), self.demand)


SINGLE = (
    ("fixed 60/60", 0.40),
    ("Webster", 0.20),
    ("Webster, 15 min", 0.15),
    ("best fixed time", 0.15),
    ("max-pressure", 0.15),
    ("longest queue", 0.15),
    ("actuated, 5 s", -0.02),
    ("actuated, 5 s", 0.0),
    ("actuated, 1 s", -0.05),
    ("actuated, 1 s", 0.0),
)
CASES = (
    *(Case("crossing", demand, SINGLE) for demand in ("peak", "near", "moderate")),
    *(Case("lagos", demand, SINGLE) for demand in ("peak", "near", "moderate")),
    Case("corridor", "peak", (("fixed 60/60", 0.40), ("green wave", 0.15), *SINGLE[-4:])),
    Case("crossing_four_phases", "peak", tuple((name, 0.0) for name in dict.fromkeys(name for name, _ in SINGLE))),
)


def recipe(scenario: str, seed: int) -> RunConfig:
    """The shipped recipe of the scenario."""
    text = (files("arz_model") / "recipes" / f"{scenario}.toml").read_text(encoding="utf-8")
    run = tomllib.loads(text)["run"]
    name = scenario.replace("_", "-")
    return RunConfig(run_id=f"{name}-seed-{seed}", total_timesteps=run.pop("timesteps"), seed=seed, **run)


def is_trained(scenario: str, seed: int) -> bool:
    """Whether this training has finished."""
    result = WORK / recipe(scenario, seed).run_id / "result.json"
    return result.is_file() and json.loads(result.read_text())["status"] == "finished"


def train(scenario: str, seed: int) -> Path:
    """The folder of the finished training; begun, continued or found."""
    run = recipe(scenario, seed)
    folder = WORK / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    if not is_trained(scenario, seed):
        configuration = Configuration(run, SessionConfig(device="cpu", checkpoint_seconds=60.0))
        (folder / "run.json").write_text(configuration.to_json(), encoding="utf-8")
        began = time.perf_counter()
        with (folder / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "kernel", "--config", "run.json"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
        with (folder / "seconds.txt").open("a") as spent:
            spent.write(f"{time.perf_counter() - began:.1f}\n")
    return folder


def curve(folder: Path) -> list[tuple[int, float]]:
    """(timestep, validation return) of a training."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["num_timesteps"], row["eval/mean_reward"]) for row in rows if "eval/mean_reward" in row]


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint with the best validation return, among those kept."""
    scores = dict(curve(folder))
    return max(
        (path for path in checkpoints_in(folder / "checkpoints") if num_timesteps_of(path.name) in scores),
        key=lambda path: scores[num_timesteps_of(path.name) or 0],
    )


def tuning_file(case: Case) -> Path:
    """Where a case's tuned baselines are kept."""
    return WORK / f"{case.name}-tuned.json"


def tuned_baselines(case: Case, scenario: Scenario) -> list[dict[str, Any]]:
    """Family, parameters and grid of each tuned baseline; kept in .results because a grid takes a minute.

    A point of the grid is its values, the mean delay [s/veh] and the number of episodes that it was driven on.
    """
    path = tuning_file(case)
    if not path.is_file():
        rows = []
        for family in tuning.families(scenario):
            found = tuning.tune(family, scenario)
            grid = [[list(point), round(fmean(delays), 3), len(delays)] for point, delays in found.delays.items()]
            rows.append({"family": family.name, "parameters": found.parameters, "grid": grid})
        WORK.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows))
    rows = json.loads(path.read_text())
    return list(rows)


def tune_aside(case: Case) -> None:
    """Tune a case's baselines in a process of its own, so that two cores can share the work."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.results", "--tune-only", case.name]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def compare(case: Case) -> dict[str, Any]:
    """Everything that the page says about a case; simulated now."""
    scenario, seeds = case.load(), tuning.TEST_SEEDS
    n_phases = len(scenario.intersections[0].phases)
    tuned = tuned_baselines(case, scenario)
    makers = {family.name: family.make for family in tuning.families(scenario)}
    controllers: list[Any] = [
        FixedTime([60] * n_phases, name="fixed 60/60"),
        *(FixedTime(greens, name=f"{name} plan") for name, greens in scenario.fixed_time.items()),
        Webster(),
        Webster(4, name="Webster, 15 min"),
        *(makers[row["family"]](**row["parameters"]) for row in tuned),
    ]
    baselines = [drive(controller, scenario, seeds) for controller in controllers]
    folders = [WORK / recipe(case.scenario, seed).run_id for seed in SEEDS]
    chosen = [best_checkpoint(folder) for folder in folders]
    models = [load_policy(path).model for path in chosen]
    interval, env_kwargs = scenario.decision_interval, recipe(case.scenario, SEEDS[0]).env_kwargs
    agents = [
        drive(Policy(model, f"agent, seed {seed}", interval, env_kwargs), scenario, seeds)
        for model, seed in zip(models, SEEDS, strict=True)
    ]
    controls = [
        drive(RandomPhase(name="random policy"), scenario, seeds),
        drive(Policy(models[0], "agent, shuffled observations", interval, env_kwargs, shuffled=True), scenario, seeds),
    ]
    by_name = {result.name: result for result in baselines}
    return {
        "case": case,
        "baselines": baselines,
        "agents": agents,
        "controls": controls,
        "tuned": tuned,
        "chosen": [path.name for path in chosen],
        "folders": folders,
        "bars": [(name, share, *judge(agents, controls, by_name[name], share)) for name, share in case.bars],
    }


def judge(
    agents: list[Result], controls: list[Result], baseline: Result, share: float
) -> tuple[list[Estimate], bool, list[bool]]:
    """Each agent's relative difference, whether all agents pass, and which negative controls pass."""

    def passes(result: Result) -> bool:
        return relative(result, baseline).high < -share

    found = [relative(agent, baseline) for agent in agents]
    return found, all(passes(agent) for agent in agents), [passes(control) for control in controls]


def percent(value: Estimate) -> str:
    """As in a table."""
    return f"{100 * value.mean:+.1f} ± {100 * value.half_width:.1f} %"


def section(found: dict[str, Any]) -> str:
    """The page's part on one case."""
    case, scenario = found["case"], found["case"].load()
    agents: list[Result] = found["agents"]
    lines = [
        f"## {case.scenario}, demand `{case.demand}`",
        "",
        f"{scenario.description} Demand: {scenario.profiles[case.demand].description}. "
        f"Checkpoints with the best validation return: {', '.join(found['chosen'])}.",
        "",
        "| controller | decides every | delay s/veh | in network s/veh | queue veh | stops | veh/h | unserved veh | "
        + " | ".join(f"seed {seed} against it" for seed in SEEDS)
        + " |",
        "|" + "---|" * (8 + len(SEEDS)),
    ]
    for result in [*found["baselines"], *agents, *found["controls"]]:
        cells = [result.name, f"{result.interval} s"]
        cells += [f"{v.mean:.4g} ± {v.half_width:.2g}" for v in means(result).values()]
        against = [""] * len(agents) if result in agents else [percent(relative(agent, result)) for agent in agents]
        lines.append("| " + " | ".join([*cells, *against]) + " |")
    lines += ["", "| bar | " + " | ".join(f"seed {s}" for s in SEEDS) + " | all seeds | negative controls |"]
    lines.append("|" + "---|" * (3 + len(SEEDS)))
    for name, share, estimates, passed, fooled in found["bars"]:
        asked = (
            f"at least {100 * share:.0f} % below {name}"
            if share > 0
            else f"below {name}"
            if share == 0
            else f"at most {-100 * share:.0f} % above {name}"
        )
        fails = "pass it" if any(fooled) else "fail it, as they must"
        verdict = "reached" if passed else "not reached"
        lines.append(f"| {asked} | {' | '.join(map(percent, estimates))} | {verdict} | {fails} |")
    parameters = "; ".join(
        f"{row['family']} {', '.join(f'{k} = {v}' for k, v in row['parameters'].items())}" for row in found["tuned"]
    )
    lines += [
        "",
        f"Tuned on the tuning seeds: {parameters}. "
        f"Every point of every grid: [{case.name}.json](results/{case.name}.json).",
        "",
    ]
    return "\n".join(lines)


def wall_time(folder: Path) -> float:
    """Seconds that a training took, all its parts."""
    return sum(map(float, (folder / "seconds.txt").read_text().split()))


def training(scenario: str, folders: list[Path]) -> str:
    """The page's part on the trainings of a scenario; writes their learning curves."""
    run = recipe(scenario, SEEDS[0])
    seconds = map(wall_time, folders)
    curves = {f"seed {seed}": curve(folder) for seed, folder in zip(SEEDS, folders, strict=True)}
    lines = {name: ([t for t, _ in points], [r for _, r in points]) for name, points in curves.items()}
    plot = svg.plot(scenario, "timesteps", "mean return of the validation episodes", lines)
    (PLOTS / f"{scenario}.svg").write_text(plot, encoding="utf-8")
    return (
        f"## Training on {scenario}\n\n{run.total_timesteps:,} timesteps a seed with demand "
        f"`{run.env_kwargs['demand']}`; wall time {', '.join(f'{s:.0f} s' for s in seconds)}, two trainings side by "
        f"side.\n\n![Validation return while training](results/{scenario}.svg)\n"
    )


def write(all_found: list[dict[str, Any]], seconds: float, n_trained: int, n_tuned: int) -> None:
    """docs/results.md, its plots, and every grid and figure as JSON; some of it was finished before."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    for found in all_found:
        case = found["case"]
        results = [*found["baselines"], *found["agents"], *found["controls"]]
        figures = {r.name: {k: asdict(v) for k, v in means(r).items()} for r in results}
        paired = {
            r.name: [asdict(difference(agent, r)) for agent in found["agents"]]
            for r in [*found["baselines"], *found["controls"]]
        }
        document = {"figures": figures, "agents_against_s_per_veh": paired, "tuned": found["tuned"]}
        (PLOTS / f"{case.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    reached = sum(bar[3] for found in all_found for bar in found["bars"])
    total = sum(len(found["bars"]) for found in all_found)
    trained = sum(map(wall_time, {folder for found in all_found for folder in found["folders"]}))
    first, last = tuning.TEST_SEEDS[0], tuning.TEST_SEEDS[-1]
    crossing = [found for found in all_found if found["case"].scenario == "crossing"]
    folders = {found["case"].scenario: found["folders"] for found in all_found}
    same_pace = ("actuated, 5 s", 0.0)
    ahead = [
        found["case"].demand
        for found in crossing
        for name, share, _, passed, _ in found["bars"]
        if passed and (name, share) == same_pace
    ]
    summary = (
        f"On the crossing all agents are below the actuated controller that decides as often as they do in\n"
        f"{len(ahead)} of {len(crossing)} demands ({', '.join(ahead) or 'none'}).\n"
        if crossing
        else ""
    )
    finer = [name for name in folders if "change_step_s" in recipe(name, SEEDS[0]).env_kwargs]
    foresight = (
        f"Agents of {', '.join(finer)} say with a decision at which second of its\n"
        "5 s a change begins; they see nothing in between. The actuated controller of 5 s changes at once or not.\n"
        if finer
        else ""
    )
    head = f"""# What trained agents gain

Written by `make results` (`python -m benchmarks.results`) on {os.cpu_count()} cores, Python
{platform.python_version()}. The trainings took {trained / 60:.0f} minutes of one core in all, two side by side;
the call that wrote this page {seconds / 60:.0f} minutes, tunings and comparisons included;
{n_trained} trainings and {n_tuned} tunings were finished before it.
{reached} of {total} bars are reached, each by all of {len(SEEDS)} training seeds; those that are not are printed as
not reached.
{summary}
Agents are PPO with the recipes of `arz_model/recipes`, trained through `python -m kernel`: one for each scenario and
seed, on one demand profile, judged on every profile below; they decide every 5 s.
{foresight}Baselines are tuned for each profile
on demand seeds {TUNED[0]}-{TUNED[-1]}, all points of a grid on the first quarter of them and the best third on all;
agents are validated on seeds of their own (1,000,000 and up), and the
checkpoint with the best validation return counts. All are compared on the {len(tuning.TEST_SEEDS)} held-out episodes
of demand seeds {first}-{last}: the same vehicles for each. Numbers are means with 95 % t-intervals over episodes;
differences are paired, agent minus controller, over the controller's mean. A bar is reached when the upper confidence
limit of every seed is below it. Webster knows each episode's true flows beforehand. Delay counts all vehicles that
arrived, entrance queues included, over one hour that begins with empty roads. Detectors and observations are exact: no
noise. Traffic is simulated by the model that the agents were trained on.

"""
    parts = [section(found) for found in all_found] + [training(*item) for item in folders.items()]
    PAGE.write_text(head + "\n".join(parts), encoding="utf-8")


def main() -> int:
    """Train what is missing, then compare and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(case.name for case in CASES)}; all by default")
    parser.add_argument("--side-by-side", type=int, default=2, help="trainings and tunings at a time, one core each")
    parser.add_argument("--tune-only", action="store_true", help="tune the baselines, train and write nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in CASES)}.")
    wanted = [case for case in CASES if not arguments.cases or case.name in arguments.cases]
    if arguments.tune_only:
        for case in wanted:
            tuned_baselines(case, case.load())
        return 0
    longest_first = sorted(wanted, key=lambda case: -recipe(case.scenario, SEEDS[0]).total_timesteps)
    names = list(dict.fromkeys(case.scenario for case in longest_first))
    n_trained = sum(is_trained(name, seed) for name in names for seed in SEEDS)
    n_tuned = sum(tuning_file(case).is_file() for case in wanted)
    began = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below, which have a core each: numpy would take all of them
    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        tunings = [pool.submit(tune_aside, case) for case in longest_first]
        jobs = {pool.submit(train, name, seed): (name, seed) for name in names for seed in SEEDS}
        for job, (name, seed) in jobs.items():
            sys.stderr.write(f"{name}, seed {seed}: {job.result()}\n")
        for tuning_job in tunings:
            tuning_job.result()
    with ProcessPoolExecutor(arguments.side_by_side, get_context("spawn")) as processes:
        found = dict(zip(longest_first, processes.map(compare, longest_first), strict=True))
    write([found[case] for case in wanted], time.perf_counter() - began, n_trained, n_tuned)
    sys.stderr.write(f"{PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
