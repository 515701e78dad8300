"""The trial before a training: ten timesteps through the trainer itself, a resume from what they left, a look around.

    python -m kernel --config run.json --check     on any machine: its phases, then one `gate`; trains nothing

A session runs it too, before it trains from scratch. What fails is worth no accelerator hour: checkpoints that do not
come back, an environment from which nothing can be learnt, a SIGTERM that ends nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import gymnasium

from kernel import health, phases, signals
from kernel.channel import Channel
from kernel.contract import events
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration, RunConfig
from kernel.contract.events import Event, Gate, Inexact, Progress, Training
from kernel.contract.manifest import CheckpointInvalid, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS
from kernel.process import process_age
from kernel.training import environment_health, environments, learner, train

logger = logging.getLogger(__name__)
E = TypeVar("E", bound=Event)

TRIAL_TIMESTEPS = 10
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
_MEND = "Mend it: the training would end in the same way."
_FIXES: tuple[tuple[type[Exception], str], ...] = (
    (environments.UnknownEnvironment, "env is MODULE:FACTORY, its files named in include, or an id of gymnasium."),
    (ModuleNotFoundError, "Name its file or folder in include: only that, and what Kaggle's image has, is there."),
    (FileNotFoundError, "Name it in include, and open it beside __file__: the session runs in another folder."),
)


class TrialFailed(Exception):
    """Raised in a session whose trial failed: the training would be worthless, or could not be resumed."""

    def __init__(self, checks: Sequence[Check]) -> None:
        super().__init__(" ".join(f"{check.name}: {check.evidence} {check.fix}" for check in checks).strip())
        self.unhealthy = all(check.name == "environment" for check in checks)


@dataclass
class Trial:
    """All checks, and the speed that was measured along the way."""

    checks: list[Check] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def event(self) -> Gate:
        """What it says to the world."""
        return Gate(checks=tuple(self.checks), **self.measured)


class _Ear(Channel):
    """Hears a trial training; with `sends_at` it sends a real SIGTERM when the training has come that far."""

    def __init__(self, stop: signals.StopFlag, beat: Callable[[int], None], sends_at: int | None = None) -> None:
        super().__init__()
        self.heard: list[Event] = []
        self.sent_at: int | None = None
        self._stop = stop
        self._beat = beat
        self._sends_at = sends_at

    def event(self, event: Event) -> None:
        self.heard.append(event)
        if self._sends_at is None or self.sent_at is not None or not isinstance(event, Progress):
            return
        if event.num_timesteps >= self._sends_at and self._stop.is_installed():
            self.sent_at = event.num_timesteps
            os.kill(os.getpid(), signal.SIGTERM)

    def beat(self, num_timesteps: int) -> None:
        self._beat(0)

    def first(self, kind: type[E]) -> E | None:
        """The first event of that kind."""
        return next((event for event in self.heard if isinstance(event, kind)), None)


class _Counter(gymnasium.Wrapper):
    """Counts the steps that were played."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.env.step(action)


def before_training(configuration: Configuration, folder: Path, channel: Channel) -> None:
    """The trial of a session that starts from scratch, told as an event.

    Raises
    ------
    TrialFailed
        A check failed that nobody waived.
    """
    session = configuration.session
    if not session.gate or checkpoints_in(folder / CHECKPOINTS):
        return
    trial = run(configuration, channel, real_signal=False)
    channel.event(trial.event())
    failed = [check for check in trial.checks if check.verdict == FAIL and check.name not in session.waived]
    if failed:
        raise TrialFailed(failed)


def main(configuration: Configuration) -> int:
    """Run the trial and say what it found in a last event; 0 whatever that is."""
    logging.getLogger().setLevel(logging.WARNING)
    device = configuration.session.device
    try:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            configuration = replace(configuration, session=replace(configuration.session, device="cpu"))
        trial = run(configuration, Channel(), real_signal=True)
    except Exception as error:
        # The process ends here; whatever the environment or the recipe raised is the finding.
        logger.debug("the trial failed", exc_info=True)
        fix = next((told for kind, told in _FIXES if isinstance(error, kind)), _MEND)
        trial = Trial([Check("checkpointing", FAIL, _said(error), fix)], {"ends_training": fix == _MEND})
    events.emit(trial.event())
    return 0


def run(configuration: Configuration, channel: Channel, *, real_signal: bool) -> Trial:
    """Try, resume, look at the environment, each told on `channel`; the training of `configuration` is not begun.

    With `real_signal` this process sends itself a SIGTERM, and the speed is measured too: a session leaves that to its
    own calibration.
    """
    session = replace(configuration.session, dataset="", max_timesteps_at_risk=0, checkpoint_seconds=0.0)
    wanted = configuration.run
    total = max(wanted.total_timesteps, 10 * TRIAL_TIMESTEPS * wanted.n_envs)
    short = replace(wanted, total_timesteps=total, checkpoint_freq=TRIAL_TIMESTEPS, eval_freq=0)
    trial = Trial()
    with tempfile.TemporaryDirectory(prefix="kaglaunch-trial-") as temporary:
        stop = signals.StopFlag.install()
        channel.event(phases.TRIAL)
        first = _Ear(stop, channel.beat, TRIAL_TIMESTEPS if real_signal else None)
        began = time.monotonic()
        # Where a SIGTERM is to end it, this is for an environment that took the signal over.
        stop_after = 2 * TRIAL_TIMESTEPS if real_signal else TRIAL_TIMESTEPS
        reached = _train(Configuration(short, session), Path(temporary), first, stop, stop_after)
        # Imports, and compiling what no training of this machine has compiled: paid once, before training is at speed.
        trial.measured["startup_s"] = round(process_age() if real_signal else time.monotonic() - began, 2)
        signals_check = _signals(first, stop, reached, Path(temporary))
        channel.event(phases.RESUME)
        again = _checkpointing(Configuration(short, session), Path(temporary), reached, channel.beat)
        trial.checks += [again, signals_check]
    device = train.choose_device(session.device)
    trial.measured["device"] = device
    channel.event(phases.ENVIRONMENT)
    counted = _Counter(environments.make_environment(wanted, device))
    trial.checks += [_environment(counted, wanted)]
    channel.beat(0)
    if real_signal:
        channel.event(phases.SPEED)
        pace = learner.kind_of(wanted.algorithm).measure(wanted, device)
        played = 2 * TRIAL_TIMESTEPS + counted.steps + pace.played
        trial.measured |= {"steps_per_s": round(pace.steps_per_s, 3), "played_timesteps": played, **asdict(pace)}
        trial.checks += [_speed(pace)]
    return trial


