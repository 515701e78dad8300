"""The trial before a training: a little of it through the trainer itself, a resume from what that left, a look around.

    python -m kernel --config run.json --check     on any machine: its phases, then one `gate`; trains nothing

A session runs it too, before it trains from scratch. What fails is worth no accelerator hour: checkpoints that do not
come back, an environment from which nothing can be learnt, a SIGTERM that ends nothing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium

from kernel import health, phases
from kernel.channel import Channel
from kernel.checkpoints import retention, room
from kernel.contract import events
from kernel.contract.checks import Check, Verdict
from kernel.contract.config import Configuration, RunConfig
from kernel.contract.events import Gate
from kernel.contract.manifest import checkpoints_in
from kernel.contract.names import CHECKPOINTS
from kernel.process import process_age
from kernel.training import environment_health, environments, learner, rehearsal, train
from kernel.training.forked import in_a_copy

logger = logging.getLogger(__name__)

PLATFORM_DISK_BYTES = 20_000_000_000
"""What Kaggle gives a session's folder [B]."""
USUAL_BUFFER_SIZE = 1_000_000
"""stable-baselines3's own."""
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL
_MEND = "Mend it: the training would end in the same way."
_FIXES: tuple[tuple[type[Exception], str], ...] = (
    (environments.UnknownEnvironment, "env is MODULE:FACTORY, its files named in include, or an id of gymnasium."),
    (ModuleNotFoundError, "Name its file or folder in include: only that, and what Kaggle's image has, is there."),
    (FileNotFoundError, "Name it in include, and open it beside __file__: the session runs in another folder."),
)


class Refused(ValueError):
    """Raised in a session whose trial was refused: no restart would change it."""


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


class _Counter(gymnasium.Wrapper):
    """Counts the steps that were played, each told to `beat`."""

    steps = 0

    def __init__(self, env: gymnasium.Env, beat: Callable[[int], None]) -> None:
        super().__init__(env)
        self.beat = beat

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.beat(0)
        return self.env.step(action)


def before_training(configuration: Configuration, folder: Path, channel: Channel) -> None:
    """The trial of a session that starts from scratch, told as an event.

    It is made in a copy of this process: a training that was tried before begins as one that was not.

    Raises
    ------
    TrialFailed
        A check failed that nobody waived, or it ended by a signal.
    Refused
        No restart would change what was refused.
    SystemExit
        It ended otherwise; why was printed.
    """
    session = configuration.session
    if not session.gate or checkpoints_in(folder / CHECKPOINTS):
        return
    room_bytes = retention.budget_bytes(folder / CHECKPOINTS, session.disk_bytes)

    def told() -> bytes:
        try:
            trial = run(configuration, channel, thorough=False, room_bytes=room_bytes)
        except train.REFUSALS as refusal:
            return json.dumps({"refused": str(refusal)}).encode()
        return json.dumps(trial.event().plain()).encode()

    code, said = in_a_copy(told)
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        raise TrialFailed([Check("checkpointing", FAIL, f"The trial was ended by {name}.", _MEND)])
    if code > 0 or not said:
        raise SystemExit(code or 1)
    values = json.loads(said)
    if "refused" in values:
        raise Refused(values["refused"])
    gate = events.from_plain(values)
    assert isinstance(gate, Gate)
    channel.event(gate)
    failed = [check for check in gate.checks if check.verdict == FAIL and check.name not in session.waived]
    if failed:
        raise TrialFailed(failed)


def main(configuration: Configuration, kills: int = 0) -> int:
    """Run the trial and say what it found in a last event; 0 whatever that is."""
    logging.getLogger().setLevel(logging.WARNING)
    device = configuration.session.device
    try:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            configuration = replace(configuration, session=replace(configuration.session, device="cpu"))
        room_bytes = configuration.session.disk_bytes or int(retention.FREE_SHARE * PLATFORM_DISK_BYTES)
        trial = run(configuration, Channel(), thorough=True, room_bytes=room_bytes, kills=kills)
    except Exception as error:
        # The process ends here; whatever the environment or the recipe raised is the finding.
        logger.debug("the trial failed", exc_info=True)
        fix = next((told for kind, told in _FIXES if isinstance(error, kind)), _MEND)
        trial = Trial([Check("checkpointing", FAIL, _said(error), fix)], {"ends_training": fix == _MEND})
    events.emit(trial.event())
    return 0


def run(configuration: Configuration, channel: Channel, *, thorough: bool, room_bytes: int, kills: int = 0) -> Trial:
    """Try, resume, look at the environment, each told on `channel`; the training of `configuration` is not begun.

    With `thorough` a stretch is proved in a second process, this one sends itself a SIGTERM, and the speed is measured:
    a session does the first beside its training, and leaves the last to its own calibration. So many `kills` more are
    gone on from. `room_bytes` are what checkpoints may take where the run is to be trained [B].
    """
    trial = Trial()
    with tempfile.TemporaryDirectory(prefix="kaglaunch-trial-") as temporary:
        channel.event(phases.TRIAL)
        began = time.monotonic()
        rehearsed = rehearsal.rehearse(configuration, Path(temporary), channel, thorough=thorough, kills=kills)
        # Imports, and compiling what no training of this machine has compiled: paid once, before training is at speed.
        startup_s = (process_age() - (time.monotonic() - began) if thorough else 0.0) + rehearsed.startup_s
        trial.measured |= {"startup_s": round(startup_s, 2), **rehearsed.measured}
        trial.checks += rehearsed.checks
    if rehearsed.takes is not None:
        buffer_size = int(configuration.run.hyperparameters.get("buffer_size", USUAL_BUFFER_SIZE))
        trial.checks += [room.judge(rehearsed.takes, room_bytes, buffer_size)]
        each = rehearsed.takes.replay_bytes * rehearsed.takes.stored_share / buffer_size
        trial.measured |= {"checkpoint_bytes": rehearsed.takes.checkpoint_bytes, "replay_bytes_per_timestep": each}
    device = train.choose_device(configuration.session.device)
    trial.measured["device"] = device
    channel.event(phases.ENVIRONMENT)
    counted = _Counter(environments.make_environment(configuration.run, device), channel.beat)
    trial.checks += [_environment(counted, configuration.run)]
    if thorough:
        channel.event(phases.SPEED)
        pace = learner.kind_of(configuration.run.algorithm).measure(configuration.run, device)
        played = rehearsed.played + counted.steps + pace.played
        pace = replace(pace, longest_pause_s=round(max(pace.longest_pause_s, rehearsed.longest_pause_s), 3))
        trial.measured |= {"steps_per_s": round(pace.steps_per_s, 3), "played_timesteps": played, **asdict(pace)}
        trial.checks += [_speed(pace)]
    return trial


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
