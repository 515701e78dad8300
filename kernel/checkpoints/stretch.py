"""A stretch of a training that a process of its own executes again: the checkpoint it begins at, those it comes to.

    run.json · checkpoints/checkpoint_t200.zip · expected/checkpoint_t300.zip · working/ · printed · outcome.json

Files are linked where the disk can, so that a stretch costs nothing until what it holds is pruned elsewhere. Standard
library only; who executes it is `kernel.training.repetition`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kernel import channel, pinning, processes, signals
from kernel.contract import chunks, events
from kernel.contract.config import Configuration
from kernel.contract.events import Event, Inexact, Proved, Unproved
from kernel.contract.files import write_aside
from kernel.contract.manifest import Manifest, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS, CONFIGURATION

EXPECTED = "expected"
OUTCOME = "outcome.json"
MARK = "KAGLAUNCH_REPETITION"
PRINTED = "printed"
Outcome = Proved | Inexact | Unproved


@dataclass(frozen=True)
class Stretch:
    """A folder that holds what one repetition needs."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, configuration: Configuration) -> Stretch:
        """A new one in `folder`, of a run that keeps its results to itself when it is executed again."""
        (folder / CHECKPOINTS).mkdir(parents=True)
        (folder / EXPECTED).mkdir()
        session = replace(
            configuration.session, dataset="", max_timesteps_at_risk=0, require_exact=False, on_unhealthy="warn"
        )
        alone = replace(configuration, session=session)
        (folder / CONFIGURATION).write_text(alone.to_json(), "utf-8")
        return cls(folder)

    def begin_at(self, checkpoint: Path, manifest: Manifest) -> None:
        """It begins at this checkpoint.

        Raises
        ------
        OSError, CheckpointInvalid
            It is gone, or lists what cannot be.
        """
        _link(checkpoint, self.folder / CHECKPOINTS / checkpoint.name)
        for chunk in chunks.listed(manifest):
            target = self.folder / CHECKPOINTS / chunks.FOLDER / chunk.name
            target.parent.mkdir(exist_ok=True)
            _link(chunks.path_of(checkpoint, chunk), target)

    def come_to(self, checkpoint: Path) -> None:
        """It is to come to this one."""
        _link(checkpoint, self.folder / EXPECTED / checkpoint.name)

    def expected(self) -> list[tuple[Path, Manifest]]:
        """What it is to come to, earliest first."""
        return [(path, verify(path)) for path in reversed(checkpoints_in(self.folder / EXPECTED))]

    def start(self, start: Callable[..., subprocess.Popen[Any]] = subprocess.Popen) -> subprocess.Popen[Any]:
        """Begin the process that executes it again, in a group of its own; it ends with this one."""
        environment = {name: value for name, value in os.environ.items() if name != channel.VARIABLE}
        pinning.pin(environment)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        environment["KAGLAUNCH_PARENT"] = str(os.getpid())
        environment[MARK] = self.mark
        working = self.folder / "working"
        working.mkdir(exist_ok=True)
        arguments = ["--config", str(self.folder / CONFIGURATION), "--folder", str(self.folder), "--repeat"]
        with (self.folder / PRINTED).open("wb") as printed:
            return start(
                [sys.executable, "-u", "-m", "kernel.training", *arguments],
                cwd=working,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def mark(self) -> str:
        """What its process has in MARK, and all that this one starts."""
        return str(self.folder.resolve())

    def end(self, process: subprocess.Popen[Any]) -> None:
        """Kill the process that executes it, and what its environments started, wherever that went; reap it."""
        signals.end_group(process)
        processes.kill_marked(MARK, self.mark)

    def last_line(self) -> str:
        """The last line that the process printed."""
        try:
            lines = (self.folder / PRINTED).read_bytes()[-4096:].decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def tell(self, outcome: Outcome) -> None:
        """Say how it came out."""
        write_aside(self.folder / OUTCOME, json.dumps(outcome.plain()).encode())

    def outcome(self) -> Outcome | None:
        """How it came out; None where nobody said."""
        try:
            found: Event = events.from_plain(json.loads((self.folder / OUTCOME).read_text("utf-8")))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, Outcome) else None

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
