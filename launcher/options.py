"""Options and arguments that several verbs share, and how they become flags of `launcher.config`."""

# Annotations are not postponed here: typer would have to compile each of them again at every start.

import enum
from typing import Annotated, Any

import typer

from launcher.errors import LauncherError


class Device(enum.StrEnum):
    """Where solver and policy run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class TargetChoice(enum.StrEnum):
    """Where kernels run."""

    kaggle = "kaggle"
    local = "local"


def _known_runs(incomplete: str) -> list[str]:
    """Names of runs that the shell may complete to; a ledger that cannot be read completes to none."""
    from launcher.runs.ledger import Ledger

    try:
        return [run.run_id for run in Ledger().runs() if run.run_id.startswith(incomplete)]
    except (LauncherError, OSError):
        return []


RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="Run to act on; the newest one by default.", autocompletion=_known_runs),
]
Target = Annotated[
    TargetChoice | None,
    typer.Option(help="kaggle.com or the embedded Kaggle; by default kaggle where credentials are found, else local."),
]
DeviceOption = Annotated[
    Device | None, typer.Option(help="Where solver and policy run; a cpu session costs no GPU quota.")
]
MaxHours = Annotated[float | None, typer.Option(help="Session limit that Kaggle is told.")]
Accelerator = Annotated[str | None, typer.Option(help="Machine shape of a session that is not on the cpu.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
ReportJson = Annotated[
    bool, typer.Option("--json", help="The run's report as JSON on standard output; all else goes to standard error.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="100 timesteps, a checkpoint every 10: proves the whole way in minutes.")
]
Timesteps = Annotated[int | None, typer.Option(help="Timesteps of the whole run.")]
CheckpointFreq = Annotated[int | None, typer.Option(help="Timesteps between two checkpoints.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the training.")]
Env = Annotated[
    str | None, typer.Option(metavar="MODULE:FACTORY", help="Your own gymnasium environment; or an id of gymnasium.")
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="File or folder that goes with it; again for more. Default: env's module."),
]
Waive = Annotated[
    list[str] | None, typer.Option(metavar="CHECK", help="Push although this check fails; again for more.")
]


def target_of(choice: TargetChoice | None) -> Any:
    """The target's name as `launcher.targets.target` has it."""
    from launcher.targets.target import TargetName

    return None if choice is None else TargetName(choice.value)


def run_flags(
    timesteps: int | None,
    checkpoint_freq: int | None,
    seed: int | None,
    env: str | None,
    include: list[str] | None,
    device: Device | None,
    accelerator: str | None,
    max_hours: float | None,
) -> dict[str, dict[str, Any]]:
    """What a push and its preflight have in common, as `launcher.config` takes it."""
    run = {"timesteps": timesteps, "checkpoint_freq": checkpoint_freq, "seed": seed, "env": env}
    return {
        "run": {**run, "include": include or None},
        "session": {"device": value_of(device), "accelerator": accelerator, "max_hours": max_hours},
    }


def value_of(choice: enum.StrEnum | None) -> str | None:
    """The choice as text."""
    return None if choice is None else choice.value
