"""`kaglaunch resume --here`: the next session on this machine, under the same supervisor, into the run's folder."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any

import typer

from kernel.contract.config import Configuration, SessionConfig
from kernel.contract.files import write_aside
from launcher import screen, system, training_extra, transfers
from launcher.commands import resume
from launcher.config import Settings
from launcher.errors import BackendUnavailable, CredentialsError, Interrupted
from launcher.packing import bundle
from launcher.packing.bundle import Bundle
from launcher.packing.project import Project
from launcher.runs import continuation, report, submission
from launcher.runs.continuation import Start
from launcher.runs.ledger import HERE, Ledger, Run, Session
from launcher.runs.watch import Watch, outcome
from launcher.targets import target
from launcher.targets.here import HereBackend, environment
from launcher.targets.target import Target

NO_LIMIT_S = 10 * 365 * 86_400.0
KEEP_ALL = 1_000_000_000


def resume_here(run_id: str | None, *, flags: Mapping[str, Any], watch_it: bool) -> None:
    """Continue `run_id`, or the newest run, in a process of this machine that outlives this command.

    Raises
    ------
    TrainingMissing
        This machine cannot train.
    SessionRuns, HereBusy
        A session of the run is not over.
    """
    book = Ledger()
    run = book.run(run_id)
    require_training_here(run)
    chosen, last, start = _where_it_stands(run, book)
    if resume.said_finished(run, start, book):
        return
    settings = continuation.next_settings(flags, last)
    asked_h = flags.get("session", {}).get("max_hours")
    session = _session_config(settings, last.number + 1, asked_h * 3600 if asked_h else NO_LIMIT_S)
    secrets = chosen.credentials.secrets if chosen is not None and chosen.credentials else ()
    built = bundle.build(Configuration(run.config, session), Project.saved(run.project), own_secrets=secrets)
    resume.say_start(run, start, session.session)
    pid = _start(run, book, session, built, start)
    typer.echo(
        f"Session {session.session} of run {run.run_id} runs on this machine (process {pid}, {session.device}); its "
        f"checkpoints go to {run.checkpoints}. Ctrl-C writes a last one and ends it."
    )
    if watch_it:
        _watch(run, book, session.session, settings)
    else:
        typer.echo(f"Next: kaglaunch watch {run.run_id}")


def require_training_here(run: Run) -> None:
    """Raise TrainingMissing when this machine cannot train."""
    elsewhere = f"`kaglaunch resume {run.run_id} --device cpu` costs no GPU quota"
    system.require_posix("`--here` trains on this machine, which", f"Go on with the target: {elsewhere}.")
    training_extra.require(
        "`--here` trains on this machine", f"go on without it on the target: {elsewhere}", training_extra.TRAINING
    )


def _where_it_stands(run: Run, book: Ledger) -> tuple[Target | None, Session, Start]:
    """The last session and the newest checkpoint; a target that cannot be asked is no reason to stop what is here."""
    chosen: Target | None = None
    try:
        chosen = target.of_run(run)
        typer.echo(str(chosen))
        backend = chosen.connect()
        last = continuation.settled(run, backend, book)
        return chosen, last, continuation.starting_point(run, backend, book, transfers.for_terminal(typer.echo))
    except (BackendUnavailable, CredentialsError) as error:
        newest = continuation.here(run, book)
        if newest is None:
            raise
        reason = str(error).split("\n", 1)[0]
        typer.echo(f"The target cannot be asked ({reason}): going on from what is on this machine.", err=True)
        return chosen, book.sessions(run.run_id)[-1], Start(newest, mounts=False, only_here=True)


def _session_config(settings: Settings, number: int, max_seconds: float) -> SessionConfig:
    """No dataset and nothing to wait for: this disk outlives the session, so every checkpoint on it is safe."""
    return dataclasses.replace(
        settings.session_config(number, ""),
        max_seconds=max_seconds,
        max_timesteps_at_risk=0,
        publish_interval_seconds=0.0,
        keep_checkpoints=KEEP_ALL,
    )


def _start(run: Run, book: Ledger, session: SessionConfig, built: Bundle, start: Start) -> int:
    here = HereBackend(run)
    with here.claim() as lock:
        number = book.begin_session(
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


def _watch(run: Run, book: Ledger, number: int, settings: Settings) -> None:
    """Follow the session with the usual screen; Ctrl-C asks it to end well, a second one ends it now."""
    here = HereBackend(run)
    interrupts = 0

    def interrupted(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if (pid := here.alive(number)) is not None:
            here.cancel(pid)
            last = "Ctrl-C again: ending now." if interrupts > 1 else _CTRL_C
            here.say(number, last)

    session = submission.session_of(book, run, number)
    before = signal.signal(signal.SIGINT, interrupted)
    try:
        state = Watch(run, session, here, book, screen.for_terminal(False), settings.watch).to_the_end()
    finally:
        signal.signal(signal.SIGINT, before)
    shutil.rmtree(run.temporary, ignore_errors=True)
    continuation.here(run, book)
    session = submission.session_of(book, run, number)
    if interrupts:
        raise Interrupted(
            f"Session {number} of run {run.run_id} was ended by Ctrl-C; t{session.published_timesteps or 0:,} is safe "
            f"in {run.checkpoints}.\nGo on with `kaglaunch resume {run.run_id} --here`, or on the target without "
            "`--here`."
        )
    typer.echo(outcome(run, session, state))
    typer.echo(report.as_table(run, report.report(run, book)))


_CTRL_C = "Ctrl-C: writing a last checkpoint, then ending. Once more ends it now."
