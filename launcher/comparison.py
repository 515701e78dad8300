"""Controllers and trained agents on the same held-out traffic, compared in a process that can simulate."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kernel.contract import events, typed
from kernel.contract.manifest import checkpoints_in
from launcher import catalogue, training_extra
from launcher.documents.comparison import Comparison
from launcher.errors import CheckpointError, LauncherError, NotCompared, NotFound
from launcher.runs.ledger import Ledger

DEFAULT_SCENARIO = "crossing"
WRONG_USAGE, NOT_PLOTTED = 2, 3
"""Exit statuses of the process that compares: what was asked for is not there; the plot alone failed."""


class NotPlotted(LauncherError):
    """Raised when the plot of a comparison could not be written; `found` has the comparison."""

    def __init__(self, message: str, found: Comparison) -> None:
        super().__init__(message)
        self.found = found


def compared(
    controllers: Sequence[str],
    agents: Sequence[str],
    options: Mapping[str, object],
    note: Callable[[str], object] = lambda text: None,
) -> Comparison:
    """Simulate and compare; `options` are those of the process that compares.

    `note` is told of each part as it begins.

    Raises
    ------
    NotCompared
        Something asked for is not there, or does not go together.
    CheckpointError
        A checkpoint cannot be used.
    TrainingMissing
        This machine cannot simulate.
    NotFound
        A run has no checkpoint on this machine.
    NotPlotted
        The file of the option `plot` could not be written.
    """
    scenario, demand = (None if options.get(key) is None else str(options[key]) for key in ("scenario", "demand"))
    catalogue.require_compared(controllers, scenario if agents else scenario or DEFAULT_SCENARIO, demand)
    checkpoints = [_checkpoint(agent) for agent in agents]
    training_extra.require("`evaluate` simulates on this machine", packages=training_extra.COMPARING)
    words = [*controllers, *(word for path in checkpoints for word in ("--checkpoint", str(path)))]
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "kernel.training.compare", *words, "--json"]
    code, printed, said = _run(command, note)
    if code == WRONG_USAGE:
        raise NotCompared(said)
    if code not in (0, NOT_PLOTTED):
        raise CheckpointError(said)
    found = typed.read(Comparison, {name: value for name, value in json.loads(printed).items() if name != "schema"})
    if code == NOT_PLOTTED:
        raise NotPlotted(said, found)
    return found


def _run(command: Sequence[str], note: Callable[[str], object]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `command`, the phases taken out of the last."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, encoding="utf-8", errors="replace") as process,
    ):
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:
                match events.parse(line):
                    case events.Phase(detail=doing):
                        note(doing[:1].upper() + doing[1:])
                    case _:
                        said += line
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        output.seek(0)
        return code, output.read(), said.strip()


def _checkpoint(agent: str) -> Path:
    if agent.endswith(".zip"):
        path = Path(agent)
        if not path.is_file():
            raise NotCompared(f"There is no checkpoint {agent}.")
        return path
    run = Ledger().run(agent)
    newest = next(iter(checkpoints_in(run.checkpoints)), None)
    if newest is None:
        raise NotFound(
            f"Run {run.run_id} has no checkpoint on this machine. "
            f"Bring it with `kaglaunch fetch-checkpoints {run.run_id}`."
        )
    return newest
