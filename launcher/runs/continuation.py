"""Go on with a run: what became of its last session, the newest checkpoint wherever it is, the session that follows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kernel.contract.names import num_timesteps_of
from launcher import config
from launcher.config import Settings
from launcher.errors import NotFound, Refused
from launcher.runs import checkpoints, hand_over, submission
from launcher.runs.bound_run import BoundRun
from launcher.runs.checkpoints import Fetched
from launcher.runs.endings import Submission
from launcher.runs.records import Session
from launcher.runs.submission import Prepared
from launcher.targets.base import Compute, SessionState, Status
from launcher.targets.here import HereBackend

LOST_PUSH_S = 120.0
"""A push whose answer was lost may still turn up for this long."""
LOST_PUSH_LOOKS_S = (0.5, 1.0, 2.0, 4.0)


class SessionRuns(Refused):
    """Raised when the newest session of the run has not ended yet."""


@dataclass(frozen=True)
class Start:
    """Where the next session starts."""

    newest: Fetched | None
    """The newest checkpoint that verifies, in the run's folder; None starts at timestep 0."""
    mounts: bool
    """The run has a dataset, and its newest version is what a session on the target mounts."""
    only_here: bool
    """The newest version does not hold that checkpoint: it must be handed over first."""

    @property
    def num_timesteps(self) -> int:
        """Timesteps that are done and safe."""
        return self.newest.num_timesteps if self.newest else 0


def settled(bound: BoundRun, *, sleep: Callable[[float], object] = time.sleep) -> Session:
    """The newest session, over for certain, its final state in the ledger.

    A push whose answer nobody heard is settled by looking; one that is not there for certain is `absent`.

    Raises
    ------
    SessionRuns
        It is not over.
    """
    last, run_id = bound.newest, bound.run_id
    try:
        state = _look(bound.compute(last), bound.run.slug(last.number), last, sleep)
    except NotFound:
        if last.submission != Submission.pushed:
            bound.update(last.number, submission=Submission.absent)
        return bound.session(last.number)
    bound.update(last.number, status=state.status.value, message=state.message, submission=Submission.pushed)
    if not state.status.final or state.status is Status.NEW_SCRIPT:
        raise SessionRuns(
            f"Session {last.number} of run {run_id} is {state.status.value}; two sessions of one run would undo "
            f"each other's work.\nFollow it with `kaglaunch watch {run_id}`, or end it with "
            f"`kaglaunch cancel {run_id}`."
        )
    return bound.session(last.number)


def may_turn_up(session: Session) -> bool:
    """Whether the push of `session` is not answered yet, and so young that the target may still take it."""
    return session.submission != Submission.pushed and time.time() - session.pushed < LOST_PUSH_S


def starting_point(bound: BoundRun) -> Start:
    """The newest verified checkpoint among dataset versions, kernel outputs and the run's folder."""
    store, dataset = bound.backend, bound.run.dataset
    results = checkpoints.fetch(bound.run, store, bound.ledger, transfers=bound.transfers)
    remote = next((result for result in results if result.path), None)
    newest = max(filter(None, (remote, settle_here(bound))), key=lambda found: found.num_timesteps, default=None)
    versions = store.dataset_versions(dataset)
    mounted: int | None = None
    if versions:
        origin = f"version {versions[0].number}"
        names = [file.name.rsplit("/", 1)[-1] for file in store.dataset_files(dataset, versions[0].number)]
        steps = [found for found in map(num_timesteps_of, names) if found is not None]
        spoilt = [result.num_timesteps for result in results if result.path is None and result.origin == origin]
        mounted = max((t for t in steps if t not in spoilt), default=None)
    return Start(newest, bool(versions), newest is not None and mounted != newest.num_timesteps)


def settle_here(bound: BoundRun) -> Fetched | None:
    """Write into the ledger how far a session on this machine came; returns the newest verified checkpoint here."""
    newest = checkpoints.newest_here(bound.run)
    if newest is not None and newest.manifest is not None:
        wrote = {session.number: session for session in bound.sessions}.get(newest.manifest.session)
        if wrote is not None and wrote.here:
            done = newest.num_timesteps
            result = HereBackend(bound.run).result(wrote.number) or wrote.result
            bound.update(wrote.number, published_timesteps=done, seen_timesteps=done, result=result)
    return newest


def push_next(bound: BoundRun, last: Session, start: Start, settings: Settings) -> tuple[Prepared, str]:
    """Push the session after `last`, its checkpoint handed over where only this machine has it.

    Raises
    ------
    Refused, SubmissionUnknown, SessionTaken, CheckpointError
        See `submission.start` and `hand_over.hand_over`.
    """
    number = last.number + 1
    prepared = submission.prepare(bound, number, settings, resumes=start.mounts or start.only_here)
    _require_unused(bound, number)
    if start.only_here:
        hand_over.hand_over(bound, last.number, settings)
    address = submission.start(bound, prepared, settings, after=last.number)
    bound.update(number, resumed_timesteps=start.num_timesteps)
    return prepared, address


def next_settings(flags: Mapping[str, Any], last: Session) -> Settings:
    """This machine's configuration, with what the session before had where nothing else is asked."""
    settings = config.load(flags)
    asked = flags.get("session", {})
    inherited: dict[str, Any] = {"device": last.device}
    if not last.here:
        inherited |= {
            "max_hours": last.max_seconds / 3600,
            "publish_interval_s": last.publish_interval_seconds,
            "max_timesteps_at_risk": last.max_timesteps_at_risk,
        }
    kept = {name: value for name, value in inherited.items() if asked.get(name) is None}
    return dataclasses.replace(settings, session=dataclasses.replace(settings.session, **kept))


def _look(compute: Compute, slug: str, last: Session, sleep: Callable[[float], object]) -> SessionState:
    """The state of a kernel; one that may still turn up is looked for more than once."""
    for wait_s in LOST_PUSH_LOOKS_S if may_turn_up(last) else ():
        try:
            return compute.state(slug)
        except NotFound:
            sleep(wait_s)
    return compute.state(slug)


def _require_unused(bound: BoundRun, number: int) -> None:
    """A kernel of that name was pushed from elsewhere: pushing it again would start it a second time."""
    try:
        bound.backend.state(bound.run.slug(number))
    except NotFound:
        return
    raise SessionRuns(
        f"Session {number} of run {bound.run_id} was to be pushed, and the target has one already: it was pushed from "
        f"another machine.\nTake it over with `kaglaunch adopt {bound.run_id}`."
    )
