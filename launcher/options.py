"""Options and arguments that several verbs share, and how they become flags of `launcher.config`."""

# Annotations are not postponed here: typer would have to compile each of them again at every start.

from typing import Annotated, Any

import typer

from launcher import completion

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Run to act on, or how its name begins; the newest of this folder by default.",
        autocompletion=completion.known_runs,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="kaggle|local",
        help="kaggle.com or the embedded Kaggle; by default kaggle where credentials are found, else local.",
        autocompletion=completion.targets,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda",
        help="Where solver and policy run; a cpu session costs no GPU quota.",
        autocompletion=completion.devices,
    ),
]
MaxHours = Annotated[float | None, typer.Option(metavar="HOURS", help="Session limit that Kaggle is told.")]
Accelerator = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Machine shape of a session that is not on the cpu, as NvidiaTeslaT4.",
        autocompletion=completion.accelerators,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; a script needs it.")]
ReportJson = Annotated[
    bool, typer.Option("--json", help="The run's report as JSON on standard output; all else goes to standard error.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="100 timesteps, a checkpoint every 10: proves the whole way in minutes.")
]
Timesteps = Annotated[int | None, typer.Option(metavar="N", help="Timesteps of the whole run.")]
CheckpointFreq = Annotated[int | None, typer.Option(metavar="N", help="Timesteps between two checkpoints.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of the training.")]
Env = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FACTORY",
        help="Your own gymnasium environment; or an id of gymnasium.",
        autocompletion=completion.environments,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="File or folder that goes with it; again for more. Default: env's module.",
        autocompletion=completion.paths,
    ),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHECK", help="Push although this check fails; again for more.", autocompletion=completion.checks
    ),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="WORD", help="Word to find it by; again for more.", autocompletion=completion.tags),
]
Controllers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONTROLLER",
        help="Names, as in actuated or actuated:detector_m=20,gap_veh=0.7; all by default.",
        autocompletion=completion.controllers,
    ),
]
Agent = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUN|FILE",
        help="A run of this machine, or a checkpoint file; may be given again.",
        autocompletion=completion.known_runs,
    ),
]
Scenario = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Scenario name or TOML file; the agent's by default.",
        autocompletion=completion.scenarios,
    ),
]
Demand = Annotated[
    str | None, typer.Option(metavar="NAME", help="Demand profile of the scenario.", autocompletion=completion.demands)
]
Fault = Annotated[
    str | None,
    typer.Argument(metavar="NAME=VALUE", help="Fault to set.", autocompletion=completion.faults),
]


def target_of(choice: str | None) -> Any:
    """The target's name as `launcher.targets.target` has it.

    Raises
    ------
    UsageError
        There is no such target.
    """
    from launcher.targets import target

    return None if choice is None else target.named(choice, "--target")


def run_flags(
    timesteps: int | None,
    checkpoint_freq: int | None,
    seed: int | None,
    env: str | None,
    include: list[str] | None,
    device: str | None,
    accelerator: str | None,
    max_hours: float | None,
) -> dict[str, dict[str, Any]]:
    """What a push and its preflight have in common, as `launcher.config` takes it.

    Raises
    ------
    ConfigError
        One of them cannot be.
    """
    run = {"timesteps": timesteps, "checkpoint_freq": checkpoint_freq, "seed": seed, "env": env}
    return _possible({"run": {**run, "include": include or None}, **_session(device, accelerator, max_hours)})


def session_flags(
    device: str | None, accelerator: str | None, max_hours: float | None, **more: object
) -> dict[str, dict[str, Any]]:
    """What a later session may be given, as `launcher.config` takes it.

    Raises
    ------
    ConfigError
        One of them cannot be.
    """
    flags = _session(device, accelerator, max_hours)
    return _possible({"session": {**flags["session"], **more}})


def _session(device: str | None, accelerator: str | None, max_hours: float | None) -> dict[str, dict[str, Any]]:
    return {"session": {"device": device, "accelerator": accelerator, "max_hours": max_hours}}


def _possible(flags: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    from launcher import config

    config.require_possible(flags)
    return flags
