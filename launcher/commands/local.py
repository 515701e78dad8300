"""`kaglaunch local …`: the embedded Kaggle of this machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import typer

from kernel.contract import typed
from launcher import suggestions, tables
from launcher.commands.say import can_ask, say
from launcher.documents import printed
from launcher.documents.local_kaggle import RunningLocalKaggle, StoppedLocalKaggle
from launcher.errors import BackendUnavailable, NotAgreed, UsageError
from launcher.local_kaggle.faults import KINDS
from launcher.local_kaggle.service import LocalKaggle, ServiceError
from launcher.local_kaggle.settings import Settings
from launcher.local_kaggle.states import ACTIVE_SESSION
from launcher.runs import alive
from launcher.runs.alive import Owned
from launcher.runs.ledger import Ledger
from launcher.tables import columns, counted, duration
from launcher.targets import target
from launcher.waiting import waiting

SHOWN = 10
"""Newest sessions that a person is shown."""


def start(port: int | None) -> None:
    """Start it where it does not run."""
    try:
        with waiting("Starting the embedded Kaggle"):
            endpoint = target.local_kaggle().ensure_running(port=port)
    except ServiceError as error:
        raise BackendUnavailable(str(error)) from error
    say(f"The embedded Kaggle runs at {endpoint.url} (process {endpoint.pid}).")


def status(*, as_json: bool) -> None:
    """Show where it runs and what runs in it.

    Raises
    ------
    BackendUnavailable
        It was started by another version, whose answer this one cannot read.
    """
    told = target.local_kaggle().status()
    if not told["running"]:
        stopped = "The embedded Kaggle does not run; whatever needs it starts it, and `kaglaunch local start` does."
        typer.echo(printed.text(StoppedLocalKaggle()) if as_json else stopped)
        return
    found = running(told)
    typer.echo(printed.text(found) if as_json else shown(found))


def running(told: Mapping[str, Any]) -> RunningLocalKaggle:
    """What a server that runs says of itself.

    Raises
    ------
    BackendUnavailable
        Not in the words of this version.
    """
    try:
        return typed.read(RunningLocalKaggle, told)
    except typed.WrongType as error:
        raise BackendUnavailable(
            f"The embedded Kaggle was started by another version of kaglaunch: of its status, {error}.\n"
            "When no session runs in it, stop it with `kaglaunch local stop`; the next push starts this version's."
        ) from error


def stop(*, agreed: Callable[[str], bool]) -> None:
    """Stop it, the sessions that are alive in it with it, where `agreed` says yes to the question that names them.

    Without a terminal nobody is asked about sessions of the present folder's own runs.

    Raises
    ------
    NotAgreed
        It said no: everything goes on.
    BackendUnavailable
        It does not answer.
    """
    service = target.local_kaggle()
    try:
        with waiting("Asking what runs in the embedded Kaggle"):
            living = alive.owned(Ledger(), _alive(service))
        lines = [f"  {_whose(one)}" for one in living]
        if living and (can_ask() or not all(one.here for one in living)):
            few = (
                f"{counted(len(living), 'session')} in the embedded Kaggle {'is' if len(living) == 1 else 'are'} alive"
            )
            if not agreed("\n".join([f"{few}, and stopping it kills what runs in it:", *lines])):
                raise NotAgreed("Nothing was stopped.")
        stopped = service.stop()
    except ServiceError as error:
        raise BackendUnavailable(str(error)) from error
    say("The embedded Kaggle was stopped." if stopped else "The embedded Kaggle did not run.")
    if living:
        say("\n".join(["Killed with it:", *lines]))


def _alive(service: LocalKaggle) -> list[str]:
    """Slugs of the kernels whose sessions wait or run; those that outlived their server are asked of a new one."""
    if service.find() is None and service.has_survivors():
        service.ensure_running()
    sessions = service.status().get("sessions", ())
    return [str(one["kernel"]).partition("/")[2] for one in sessions if one["state"] in ACTIVE_SESSION]


def _whose(one: Owned) -> str:
    """A session that is alive, in words: run, folder and what is at risk, as far as anybody here knows."""
    if one.run is None or one.told is None:
        return f"{one.slug}, of no run that is known here"
    told = f"session {one.told.session} of run {one.run.run_id} of {one.run.pushed_from}: "
    if one.told.done_timesteps is None or one.told.at_risk_timesteps is None:
        return f"{told}no timestep of it is known yet"
    total = one.run.config.total_timesteps
    return f"{told}{one.told.done_timesteps:,} of {total:,} timesteps done, {one.told.at_risk_timesteps:,} at risk"


def fault(assignment: str | None, *, clear: bool) -> None:
    """Set a fault, clear all, or list those that are set."""
    service = target.local_kaggle()
    name, _, text = (assignment or "").partition("=")
    known = [kind.name for kind in KINDS]
    if assignment is not None and name not in known:
        meant = suggestions.did_you_mean(name, known)
        raise UsageError(f"There is no fault {name!r}.{meant} There are {', '.join(known)}.")
    try:
        service.ensure_running()
        if clear:
            service.clear_faults()
        elif assignment is not None:
            service.set_fault(name, _value(text))
        say(json.dumps(service.faults(), indent=2))
    except ServiceError as error:
        raise UsageError(str(error)) from error


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def shown(found: RunningLocalKaggle) -> str:
    """What `status` tells a person, no wider than any terminal is."""
    return tables.paragraphs("\n".join(_lines(found)), tables.NARROW)


def _lines(found: RunningLocalKaggle) -> list[str]:
    """Where it runs, its sessions and what is left of its week; settings that were changed, and faults."""
    gpu = found.quota["gpu"]
    left_h = max(0.0, gpu.total_h - gpu.used_h - gpu.reserved_h)
    refresh = gpu.refresh_at[:16].replace("T", " ")
    versions = sum(len(dataset.versions) for dataset in found.datasets)
    lines = [
        f"The embedded Kaggle runs at {found.url} (process {found.pid}).",
        f"  files      {found.state_dir}",
        f"  GPU quota  {left_h:.2f} h of {gpu.total_h:g} h left until {refresh} UTC",
        f"  datasets   {len(found.datasets)}, {counted(versions, 'version')}",
    ]
    if found.clock.offset_s:
        lines.append(f"  clock      {duration(found.clock.offset_s)} ahead")
    ordinary = dataclasses.asdict(Settings())
    changed = [f"{name} {value}" for name, value in found.settings.items() if value != ordinary.get(name)]
    if changed:
        lines.append(f"  settings   {', '.join(changed)}")
    if found.faults:
        lines.append(f"  faults     {', '.join(found.faults)} (`kaglaunch local fault --clear` takes them back)")
    if not found.sessions:
        return [*lines, "No session was ever pushed to it."]
    body = [
        [
            one.kernel.partition("/")[2],
            one.machine,
            one.state,
            duration(one.running_s),
            one.failure_message or "",
        ]
        for one in found.sessions[-SHOWN:]
    ]
    older = len(found.sessions) - SHOWN
    more = [f"{older} older ones are in `--json`."] if older > 0 else []
    return [*lines, *columns(["session", "machine", "state", "ran", "failure"], body, tables.NARROW), *more]
