"""The parent process: starts the trainer, restarts it after a crash, ends it in time, publishes what it leaves.

It holds no torch and no GPU, so it outlives whatever kills the trainer. Standard library and psutil.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel import channel as channels
from kernel import health, phases, pinning
from kernel.channel import LOADING, REFUSED, Beat, Ended, Message
from kernel.checkpoints import checkpoint, sources, staging
from kernel.contract import chunks, events
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.events import (
    Checkpoint,
    CheckpointRefused,
    Flood,
    Health,
    Phase,
    Restart,
    Result,
    Training,
)
from kernel.contract.exactness import Exactness
from kernel.contract.manifest import Manifest
from kernel.contract.names import CHECKPOINTS
from kernel.contract.stopping import STOP_SECONDS
from kernel.session import process_tree
from kernel.session.deadline import Deadline
from kernel.session.event_governor import EventGovernor
from kernel.session.full_log import FullLog
from kernel.session.liveness import Liveness
from kernel.session.log_governor import LogGovernor
from kernel.session.memory import MemoryWatch
from kernel.session.process_tree import GRACE_SECONDS, ProcessTree
from kernel.session.proof import Proof
from kernel.session.publisher import Publisher
from kernel.session.replay_restore import ReplayRestore

logger = logging.getLogger(__name__)

MAX_RESTARTS_AT_ONE_PLACE = 3
MAX_RESTARTS = 20
TICK_SECONDS = 0.02
"""Between two looks at the trainer: what a signal or the deadline waits at the most; costs under 1 % of a core."""
DUMP_SECONDS = 3.0
PIPE_BYTES = 1 << 20


@dataclass
class Trainer:
    """One trainer process, and what it said of itself."""

    process: subprocess.Popen[bytes]
    log: LogGovernor
    channel: channels.Reader | None = None
    ended: Ended | None = None
    stop_asked_at: float | None = None


Found = tuple[Path, Manifest]


@dataclass
class Supervisor:
    """One session, from its first event to its result."""

    folder: Path
    config_file: Path
    configuration: Configuration
    deadline: Deadline
    publisher: Publisher | None
    events: EventGovernor
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    command: list[str] = field(default_factory=lambda: [sys.executable, "-u", "-m", "kernel.training"])
    tree: ProcessTree = field(default_factory=ProcessTree)
    replay: ReplayRestore | None = None
    """Brings replay chunks that are not mounted."""
    restarts: int = 0
    exactness: Exactness = field(default_factory=Exactness)
    """What the trainer said of it last."""
    stop_status: Ending | None = None
    """Why the trainer is to stop; None while it is not."""
    stop_message: str = ""
    total_timesteps: int = 0
    _crashes_here: int = 0
    _last_checkpoint: int = -1
    _done: int = -1
    _terminations: int = 0
    _log_lines: int = 0
    _hidden_lines: int = 0
    _memory_said: dict[str, Any] = field(default_factory=dict)
    _silence: health.Health = field(default_factory=health.Health)
    _memory: MemoryWatch | None = None
    _begin_otherwise: tuple[str, ...] = ()
    _liveness: Liveness = field(init=False)

    def __post_init__(self) -> None:
        self._liveness = Liveness(self.configuration.session.silence_seconds)
        holds = lambda: self._memory.rss if self._memory else 0  # noqa: E731
        self.proof = Proof(self.folder, self.configuration, self.events.event, holds, self.tree.start_own, self.clock)

    def terminate(self, count: int) -> None:
        """SIGTERM: the first means what the deadline means, the second means now."""
        self._terminations = count
        if count > 1 and self.publisher is not None:
            self.publisher.abandon()

    def run(self) -> Result:
        """Supervise until the run is finished, stopped or beyond help."""
        checkpoints = self.folder / CHECKPOINTS
        checkpoints.mkdir(parents=True, exist_ok=True)
        checkpoint.sweep(checkpoints)
        self.proof.begin()
        self.total_timesteps = self.configuration.run.whole_timesteps
        status, message = Ending.crashed, ""
        try:
            self._import_checkpoints(checkpoints)
        except sources.RunChanged as refusal:
            return self._result(Ending.crashed, str(refusal))
        if self.publisher is not None:
            self.publisher.start()
        log = FullLog(self.folder)
        try:
            while True:
                trainer = self._start(log)
                code = self._watch(trainer)
                status, message, over = self._judge(trainer, code)
                if over:
                    break
        finally:
            self.proof.close()
            self._end_tree()
            log.close()
            if self.publisher is not None:
                self.publisher.close()
        return self._result(status, message)

    def _import_checkpoints(self, checkpoints: Path) -> None:
        """Bring the newest checkpoint of the mounted dataset to this disk, unless a newer one is here."""
        run, session = self.configuration.run, self.configuration.session
        mounted = sources.mounted_folders(session.dataset)
        if not mounted:
            return
        self.events.event(phases.RESTORING)
        absent = self.replay.bring(mounted) if self.replay is not None else {}
        for path, reason in absent.items():
            self.events.event(CheckpointRefused(file=path.name, reason=reason))
        apart = checkpoints / chunks.FOLDER
        choice = sources.choose([checkpoints, *mounted], run, session.allow_changed, absent, apart)
        for refused in choice.refused:
            if checkpoints not in refused.path.parents:
                self.events.event(CheckpointRefused(file=refused.path.name, reason=refused.reason))
        if choice.path is None or choice.manifest is None or checkpoints in choice.path.parents:
            return
        sources.import_checkpoint(choice.path, choice.manifest, checkpoints)
        sources.import_records(choice.path, self.folder, checkpoints)

    def _start(self, log: FullLog) -> Trainer:
        log_end, log_write = os.pipe()
        channel_end, channel_write = os.pipe()
        _widen(log_write)
        environment = dict(os.environ)
        pinning.pin(environment)
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
        environment[channels.VARIABLE] = str(channel_write)
        environment["KAGLAUNCH_PARENT"] = str(os.getpid())
        self.events.event(phases.LOADING)
        self.proof.starting()
        seconds = f"{self.deadline.training_seconds_left:.1f}"
        arguments = ["--config", str(self.config_file), "--folder", str(self.folder), "--seconds-left", seconds]
        process = self.tree.start_trainer(
            [*self.command, *arguments, *self._begin_otherwise],
            environment,
            stdin=subprocess.DEVNULL,
            stdout=log_write,
            stderr=log_write,
            pass_fds=(channel_write,),
        )
        os.close(log_write)
        os.close(channel_write)
        governor = LogGovernor(log_end, log, _show, self._flooded)
        trainer = Trainer(process, governor)
        self._liveness.begin(self.clock())
        trainer.channel = channels.Reader(channel_end, lambda message: self._hear(trainer, message))
        return trainer

    def _hear(self, trainer: Trainer, message: Message) -> None:
        match message:
            case Beat():
                self._liveness.heard(self.clock(), message.phase)
                self._done = message.num_timesteps
                return
            case Ended():
                trainer.ended = message
                return
            case Checkpoint():
                if message.num_timesteps > self._last_checkpoint:
                    self._last_checkpoint, self._crashes_here = message.num_timesteps, 0
                if self.publisher is not None:
                    self.publisher.notify()
            case Phase():
                self._liveness.heard(self.clock(), LOADING)
            case Training():
                self._liveness.heard(self.clock(), LOADING)
                self.total_timesteps = message.total_timesteps
        self.exactness = message.revise(self.exactness)
        self.proof.heard(message)
        self.events.event(message)

    def _flooded(self, flood: Flood) -> None:
        action = self.configuration.session.on_flood
        self.events.event(dataclasses.replace(flood, action=action))
        if action == "stop" and not self.stop_status:
            self._stop(Ending.flood, f"The trainer printed {flood.lines_per_s} lines/s: {flood.reason}.")

    def _stop(self, status: Ending, message: str) -> None:
        self.stop_message, self.stop_status = message, status

    def _watch(self, trainer: Trainer) -> int:
        """Wait for the trainer's end, and bring it about when the time has come."""
        memory = self._memory = MemoryWatch(trainer.process.pid)
        while (code := trainer.process.poll()) is None:
            self._look_at_clock()
            self._look_at_silence(trainer)
            self.proof.look()
            if self.publisher is not None:
                self.publisher.look_at_risk(self._done)
            for finding in memory.fresh_findings(self.clock()):
                self.events.event(Health(action="warn", **vars(finding)))
            self._enforce(trainer)
            self.events.pump()
            self.tree.reap(self.clock())
            self.sleep(TICK_SECONDS)
        self._memory_said = memory.summary()
        self._end_tree()  # before the pipes: what the trainer left may hold them open
        trainer.log.join(5.0)
        assert trainer.channel is not None
        trainer.channel.join(5.0)
        self._log_lines += trainer.log.lines
        self._hidden_lines += trainer.log.hidden
        return code

    def _look_at_clock(self) -> None:
        if self._terminations and not self.stop_status:
            self._stop(Ending.stopped, "The session was asked to end.")
        if self.deadline.training_seconds_left <= 0 and not self.stop_status:
            self._stop(Ending.deadline, "The session limit is near.")
            left, margin = round(self.deadline.seconds_left, 1), round(self.deadline.margin, 1)
            self.events.event(events.Deadline(seconds_left=left, margin_seconds=margin))

    def _look_at_silence(self, trainer: Trainer) -> None:
        for finding in self._silence.fresh(self._liveness.findings(self.clock())):
            self.events.event(Health(action="restart", **vars(finding)))
            threads = "; ".join(process_tree.threads(trainer.process.pid)) or "not told"
            logger.warning("Ending the trainer, with its stacks. Its threads, as the system has them: %s.", threads)
            self._liveness.give_up()
            trainer.process.send_signal(signal.SIGABRT)
            trainer.process.send_signal(signal.SIGCONT)  # one that was stopped shows its stacks when it goes on
            self._kill_after(trainer, DUMP_SECONDS)

    def _enforce(self, trainer: Trainer) -> None:
        if not self.stop_status:
            return
        now = self.clock()
        if trainer.stop_asked_at is None:
            trainer.stop_asked_at = now
            trainer.process.send_signal(signal.SIGTERM)
        # A session whose time is nearly over cannot wait for the next consistent point for long.
        patience = min(STOP_SECONDS, max(1.0, self.deadline.margin / 2))
        if self._terminations > 1 or now - trainer.stop_asked_at > patience:
            trainer.process.kill()

    def _end_tree(self) -> None:
        """End what the trainer started and left behind; a session that ends now does not ask first."""
        ended = self.tree.end(0.0 if self._terminations > 1 else GRACE_SECONDS)
        if ended:
            logger.warning("Processes that the trainer had started were still there, and are ended: %d.", ended)

    def _kill_after(self, trainer: Trainer, seconds: float) -> None:
        try:
            trainer.process.wait(seconds)
        except subprocess.TimeoutExpired:
            trainer.process.kill()

    def _judge(self, trainer: Trainer, code: int) -> tuple[Ending, str, bool]:
        """What the end of the trainer means: (status, message, whether it is the session's end too)."""
        ended = trainer.ended
        if ended is not None and ended.word == REFUSED:
            return Ending.crashed, ended.message, True
        if ended is not None and ended.word in (Ending.finished, Ending.unhealthy):
            return Ending(ended.word), ended.message, True
        if self.stop_status:
            return self.stop_status, self.stop_message, True
        reason = describe_exit(code, self._memory_said)
        if trainer.log.last_error:
            reason += f" ({trainer.log.last_error})"
        self._crashes_here += 1
        self.restarts += 1
        found = staging.verified(self.folder, self.configuration)
        newest = next(found, None)
        otherwise = self._otherwise(newest, next(found, None)) if newest else None
        if (self._crashes_here > MAX_RESTARTS_AT_ONE_PLACE and not otherwise) or self.restarts > MAX_RESTARTS:
            return Ending.crashed, f"{reason}; it did so {self._crashes_here} times without a new checkpoint.", True
        self._begin_otherwise, words, begins = otherwise or ((), "", newest)
        self.events.event(
            Restart(
                reason=reason,
                restarts=self.restarts,
                from_timesteps=begins[1].num_timesteps if begins else 0,
                otherwise=words,
                memory=self._memory_said,
            )
        )
        self.sleep(min(30.0, 0.2 * 4 ** (self._crashes_here - 1)))
        return Ending.crashed, reason, False

    def _otherwise(self, newest: Found, before: Found | None) -> tuple[tuple[str, ...], str, Found] | None:
        """Arguments and words for a start that changes how it begins, once starting as usual has led nowhere."""
        ways = [
            *([(("--pass-over", newest[0].name), "from the checkpoint before it", before)] if before else []),
            (("--new-episodes", f"{self._crashes_here} starts ended before a new checkpoint"), "new episodes", newest),
        ]
        number = self._crashes_here - MAX_RESTARTS_AT_ONE_PLACE - 1
        return ways[number] if 0 <= number < len(ways) else None

    def _result(self, status: Ending, message: str) -> Result:
        found = staging.newest_verified(self.folder, self.configuration)
        if status is Ending.finished and (not found or found[1].num_timesteps < self.total_timesteps):
            # What a full disk did not take is not there, whatever was trained.
            status, message = Ending.crashed, f"{message} The last checkpoint could not be written.".strip()
        known = (found[1].exactness if found else self.exactness).joined(self.proof.known)
        run, session = self.configuration.run, self.configuration.session
        return Result(
            status=status,
            num_timesteps=found[1].num_timesteps if found else 0,
            total_timesteps=self.total_timesteps,
            published_timesteps=self.publisher.published if self.publisher else None,
            restarts=self.restarts,
            message=message,
            run_id=run.run_id,
            session=session.session,
            seconds=round(self.clock() - self.deadline.began, 1),
            exact=known.is_exact,
            exactness=known,
            log_lines=self._log_lines,
            hidden_lines=self._hidden_lines,
        )


def describe_exit(code: int, memory: dict[str, Any]) -> str:
    """How a process ended that did not say so itself."""
    if code >= 0:
        return f"the trainer ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL and memory.get("oom_kills"):
        return f"the trainer was killed by {name}: out of memory"
    return f"the trainer was killed by {name}"


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _widen(descriptor: int) -> None:
    """A larger pipe: fewer switches between the trainer and the thread that reads."""
    try:
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError) as error:
        logger.debug("The pipe stays as it is: %s", error)
