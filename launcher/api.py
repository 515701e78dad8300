"""The verbs of the command line as methods, for scripts and notebooks: what is found is returned, nothing is printed.

Both faces stand on `launcher.runs`. Where a command ends with another exit code than 0, the method raises the
`launcher.errors.LauncherError` behind it, whose `exit_code` is that code. What a verb says of its doing is logged.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Any, ParamSpec, TypeVar, get_type_hints

from kernel.contract import typed
from launcher import comparison, config
from launcher.checks import quota
from launcher.config import Keywords, RunSettings, SessionSettings
from launcher.errors import ConfigError
from launcher.runs import adoption, alive, standings, submission
from launcher.runs.ledger import Ledger
from launcher.runs.proposal import Proposal, propose
from launcher.runs.run import RunHandle
from launcher.runs.viewer import LoggedScreen
from launcher.suggestions import did_you_mean
from launcher.targets import target as targets
from launcher.targets.base import LogLine
from launcher.targets.target import named

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def _typed(verb: Callable[P, R]) -> Callable[P, R]:
    """`verb`, which raises ConfigError by name for an argument of another type than it declares.

    A path is taken for its text, a number of numpy for Python's.
    """
    signature = inspect.signature(verb)
    several, settings = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD

    @functools.wraps(verb)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound, hints = signature.bind(*args, **kwargs), get_type_hints(verb)
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if name != "self" and kind is not settings:
                hint = GenericAlias(tuple, (hints[name], ...)) if kind is several else hints[name]
                try:
                    bound.arguments[name] = typed.value_of(name, _plain(value), hint)
                except typed.WrongType as error:
                    raise ConfigError(f"{error}.") from error
        return verb(*bound.args, **bound.kwargs)

    return called


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return value
        case os.PathLike():
            return os.fspath(value)
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


class Kaglaunch:
    """Launch from Python; `target` is "kaggle" or "local", chosen as the command line does without it.

    `run` is the name of a run everywhere, and the newest of the present folder where it is left out.
    """

    @_typed
    def __init__(self, target: str | None = None) -> None:
        self._forced = None if target is None else named(target, "target")

    @_typed
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
        proposal = self._proposed(settings, quick=quick, waive=waive, name=name, note=note, tags=tags)
        submission.require_training(proposal.handle.target)
        proposal.start(proposal.examine(logger.info))
        return proposal.run.run_id

    @_typed
    def preflight(self, *, quick: bool = False, waive: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
        """The checklist of a push with the same arguments, as `preflight --json` has it; a failure raises nothing."""
        return typed.plain(self._proposed(settings, quick=quick, waive=waive).examine(logger.info).document())

    @_typed
    def watch(self, run: str | None = None) -> dict[str, Any]:
        """Follow the newest session of a run to its end; returns the run's report."""
        handle = RunHandle.of(run)
        handle.watch_to_the_end(LoggedScreen)
        return _report(handle)

    @_typed
    def fetch_checkpoints(
        self, run: str | None = None, *, everything: bool = False, step: int | None = None
    ) -> list[Path]:
        """Bring checkpoints back, each verified; returns their files."""
        handle = RunHandle.of(run)
        results = handle.fetch(everything=everything, step=step)
        handle.require_fetched(results, step)
        return [result.path for result in results if result.path is not None]

    @_typed
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
        handle = RunHandle.of(run)
        asked = _session(device, accelerator, max_hours)
        asked |= {"require_exact": require_exact or None, "allow_changed": list(allow_changed) or None}
        flags = {"session": asked}
        following = handle.next_session_here(flags) if here else handle.next_session(flags)
        if following.finished:
            return _report(handle)
        if here:
            handle.start_here(following, max_hours)
        else:
            handle.push(following)
        if watch:
            limits = following.settings.watch
            follow = handle.watch_here if here else handle.watch
            handle.outcome(follow(LoggedScreen(), limits))
        return _report(handle)

    @_typed
    def relay(
        self,
        run: str | None = None,
        *,
        device: str | None = None,
        accelerator: str | None = None,
        max_hours: float | None = None,
    ) -> dict[str, Any]:
        """Chain sessions until all timesteps are done; returns the run's report."""
        handle = RunHandle.of(run)
        handle.relay({"session": _session(device, accelerator, max_hours)}, LoggedScreen)
        return _report(handle)

    @_typed
    def cancel(self, run: str | None = None) -> dict[str, Any]:
        """End the newest session of a run for certain; returns the run's report.

        Raises
        ------
        AmbiguousRun
            Several runs of the present folder are alive, and none was named.
        """
        if run is None:
            alive.require_only_one(Ledger())
        handle = RunHandle.of(run)
        handle.cancel()
        return _report(handle)

    @_typed
    def adopt(self, run: str) -> dict[str, Any]:
        """Take over a run that another machine pushed; returns its report."""
        chosen = targets.choose(self._forced)
        adoption.adopt(run, chosen.connect(), Ledger(), chosen.name.value, Path.cwd(), logger.info)
        return self.report(run)

    @_typed
    def report(self, run: str | None = None) -> dict[str, Any]:
        """What a run has done, what is safe and what a kill has cost, as `report --json` has it."""
        return _report(RunHandle.of(run))

    def runs(self) -> list[dict[str, Any]]:
        """Every run that is known on this machine, newest first, as `runs --json` has it."""
        return typed.plain(standings.listing())

    @_typed
    def status(self, run: str | None = None) -> dict[str, Any]:
        """Where the newest session of a run stands, as `status --json` has it."""
        return typed.plain(standings.standing(run))

    @_typed
    def note(
        self, run: str | None = None, *, text: str | None = None, tags: Sequence[str] = (), untag: Sequence[str] = ()
    ) -> dict[str, Any]:
        """What its owner wrote down about a run, changed where something is given: `run_id`, `note` and `tags`."""
        described = RunHandle.of(run).describe(note=text, tags=tags, untag=untag)
        return {"run_id": described.run_id, "note": described.note, "tags": list(described.tags)}

    @_typed
    def logs(self, run: str | None = None, *, session: int | None = None) -> Iterator[LogLine]:
        """The log of a session, line by line."""
        return RunHandle.of(run).log(session)

    def quota(self) -> dict[str, Any]:
        """GPU hours used, reserved and left this week, as `quota --json` has it."""
        chosen = targets.choose(self._forced)
        return typed.plain(quota.document(chosen, quota.told(chosen)))

    @_typed
    def evaluate(
        self,
        *controllers: str,
        agents: Sequence[str] = (),
        scenario: str | None = None,
        demand: str | None = None,
        seeds: int = 50,
    ) -> dict[str, Any]:
        """Controllers, and runs or checkpoint files, on the same held-out traffic, as `evaluate --json` has it."""
        if seeds < 2:
            raise ConfigError(f"seeds must be 2 or more; got {seeds}.")
        options = {"seeds": seeds, "scenario": scenario, "demand": demand}
        return typed.plain(comparison.compared(controllers, agents, options, logger.info))

    def doctor(self) -> dict[str, Any]:
        """Whether this machine can launch, as `doctor --json` has it; a failed check raises nothing here."""
        from launcher.checks import machine  # loads the client of the target

        return typed.plain(machine.document(list(machine.examine(self._forced))))

    def _proposed(self, settings: Mapping[str, Any], *, quick: bool, **asked: Any) -> Proposal:
        effective = config.resolve(_flags(**settings), quick=quick)
        return propose(effective, targets.choose(self._forced), quick=quick, **asked)


def _report(handle: RunHandle) -> dict[str, Any]:
    return typed.plain(handle.report(ask=True))


def _flags(**settings: Any) -> dict[str, dict[str, Any]]:
    """Section -> key -> value of what was given by keyword.

    Raises
    ------
    ConfigError
        A keyword that no section has.
    """
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
