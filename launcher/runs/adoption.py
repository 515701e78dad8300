"""Runs that were pushed from another machine: found on the target by their names, proved by what they hold.

A kernel `<run>-s<number>` is a session of ours when its script is one of our bundles and says so. The script also tells
the configuration and the researcher's own files, which later sessions need.
"""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel.contract import events, names
from kernel.contract.config import ConfigurationError, RunConfig, SessionConfig, from_mapping
from kernel.contract.files import write_aside
from launcher.errors import AmbiguousRun, BackendError, BackendUnavailable, UnknownRun
from launcher.packing import bundle
from launcher.packing.bundle import Bundle, Unreadable
from launcher.packing.project import Project
from launcher.runs.endings import DELETED, Submission
from launcher.runs.ledger import Ledger
from launcher.runs.look import published_by_session
from launcher.runs.progress import Progress
from launcher.runs.records import Run, new_run
from launcher.targets.base import Backend, Kernel, Status

logger = logging.getLogger(__name__)

FIRST_LINES = 50
"""The session event is the first line that a session prints; a little may stand before it."""


@dataclass
class Found:
    """What the target has under the names of one run."""

    run_id: str
    sessions: list[int] = field(default_factory=list)
    """Numbers of the sessions whose kernels are there."""
    dataset: bool = False


def remote_runs(backend: Backend) -> list[Found]:
    """Everything on the target that is named as runs are, newest first."""
    runs: dict[str, Found] = {}
    for slug in backend.kernels():
        if named := names.session_of_kernel(slug):
            run_id, session = named
            runs.setdefault(run_id, Found(run_id)).sessions.append(session)
    for slug in backend.datasets():
        if of_run := names.run_of_dataset(slug):
            runs.setdefault(of_run, Found(of_run)).dataset = True
    for found in runs.values():
        found.sessions.sort()
    return list(runs.values())


def unknown_runs(backend: Backend, ledger: Ledger) -> list[Found]:
    """Those that the ledger does not know, or of which it misses sessions."""
    known = {run.run_id: {session.number for session in ledger.sessions(run.run_id)} for run in ledger.runs()}
    return [f for f in remote_runs(backend) if f.run_id not in known or set(f.sessions) - known[f.run_id]]


def _meant(name: str, runs: Sequence[Found]) -> Found | None:
    if exact := next((one for one in runs if one.run_id == name), None):
        return exact
    begun = [one for one in runs if name and one.run_id.startswith(name)]
    if len(begun) > 1:
        listed = "\n".join(f"  kaglaunch adopt {one.run_id}" for one in begun)
        raise AmbiguousRun(f"{len(begun)} runs of the target begin with {name!r}. Type one of:\n{listed}")
    return begun[0] if begun else None


def adopt(
    run_id: str, backend: Backend, ledger: Ledger, target: str, folder: Path, say: Callable[[str], object]
) -> Run:
    """Write run `run_id`, or the only one that begins so, and its sessions, as the target has them, into the ledger.

    Raises
    ------
    AmbiguousRun
        Several begin so.
    UnknownRun
        The target has nothing that is of this run and can be read; the message says what was looked at.
    """
    found = _meant(run_id, remote_runs(backend))
    if found is None:
        raise UnknownRun(
            f"The target has no kernel {names.kernel_slug(run_id, 1)} and no dataset {names.dataset_slug(run_id)} of "
            f"{backend.username}.\n"
            "`kaglaunch runs --remote` lists what it has."
        )
    run_id = found.run_id
    pushed = {number: kernel for number in found.sessions if (kernel := _pushed(backend, run_id, number, say))}
    published = _published(backend, f"{backend.username}/{names.dataset_slug(run_id)}") if found.dataset else {}
    config = next((kernel.run for kernel in reversed(pushed.values())), None) or _config(run_id, published)
    if config is None:
        raise UnknownRun(
            f"What the target has under the name {run_id} was not pushed by kaglaunch, or by a version that this one "
            "cannot read: neither a kernel's script nor the dataset tells the run's configuration."
        )
    run = next((one for one in ledger.runs() if one.run_id == run_id), None)
    if run is None:
        run = new_run(run_id, target, backend.username, config, folder)
        ledger.add_run(run)
    known = {session.number for session in ledger.sessions(run_id)}
    furthest = published_by_session(backend.dataset_versions(run.dataset)) if found.dataset else {}
    last = max([*pushed, int(published.get("session") or 1)])
    for number in range(1, last + 1):
        if number not in known:
            _add_session(run, number, pushed.get(number), furthest.get(number), backend, ledger)
    newest = pushed[max(pushed)] if pushed else None
    if newest is not None and newest.bundle.project and not run.project.is_dir():
        Project({name: newest.bundle.members[name] for name in newest.bundle.project}).save(run.project)
    return run


