"""What a shell offers for a word that is being typed: all that this machine, and in a moment the target, knows.

Each function takes what typer gives it, the context of the words before and the beginning of the word; what cannot be
read offers nothing.
"""

# Annotations are not postponed here: typer would have to compile each of them again at every start.

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from launcher.errors import LauncherError

Complete = Callable[[typer.Context, str], list[str]]
MOST_SOURCES = 50
"""Files of a folder that are looked into for environments."""


def _offering(names: Callable[[typer.Context, str], Iterable[str]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [name for name in names(ctx, incomplete) if name.startswith(incomplete)]
        except (LauncherError, OSError):
            return []

    return complete


def _run_of(ctx: typer.Context) -> Any:
    """The run that was typed before, or the newest of this folder."""
    from launcher.runs.ledger import Ledger

    # With an option whose value is still missing, the words before it are not parsed to their end.
    return Ledger().run(ctx.params.get("run") or next(iter(ctx.args), None))


@_offering
def known_runs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.runs.ledger import Ledger

    return [run.run_id for run in Ledger().runs()]


@_offering
def unknown_runs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Runs that the target has and this machine does not know; a target that is silent for a moment has none."""
    from kernel.contract import names
    from launcher.runs.ledger import Ledger
    from launcher.runs.look import BOUND_S
    from launcher.targets import target

    forced = ctx.params.get("target")
    chosen = target.choose(target.named(forced, "--target") if forced else None)
    if chosen.name is target.TargetName.local and target.local_kaggle().find() is None:
        return []  # a key that is pressed starts no server
    known = {run.run_id for run in Ledger().runs()}
    found = [names.session_of_kernel(slug) for slug in chosen.quick_look(time.monotonic() + BOUND_S).kernels()]
    return dict.fromkeys(named[0] for named in found if named is not None and named[0] not in known)


@_offering
def tags(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.runs.ledger import Ledger

    return sorted({tag for run in Ledger().runs() for tag in run.tags})


@_offering
def sessions(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.runs.ledger import Ledger

    return [str(session.number) for session in Ledger().sessions(_run_of(ctx).run_id)]


@_offering
def steps(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Timesteps of the checkpoints that lie here, or that a log or the ledger says are published; newest first."""
    from kernel.contract import events
    from kernel.contract.manifest import checkpoints_in
    from kernel.contract.names import num_timesteps_of
    from launcher.runs import kept_log
    from launcher.runs.ledger import Ledger

    run = _run_of(ctx)
    known = {num_timesteps_of(path.name) for path in checkpoints_in(run.checkpoints)}
    for session in Ledger().sessions(run.run_id):
        known.add(session.published_timesteps)
        if (log := run.log(session.number)).exists():
            told = (events.parse(line.text) for line in kept_log.kept_lines(log))
            known |= {event.num_timesteps for event in told if isinstance(event, events.Published)}
    return [str(timesteps) for timesteps in sorted((one for one in known if one), reverse=True)]


@_offering
def changeable(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from kernel.contract.config import CHANGEABLE

    return CHANGEABLE


@_offering
def devices(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher import config

    return config.DEVICES


@_offering
def accelerators(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher import config

    return config.ACCELERATORS


@_offering
def environments(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Factories of this folder's own modules, the traffic environment, and gymnasium's ids."""
    from kernel.contract.names import TRAFFIC
    from launcher import catalogue, environment

    own = []
    for source in sorted(Path().glob("*.py"))[:MOST_SOURCES]:
        defined = environment.definitions(source.read_bytes())
        own += [f"{source.stem}:{factory}" for factory in (defined.factories if defined is not None else ())]
    return [*own, TRAFFIC, *catalogue.environments()]


@_offering
def paths(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Files and folders, a `/` behind the latter; hidden ones are none that a bundle takes."""
    folder, _, _ = incomplete.rpartition("/")
    typed = incomplete[: len(folder) + 1] if "/" in incomplete else ""
    for entry in sorted(Path(typed or ".").iterdir()):
        if not entry.name.startswith("."):
            yield f"{typed}{entry.name}{'/' if entry.is_dir() else ''}"


@_offering
def checks(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.checks import preflight

    return preflight.WAIVABLE


@_offering
def controllers(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher import catalogue

    return catalogue.controllers()


@_offering
def scenarios(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher import catalogue

    return catalogue.scenarios()


@_offering
def demands(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher import catalogue

    return catalogue.demands(ctx.params.get("scenario") or "crossing")


@_offering
def faults(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.local_kaggle.faults import KINDS

    return [f"{kind.name}=" for kind in KINDS]


@_offering
def targets(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    from launcher.targets.target import TargetName

    return [name.value for name in TargetName]


@_offering
def verbs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Verbs, and those of the group that was typed before."""
    group: Any = ctx.find_root().command
    for word in ctx.params.get("verb") or ():
        group = group.commands.get(word)
    return getattr(group, "commands", {})
