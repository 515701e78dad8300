"""The next session of a run on this machine, under the same supervisor, into the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from kernel.contract.config import NO_LIMIT_SECONDS, Configuration, SessionConfig
from launcher import system, training_extra
from launcher.config import Settings, WatchSettings
from launcher.errors import BackendUnavailable, CredentialsError, Interrupted
from launcher.packing import bundle
from launcher.packing.project import Project
from launcher.runs import continuation
from launcher.runs.bound_run import BoundRun
from launcher.runs.continuation import Start
from launcher.runs.endings import Submission
from launcher.runs.records import HERE, Run, Session
from launcher.runs.viewer import Screen
from launcher.runs.watch import Watch
from launcher.targets.base import Kernel, SessionState, Status
from launcher.targets.here import HereBackend, HereBusy

KEEP_ALL = 1_000_000_000
FIRST_CTRL_C = "Ctrl-C: writing a last checkpoint, then ending. Once more ends it now."
SECOND_CTRL_C = "Ctrl-C again: ending now."


def require_training(run: Run) -> None:
    """Raise TrainingMissing when this machine cannot train."""
    elsewhere = f"`kaglaunch resume {run.run_id} --device cpu` costs no GPU quota"
    system.require_posix("`--here` trains on this machine, which", f"Go on with the target: {elsewhere}.")
    training_extra.require(
        "`--here` trains on this machine", f"go on without it on the target: {elsewhere}", training_extra.TRAINING
    )


def where_it_stands(bound: BoundRun) -> tuple[Session, Start]:
    """The last session and the newest checkpoint; a target that cannot be asked is no reason to stop what is here."""
    try:
        return continuation.settled(bound), continuation.starting_point(bound)
    except (BackendUnavailable, CredentialsError) as error:
        newest = continuation.settle_here(bound)
        if newest is None:
            raise
        reason = str(error).split("\n", 1)[0]
        bound.say(f"The target cannot be asked ({reason}): going on from what is on this machine.")
        return bound.newest, Start(newest, mounts=False, only_here=True)


def session_config(settings: Settings, number: int, max_hours: float | None) -> SessionConfig:
    """No dataset and nothing to wait for: this disk outlives the session, so every checkpoint on it is safe."""
    return dataclasses.replace(
        settings.session_config(number, ""),
        max_seconds=max_hours * 3600 if max_hours else NO_LIMIT_SECONDS,
        max_timesteps_at_risk=0,
        publish_interval_seconds=0.0,
        keep_checkpoints=KEEP_ALL,
    )


def begin(bound: BoundRun, session: SessionConfig, start: Start) -> int:
    """Start `session` in a process of this machine that outlives this one; its process id.

    Raises
    ------
    HereBusy, SessionTaken
        A session of the run is alive on this machine, or another command has just begun this one.
    """
    run, ledger = bound.run, bound.ledger
    configuration = Configuration(run.config, session)
    built = bundle.build(configuration, Project.saved(run.project), own_secrets=_secrets(bound))
    number = ledger.begin_session(
        run,
        device=session.device,
        accelerator=None,
        max_seconds=session.max_seconds,
        max_timesteps_at_risk=0,
        publish_interval_seconds=0.0,
        after=session.session - 1,
        target=HERE,
        submission=Submission.pushed,
        status=Status.QUEUED.value,
        script_sha256=built.digest,
        code_digest=built.code_digest,
        config_digest=run.config.digest,
        resumed_timesteps=start.num_timesteps,
    )
    here = HereBackend(run)
    try:
        here.push(Kernel(run.slug(number), built.script, None, round(session.max_seconds)))
    except HereBusy:
        ledger.forget_session(run.run_id, number)
        raise
    return here.session_id(run.slug(number)) or 0


def follow(bound: BoundRun, number: int, limits: WatchSettings, screen: Screen) -> SessionState:
    """Watch session `number` to its end; Ctrl-C asks it to end well, a second one ends it now.

    Raises
    ------
    Interrupted
        It was ended by Ctrl-C; the message says what is safe.
    AlertStop
        An alert ended it.
    """
    run, here = bound.run, HereBackend(bound.run)
    interrupts = 0

    def interrupted(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if (pid := here.alive(number)) is not None:
            here.cancel(pid)
            here.say(number, SECOND_CTRL_C if interrupts > 1 else FIRST_CTRL_C)

    with _on_interrupt(interrupted):
        state = Watch(run, bound.session(number), here, bound.ledger, screen, limits).to_the_end()
    shutil.rmtree(run.temporary, ignore_errors=True)
    continuation.settle_here(bound)
    if interrupts:
        safe = bound.session(number).published_timesteps or 0
        raise Interrupted(
            f"Session {number} of run {run.run_id} was ended by Ctrl-C; t{safe:,} is safe "
            f"in {run.checkpoints}.\nGo on with `kaglaunch resume {run.run_id} --here`, or on the target without "
            "`--here`."
        )
    return state


def _secrets(bound: BoundRun) -> tuple[str, ...]:
    """Credentials of this machine, which must not be in a script: a run goes on without any here."""
    try:
        credentials = bound.target.credentials
    except CredentialsError:
        return ()
    return credentials.secrets if credentials else ()


@contextlib.contextmanager
def _on_interrupt(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
