"""The next session of a run on this machine, under the same supervisor, into the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from kernel.contract.config import Configuration, SessionConfig
from kernel.contract.files import write_aside
from launcher import system, training_extra
from launcher.config import Settings, WatchSettings
from launcher.errors import BackendUnavailable, CredentialsError, Interrupted
from launcher.packing import bundle
from launcher.packing.project import Project
from launcher.runs import continuation, submission
from launcher.runs.continuation import Start
from launcher.runs.ledger import HERE, Ledger, Run, Session
from launcher.runs.viewer import Screen
from launcher.runs.watch import Watch
from launcher.targets import target
from launcher.targets.base import SessionState
from launcher.targets.here import HereBackend, environment
from launcher.targets.target import Target
from launcher.transfers import Transfers

NO_LIMIT_S = 10 * 365 * 86_400.0
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


def where_it_stands(run: Run, ledger: Ledger, transfers: Transfers) -> tuple[Target | None, Session, Start]:
    """The last session and the newest checkpoint; a target that cannot be asked is no reason to stop what is here."""
    chosen: Target | None = None
    try:
        chosen = target.of_run(run)
        transfers.note(str(chosen))
        backend = chosen.connect()
        last = continuation.settled(run, backend, ledger)
        return chosen, last, continuation.starting_point(run, backend, ledger, transfers)
    except (BackendUnavailable, CredentialsError) as error:
        newest = continuation.settle_here(run, ledger)
        if newest is None:
            raise
        reason = str(error).split("\n", 1)[0]
        transfers.note(f"The target cannot be asked ({reason}): going on from what is on this machine.")
        return chosen, ledger.sessions(run.run_id)[-1], Start(newest, mounts=False, only_here=True)


def session_config(settings: Settings, number: int, max_hours: float | None) -> SessionConfig:
    """No dataset and nothing to wait for: this disk outlives the session, so every checkpoint on it is safe."""
    return dataclasses.replace(
        settings.session_config(number, ""),
        max_seconds=max_hours * 3600 if max_hours else NO_LIMIT_S,
        max_timesteps_at_risk=0,
        publish_interval_seconds=0.0,
        keep_checkpoints=KEEP_ALL,
    )


def begin(run: Run, ledger: Ledger, session: SessionConfig, start: Start, own_secrets: tuple[str, ...]) -> int:
    """Start `session` in a process of this machine that outlives this one; its process id.

    Raises
    ------
    HereBusy, SessionTaken
        A session of the run is alive on this machine, or another command has just begun this one.
    """
    built = bundle.build(Configuration(run.config, session), Project.saved(run.project), own_secrets=own_secrets)
    here = HereBackend(run)
    with here.claim() as lock:
        number = ledger.begin_session(
            run,
            device=session.device,
            accelerator=None,
            max_seconds=session.max_seconds,
            max_timesteps_at_risk=0,
            publish_interval_seconds=0.0,
            after=session.session - 1,
            target=HERE,
            submission="pushed",
            status="QUEUED",
            script_sha256=built.digest,
            code_digest=built.code_digest,
            config_digest=run.config.digest,
            resumed_timesteps=start.num_timesteps,
        )
        shutil.rmtree(run.temporary, ignore_errors=True)
        run.temporary.mkdir(parents=True)
        write_aside(run.script(number), built.script)
        return here.start(lock, number, environment(run.temporary))


def follow(run: Run, ledger: Ledger, number: int, limits: WatchSettings, screen: Screen) -> SessionState:
    """Watch session `number` to its end; Ctrl-C asks it to end well, a second one ends it now.

    Raises
    ------
    Interrupted
        It was ended by Ctrl-C; the message says what is safe.
    AlertStop
        An alert ended it.
    """
    here = HereBackend(run)
    interrupts = 0

    def interrupted(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if (pid := here.alive(number)) is not None:
            here.cancel(pid)
            here.say(number, SECOND_CTRL_C if interrupts > 1 else FIRST_CTRL_C)

    session = submission.session_of(ledger, run, number)
    with _on_interrupt(interrupted):
        state = Watch(run, session, here, ledger, screen, limits).to_the_end()
    shutil.rmtree(run.temporary, ignore_errors=True)
    continuation.settle_here(run, ledger)
    if interrupts:
        safe = submission.session_of(ledger, run, number).published_timesteps or 0
        raise Interrupted(
            f"Session {number} of run {run.run_id} was ended by Ctrl-C; t{safe:,} is safe "
            f"in {run.checkpoints}.\nGo on with `kaglaunch resume {run.run_id} --here`, or on the target without "
            "`--here`."
        )
    return state


@contextlib.contextmanager
def _on_interrupt(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
