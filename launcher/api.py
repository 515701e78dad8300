"""The verbs of the command line as methods, for scripts and notebooks: the same functions, their results as values.

What a command prints is printed here too. Where a command ends with another exit code than 0, the method raises the
`launcher.errors.LauncherError` behind it, whose `exit_code` is that code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from kernel.contract import typed
from launcher.runs.ledger import Ledger
from launcher.suggestions import did_you_mean
from launcher.targets.base import LogLine
from launcher.targets.target import named


class Kaglaunch:
    """Launch from Python; `target` is "kaggle" or "local", chosen as the command line does without it.

    `run` is the name of a run everywhere, and the newest of the present folder where it is left out.
    """

    def __init__(self, target: str | None = None) -> None:
        self._forced = None if target is None else named(target, "target")

    def push(
        self,
        *,
        quick: bool = False,
        waive: Sequence[str] = (),
        name: str | None = None,
        note: str = "",
        tags: Sequence[str] = (),
        **settings: Any,
    ) -> str:
        """Check, pack and start a new run; returns its name, which begins with `name` where one is given.

        `settings` are the options of `kaglaunch push`: timesteps, checkpoint_freq, seed, env, include, device,
        accelerator, max_hours; or any other key of kaglaunch.toml's [run] and [session].
        """
        from launcher.commands import push

        started = push.push(
            quick=quick,
            forced=self._forced,
            flags=_flags(**settings),
            waive=waive,
            dry_run=False,
            watch_it=False,
            relay_it=False,
            as_json=False,
            name=name,
            note=note,
            tags=tags,
        )
        assert started is not None
        return started

    def preflight(self, *, quick: bool = False, waive: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
        """The checklist of a push with the same arguments, as `preflight --json` has it; a failure raises nothing."""
        from launcher import config
        from launcher.commands import push
        from launcher.targets import target

        effective = config.resolve(_flags(**settings), quick=quick)
        proposal = push.propose(effective, target.choose(self._forced), quick=quick, waive=waive)
        return typed.plain(proposal.examine(typer.echo).document())

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
        from launcher import downloads
        from launcher.commands import fetch_checkpoints

        shown = downloads.for_terminal(typer.echo)
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
        require_exact: bool = False,
        allow_changed: Sequence[str] = (),
        watch: bool = True,
    ) -> dict[str, Any]:
        """Go on from the newest verified checkpoint in a new session; returns the run's report."""
        from launcher.commands import resume

        run_id = self._named(run)
        session = _session(device, accelerator, max_hours)
        session |= {"require_exact": require_exact or None, "allow_changed": list(allow_changed) or None}
        resume.resume(run_id, flags={"session": session}, watch_it=watch, here=here)
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

    def adopt(self, run: str) -> dict[str, Any]:
        """Take over a run that another machine pushed; returns its report."""
        from launcher.commands import adopt

        adopt.adopt(run, self._forced)
        return self.report(run)

    def report(self, run: str | None = None) -> dict[str, Any]:
        """What a run has done, what is safe and what a kill has cost, as `report --json` has it."""
        from launcher.commands import report

        return typed.plain(report.asked(run)[1])

    def runs(self) -> list[dict[str, Any]]:
        """Every run that is known on this machine, newest first, as `runs --json` has it."""
        from launcher.commands import runs

        return typed.plain(runs.listing())

    def status(self, run: str | None = None) -> dict[str, Any]:
        """Where the newest session of a run stands, as `status --json` has it."""
        from launcher.commands import status

        return typed.plain(status.standing(run))

    def logs(self, run: str | None = None, *, session: int | None = None) -> Iterator[LogLine]:
        """The log of a session, line by line."""
        from launcher.commands import logs

        return logs.lines(run, session)

    def quota(self) -> dict[str, Any]:
        """GPU hours used, reserved and left this week, as `quota --json` has it."""
        from launcher.commands import quota
        from launcher.targets import target

        chosen = target.choose(self._forced)
        return typed.plain(quota.document(chosen, quota.left(chosen)))

    def evaluate(
        self,
        *controllers: str,
        agents: Sequence[str] = (),
        scenario: str | None = None,
        demand: str | None = None,
        seeds: int = 50,
    ) -> dict[str, Any]:
        """Controllers, and runs or checkpoint files, on the same held-out traffic, as `evaluate --json` has it."""
        from launcher.commands import evaluate

        return evaluate.compared(controllers, agents, {"seeds": seeds, "scenario": scenario, "demand": demand})

    def doctor(self) -> dict[str, Any]:
        """Whether this machine can launch, as `doctor --json` has it; a failed check raises nothing here."""
        from launcher.checks import machine
        from launcher.commands import doctor

        return typed.plain(doctor.document(list(machine.examine(self._forced))))

    def _named(self, run: str | None) -> str:
        """The name of the run that is meant: a newer one may come while this one is worked on."""
        return Ledger().run(run).run_id


def _flags(**settings: Any) -> dict[str, dict[str, Any]]:
    """Section -> key -> value of what was given by keyword.

    Raises
    ------
    ConfigError
        A keyword that no section has.
    """
    from launcher.config import Keywords, RunSettings, SessionSettings
    from launcher.errors import ConfigError

    known = {
        section: [field.name for field in dataclasses.fields(cls)]
        for section, cls in (("run", RunSettings), ("session", SessionSettings))
    }
    flags = Keywords({section: {} for section in known})
    for name, value in settings.items():
        section = next((section for section, names in known.items() if name in names), None)
        if section is None:
            valid = ", ".join(name for names in known.values() for name in names)
            meant = did_you_mean(name, [name for names in known.values() for name in names])
            raise ConfigError(f"There is no setting {name!r}.{meant} The valid ones: {valid}.")
        flags[section][name] = list(value) if isinstance(value, tuple) else value
    return flags


def _session(device: str | None, accelerator: str | None, max_hours: float | None) -> dict[str, Any]:
    return {"device": device, "accelerator": accelerator, "max_hours": max_hours}
