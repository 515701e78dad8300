"""Controllers and trained policies on the same held-out episodes.

python -m kernel.training.compare --scenario crossing --demand peak actuated --checkpoint checkpoint_t1000.zip
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arz_model.control.controllers import Policy
    from arz_model.control.scenarios import Scenario

NOT_COMPARED, WRONG_USAGE, NOT_PLOTTED = 1, 2, 3
FIRST_SEED = 1_000
"""Held out: neither baselines nor agents are tuned on the episodes of these seeds."""


def main(argv: list[str] | None = None) -> int:
    """Write the comparison to stdout; with the reason on stderr, exit 2 where something asked for is not there
    or does not go together, 1 where a file cannot be used, 3 where the plot alone could not be written. With --json
    stderr has a `phase` for each part too."""
    parser = argparse.ArgumentParser(prog="python -m kernel.training.compare", description=__doc__)
    parser.add_argument("controllers", nargs="*", help="names, as in actuated or actuated:detector_m=20,gap_veh=0.7")
    parser.add_argument("--checkpoint", action="append", default=[], type=Path, help="a trained policy; repeatable")
    parser.add_argument("--scenario", help="name or TOML file; that of the checkpoint, else crossing")
    parser.add_argument("--demand", help="demand profile of the scenario")
    parser.add_argument("--decision-interval-s", type=int, help="of agents, and of controllers that take any")
    parser.add_argument("--seeds", type=int, default=50, help="number of held-out episodes")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", action="store_true", help="everything measured, by episode")
    parser.add_argument("--plot", type=Path, help="SVG file for the mean delays")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 2:
        parser.error(f"--seeds must be at least 2 for an interval; got {arguments.seeds}.")
    if arguments.plot and (problem := _unwritable(arguments.plot)):
        sys.stderr.write(f"{problem}\n")
        return WRONG_USAGE
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from arz_model.parameters import ParameterError
    from kernel.contract.manifest import CheckpointInvalid

    try:
        drawing = _compare(arguments)
    except ParameterError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USAGE
    except (CheckpointInvalid, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return NOT_COMPARED
    return _plotted(arguments.plot, drawing) if arguments.plot else 0


def _unwritable(plot: Path) -> str:
    """Why the file `plot` cannot be written, as far as a look tells before anything is computed; empty where it can."""
    if not os.path.isdir(plot.parent):  # False, where pathlib raises, for a name that no file system takes
        return f"--plot names {plot}, and there is no folder {plot.parent}. Make it, or name another file."
    if os.path.isdir(plot):
        return f"--plot names {plot}, which is a folder. Name a file in it."
    if not os.access(plot.parent, os.W_OK):
        return f"--plot names {plot}, and nothing can be written in {plot.parent}. Name a file elsewhere."
    return ""


def _plotted(plot: Path, drawing: str) -> int:
    """Write the drawing, whole or not at all: the comparison has been said before."""
    from kernel.contract.files import aside

    try:
        with aside(plot) as file:
            file.write(drawing.encode())
    except OSError as error:
        sys.stderr.write(f"{plot} could not be written: {error.strerror}. The comparison itself is whole.\n")
        return NOT_PLOTTED
    return 0


def _compare(arguments: argparse.Namespace) -> str:
    """Write what was measured to stdout; returns the drawing of its mean delays."""
    from arz_model.control import comparison, scenarios
    from arz_model.control.chart import bars
    from arz_model.control.controllers import CONTROLLERS, Controller, Policy, by_name
    from kernel.contract import events
    from kernel.contract.manifest import CheckpointInvalid
    from kernel.training.environments import is_batched
    from kernel.training.policy import load_policy

    def say(doing: str) -> None:
        if arguments.json:  # a program reads it
            events.emit(events.Phase(phase="comparing", detail=doing), sys.stderr)

    say("loading the simulator and the trained policies" if arguments.checkpoint else "loading the simulator")
    trained = [(path, load_policy(path)) for path in arguments.checkpoint]
    for path, found in trained:
        if not is_batched(found.run):
            raise CheckpointInvalid(f"{path.name} was trained on {found.run.env}, not on the traffic environment")
    known = copy.deepcopy(trained[0][1].run.env_kwargs) if trained else {}
    name = arguments.scenario or known.get("scenario", "crossing")
    demand = arguments.demand or (known.get("demand") if arguments.scenario in (None, known.get("scenario")) else None)
    interval = arguments.decision_interval_s or known.get("decision_interval_s")
    scenario = scenarios.choose(scenarios.load(name), demand, interval)
    controllers: list[Controller] = [by_name(text) for text in arguments.controllers or list(CONTROLLERS)]
    for path, found in trained:
        agent = f"{found.run.run_id} t{found.num_timesteps}"
        policy = Policy(found.model, agent, scenario.decision_interval, copy.deepcopy(found.run.env_kwargs))
        _require_same_spaces(path, policy, found.model, scenario)
        controllers.append(policy)
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    results = []
    for at, controller in enumerate(controllers, 1):
        say(f"{len(seeds)} episodes with {controller.name} ({at} of {len(controllers)})")
        results.append(comparison.drive(controller, scenario, seeds, device=arguments.device))
    baseline = results[0]
    if arguments.json:
        found_json = comparison.to_json(results, baseline, seeds)
        found_json |= {"schema": 1, "scenario": scenario.name, "demand": scenario.profile}
        sys.stdout.write(json.dumps(found_json, indent=2) + "\n")
    else:
        sys.stdout.write(
            f"{scenario.name}, demand {scenario.profile}: {len(seeds)} held-out episodes of {scenario.duration} s, "
            f"mean ± half-width of the 95 % confidence interval\n\n{comparison.to_markdown(results, baseline)}\n"
        )
    delays = {result.name: comparison.means(result)["delay_s"] for result in results}
    return bars(f"{scenario.name}, demand {scenario.profile}, {len(seeds)} episodes", "mean delay [s/veh]", delays)


def _require_same_spaces(path: Path, policy: Policy, model: Any, scenario: Scenario) -> None:
    from arz_model.control.batch import TrafficBatch
    from arz_model.control.env import make_spaces
    from arz_model.parameters import ParameterError

    observation, action = make_spaces(TrafficBatch(scenario, **policy.interface))
    wanted: tuple[int, ...] = model.observation_space.shape
    seen = observation.shape or ()
    if seen != wanted:
        raise ParameterError(
            f"{path.name} was trained on observations of {wanted[0]} numbers; this scenario has {seen[0]}. "
            "Give the --scenario that it was trained on."
        )
    if action != model.action_space:
        raise ParameterError(
            f"{path.name} was trained to choose from {model.action_space}; here are {action}. "
            "Give the --decision-interval-s that it was trained with."
        )


if __name__ == "__main__":
    sys.exit(main())