def _train(configuration: Configuration, folder: Path, ear: _Ear, stop: signals.StopFlag, stop_after: int) -> int:
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    _, num_timesteps, _ = train.train(configuration, folder, ear, 1e6, stop=stop, stop_after=stop_after)
    return num_timesteps


def _checkpointing(configuration: Configuration, folder: Path, reached: int, beat: Callable[[int], None]) -> Check:
    found = checkpoints_in(folder / CHECKPOINTS)
    if not found:
        return Check("checkpointing", FAIL, f"{reached} timesteps left no checkpoint.", "See the error above it.")
    try:
        newest = max((verify(path) for path in found), key=lambda manifest: manifest.num_timesteps)
    except CheckpointInvalid as error:
        return Check("checkpointing", FAIL, f"A checkpoint does not verify: {error}.", "Look at the disk of /tmp.")
    stop = signals.StopFlag.install()
    again = _Ear(stop, beat)
    went_to = _train(configuration, folder, again, stop, newest.num_timesteps + 1)
    training = again.first(Training)
    resumed = training.num_timesteps if training else 0
    if not 0 < newest.num_timesteps == resumed < went_to:
        return Check(
            "checkpointing",
            FAIL,
            f"The checkpoint of timestep {newest.num_timesteps} was resumed at {resumed} and went to {went_to}.",
            "The environment must give its state: state_dict() and load_state_dict().",
        )
    evidence = f"{reached} timesteps left {len(found)} checkpoints; the newest resumed at timestep {resumed}"
    if inexact := again.first(Inexact):
        fix = "Give the environment state_dict() and load_state_dict() for a bit-identical continuation."
        return Check("checkpointing", WARN, f"{evidence}, but not bit-identically: {inexact.reason}.", fix)
    return Check("checkpointing", PASS, f"{evidence}, bit-identically.")


def _signals(ear: _Ear, stop: signals.StopFlag, reached: int, folder: Path) -> Check:
    if reached < TRIAL_TIMESTEPS:
        return Check("signals", WARN, "The trial ended before a SIGTERM could be tried.")
    if not stop.is_installed():
        return Check(
            "signals",
            FAIL,
            f"The environment took over SIGTERM ({signal.getsignal(signal.SIGTERM)}).",
            "Take its signal.signal(SIGTERM, …) out: the session would end without its last checkpoint.",
        )
    if ear.sent_at is None:
        return Check("signals", PASS, "SIGTERM reaches the trainer.")
    last = max(verify(path).num_timesteps for path in checkpoints_in(folder / CHECKPOINTS))
    if last <= ear.sent_at:
        evidence = f"SIGTERM at timestep {ear.sent_at} left no checkpoint of its own."
        return Check("signals", FAIL, evidence, "The environment must return from step() within seconds.")
    return Check("signals", PASS, f"SIGTERM at timestep {ear.sent_at} led to a checkpoint at {last} and a clean end.")


def _environment(env: gymnasium.Env, run_config: RunConfig) -> Check:
    try:
        findings = environment_health.check(env, run_config)
    finally:
        env.close()
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        fix = "Likely: " + "; ".join(finding.cause.rstrip(".") for finding in failed) + "."
        return Check("environment", FAIL, _told(failed), fix)
    return Check("environment", PASS, _told(findings))


def _told(findings: Sequence[environment_health.Finding]) -> str:
    return "; ".join(f"{finding.name.replace('_', ' ')}: {finding.evidence.rstrip('.')}" for finding in findings) + "."


def _speed(pace: learner.Measured) -> Check:
    evidence = f"{pace.steps_per_s:,.4g} timesteps/s over {pace.timesteps} timesteps and an update."
    if pace.steps_per_s < health.MIN_STEPS_PER_S:
        return Check(
            "speed",
            WARN,
            f"{evidence} The floor is {health.MIN_STEPS_PER_S:g}.",
            "Profile one step: copies between host and device, and output, are the usual causes.",
        )
    return Check("speed", PASS, evidence)


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _said(error: Exception) -> str:
    """The error, and the innermost line of code outside the installed packages that led to it."""
    said = str(error).rstrip(".")
    # What the kernel and the solver raise says itself what is wrong; of another's error the kind may be all there is.
    text = said if type(error).__module__.startswith(("kernel.", "arz_model.")) else f"{type(error).__name__}: {said}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(Path(frame.filename))]
    if frames and not isinstance(error, environments.UnknownEnvironment):
        text += f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return _sentence(text)


def _is_theirs(file: Path) -> bool:
    """Whether it is the researcher's own source: no library, nothing of the kernel."""
    libraries = {"site-packages", "dist-packages", "stable_baselines3", "<frozen importlib._bootstrap>"}
    standard = Path(os.__file__).parent
    return (
        Path(__file__).parents[1] not in file.parents
        and standard not in file.parents
        and not libraries & set(file.parts)
    )
