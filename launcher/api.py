"""The verbs of the command line as methods, for scripts and notebooks: the same functions, their results as values.

What a command prints is printed here too. Where a command ends with another exit code than 0, the method raises the
`launcher.errors.LauncherError` behind it, whose `exit_code` is that code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from launcher.backends.base import LogLine
from launcher.ledger import Ledger
from launcher.target import TargetName


class Kaglaunch:
    """Launch from Python; `target` is "kaggle" or "local", chosen as the command line does without it.

    `run` is the name of a run everywhere, and the newest one where it is left out.
    """

    def __init__(self, target: str | None = None) -> None:
        self._forced = None if target is None else TargetName(target)

    def push(
        self,
        *,
        quick: bool = False,
        timesteps: int | None = None,
        checkpoint_freq: int | None = None,
        seed: int | None = None,
        env: str | None = None,
        include: Sequence[str] | None = None,
        device: str | None = None,
        accelerator: str | None = None,
        max_hours: float | None = None,
        waive: Sequence[str] = (),
    ) -> str:
        """Check, pack and start a new run; returns its name."""
        from launcher.commands import push

        run = {"timesteps": timesteps, "checkpoint_freq": checkpoint_freq, "seed": seed, "env": env}
        paths = {"include": None if include is None else list(include)}
        started = push.push(
            quick=quick,
            forced=self._forced,
            flags={"run": run | paths, "session": _session(device, accelerator, max_hours)},
            waive=waive,
            dry_run=False,
            watch_it=False,
            relay_it=False,
            as_json=False,
        )
        assert started is not None
        return started

    def watch(self, run: str | None = None) -> dict[str, Any]:
        """Follow the newest session of a run to its end; returns the run's report."""
        from launcher.commands import watch

        run_id = self._named(run)
        watch.watch(run_id, json_lines=False)
        return self.report(run_id)

    def fetch_checkpoints(
        self, run: str | None = None, *, everything: bool = False, step: int | None = None
    ) -> list[Path]:
        """Bring checkpoints back, each verified; returns their files."""
        from launcher import transfers
        from launcher.commands import fetch_checkpoints

        shown = transfers.for_terminal(typer.echo)
        _, results = fetch_checkpoints.fetched(run, everything=everything, step=step, shown=shown)
        return [result.path for result in results if result.path is not None]

    def resume(
        self,
        run: str | None = None,
        *,
        device: str | None = None,
        accelerator: str | None = None,
        max_hours: float | None = None,
        here: bool = False,
        watch: bool = True,
    ) -> dict[str, Any]:
        """Go on from the newest verified checkpoint in a new session; returns the run's report."""
        from launcher.commands import resume

        run_id = self._named(run)
        flags = {"session": _session(device, accelerator, max_hours)}
        resume.resume(run_id, flags=flags, watch_it=watch, here=here)
        return self.report(run_id)

    def relay(
        self,
        run: str | None = None,
        *,
        device: str | None = None,
        accelerator: str | None = None,
        max_hours: float | None = None,
    ) -> dict[str, Any]:
        """Chain sessions until all timesteps are done; returns the run's report."""
        from launcher.commands import relay

        run_id = self._named(run)
        relay.relay(run_id, flags={"session": _session(device, accelerator, max_hours)})
        return self.report(run_id)

    def cancel(self, run: str | None = None) -> dict[str, Any]:
        """End the newest session of a run for certain; returns the run's report."""
        from launcher.commands import cancel

        run_id = self._named(run)
        cancel.cancel(run_id)
        return self.report(run_id)

    def report(self, run: str | None = None) -> dict[str, Any]:
        """What a run has done, what is safe and what a kill has cost, as `report --json` has it."""
        from launcher import reporting

        book = Ledger()
        found = book.run(run)
        return reporting.as_json(found, reporting.report(found, book))

    def runs(self) -> list[dict[str, Any]]:
        """Every run that is known on this machine, newest first, as `runs --json` has it."""
        from launcher.commands import runs

        return runs.listing()

    def status(self, run: str | None = None) -> dict[str, Any]:
        """Where the newest session of a run stands, as `status --json` has it."""
        from launcher.commands import status

        return status.standing(run)

    def logs(self, run: str | None = None, *, session: int | None = None) -> Iterator[LogLine]:
        """The log of a session, line by line."""
        from launcher.commands import logs

        return logs.lines(run, session)

    def quota(self) -> dict[str, Any]:
        """GPU hours used, reserved and left this week, as `quota --json` has it."""
        from launcher import target
        from launcher.commands import quota

        chosen = target.choose(self._forced)
        return quota.plain(chosen, quota.left(chosen))

    def doctor(self) -> dict[str, Any]:
        """Whether this machine can launch, as `doctor --json` has it; a failed check raises nothing here."""
        from launcher.checks import machine
        from launcher.commands import doctor

        return doctor.plain(list(machine.examine(self._forced)))

    def _named(self, run: str | None) -> str:
        """The name of the run that is meant: a newer one may come while this one is worked on."""
        return Ledger().run(run).run_id


def _session(device: str | None, accelerator: str | None, max_hours: float | None) -> dict[str, Any]:
    return {"device": device, "accelerator": accelerator, "max_hours": max_hours}