@dataclass(frozen=True)
class _Pushed:
    kernel: Kernel
    bundle: Bundle
    run: RunConfig
    session: SessionConfig


def _pushed(backend: Backend, run_id: str, number: int, say: Callable[[str], object]) -> _Pushed | None:
    """What the kernel of a session runs; None when it is none of ours."""
    slug = names.kernel_slug(run_id, number)
    try:
        kernel = backend.pull(slug)
        opened = bundle.opened(kernel.script)
        configuration = opened.configuration
    except BackendUnavailable:
        raise
    except (BackendError, Unreadable, ConfigurationError) as error:
        say(f"The kernel {slug} is left out: {error}")
        return None
    if configuration.run.run_id != run_id or configuration.session.session != number:
        say(f"The kernel {slug} is left out: its script is of run {configuration.run.run_id}.")
        return None
    return _Pushed(kernel, opened, configuration.run, configuration.session)


def _published(backend: Backend, dataset: str) -> dict[str, Any]:
    """`run.json` of the newest version; empty without one."""
    versions = backend.dataset_versions(dataset)
    if not versions:
        return {}
    with tempfile.TemporaryDirectory(prefix="kaglaunch-adopt-") as folder:
        path = Path(folder) / names.RUN
        try:
            backend.download_dataset_file(dataset, versions[0].number, names.RUN, path)
            values = json.loads(path.read_text("utf-8"))
        except BackendUnavailable:
            raise
        except (BackendError, OSError, ValueError) as error:
            logger.info("no %s in %s: %s", names.RUN, dataset, error)
            return {}
    return values if isinstance(values, dict) else {}


def _config(run_id: str, published: dict[str, Any]) -> RunConfig | None:
    try:
        config = from_mapping(RunConfig, published["run"])
    except (ConfigurationError, KeyError, TypeError):
        return None
    return config if config.run_id == run_id else None


def _add_session(
    run: Run, number: int, pushed: _Pushed | None, published: int | None, backend: Backend, ledger: Ledger
) -> None:
    """One row: what the script says, what its log and the dataset's versions say, where it stands."""
    slug = run.slug(number)
    state = backend.state(slug) if pushed else None
    progress = Progress()
    if state is not None and state.status not in (Status.QUEUED, Status.NEW_SCRIPT):
        # What runs is read to its first event only: its log ends when it does.
        _read_log(backend, slug, progress, None if state.status.final else FIRST_LINES)
    session = pushed.session if pushed else SessionConfig()
    known: dict[str, Any] = {
        "submission": Submission.pushed if pushed else Submission.absent,
        "status": state.status.value if state else DELETED,
        "message": state.message if state else "its kernel is not on the target any more",
        "session_id": progress.session_id,
        "total_timesteps": progress.told_total,
        "resumed_timesteps": progress.resumed_timesteps,
        "seen_timesteps": progress.num_timesteps or None,
        "published_timesteps": published,
        "result": progress.result.status if progress.result else "",
        "trains_on": progress.device or "",
        "exactness": progress.known().get("exactness", ""),
        "config_digest": run.config.digest,
    }
    if pushed is not None:
        known |= {"script_sha256": pushed.bundle.digest, "code_digest": pushed.bundle.code_digest}
        write_aside(run.script(number), pushed.kernel.script)
    ledger.begin_session(
        run,
        device=session.device,
        accelerator=pushed.kernel.accelerator if pushed else None,
        max_seconds=session.max_seconds,
        max_timesteps_at_risk=session.max_timesteps_at_risk,
        publish_interval_seconds=session.publish_interval_seconds,
        after=number - 1,
        **known,
    )


def _read_log(backend: Backend, slug: str, progress: Progress, limit: int | None) -> None:
    try:
        for line in itertools.islice(backend.log_lines(slug), limit):
            event = progress.observe(line)
            if limit is not None and isinstance(event, events.Session):
                return
    except BackendError as error:
        logger.info("no log of %s: %s", slug, error)
