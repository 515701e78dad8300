"""One training: scratch or resume, then learn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch as th

from kernel import phases, signals
from kernel.channel import Channel
from kernel.checkpoints import sources
from kernel.checkpoints.checkpoint import METRICS_MEMBER, read_member
from kernel.contract import events
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.hyperparameters import HyperparametersRefused
from kernel.contract.manifest import CheckpointInvalid, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS, METRICS
from kernel.training import environments, resume
from kernel.training.at_risk import RiskWait
from kernel.training.cadence import Cadence
from kernel.training.consistent_point import ConsistentPoint, StopTraining, Wish
from kernel.training.learner import Learner
from kernel.training.metrics import MetricsFile
from kernel.training.pace import Pace
from kernel.training.reports import HealthReports, Reports
from kernel.training.row_feed import RowFeed
from kernel.training.writer import CheckpointWriter

logger = logging.getLogger(__name__)

REFUSALS = (
    sources.RunChanged,
    resume.NotExact,
    HyperparametersRefused,
    environments.UnknownEnvironment,
)
"""What no restart would change."""


def train(
    configuration: Configuration,
    folder: Path,
    channel: Channel,
    seconds_left: float,
    *,
    stop: signals.StopFlag | None = None,
    plan: Callable[[Learner], Wish] | None = None,
    otherwise: resume.Otherwise | None = None,
) -> tuple[Ending, int, str]:
    """Learn until the total, until stopped, or until `plan` wants the end: (status, timestep, message)."""
    run, session = configuration.run, configuration.session
    stop = stop or signals.StopFlag.install()
    device = choose_device(session.device)
    channel.event(phases.PREPARING)
    beginning = resume.begin(configuration, folder / CHECKPOINTS, device, channel, otherwise)
    learner, choice, lineage = beginning.learner, beginning.choice, beginning.lineage
    metrics = MetricsFile(folder / METRICS)
    writer = CheckpointWriter(folder / CHECKPOINTS, lineage, learner.members, metrics, channel.event, beginning.store)
    writer.with_room(lambda: begin_metrics(metrics, folder, choice))

    began, now = choice.manifest.num_timesteps if choice.manifest else 0, time.monotonic()
    pace = Pace(learner.total_timesteps, run.eval_freq, now, began, seconds_left, learner.update_timesteps)
    point = ConsistentPoint(
        learner,
        run,
        Cadence(run.checkpoint_freq, session.checkpoint_seconds),
        writer,
        channel,
        Reports(learner, run, pace, channel),
        HealthReports(learner, pace, channel, session.on_unhealthy),
        RiskWait(folder, session.max_timesteps_at_risk if session.dataset else 0, channel, pace, stop.is_set),
        stop.is_set,
        plan,
        RowFeed(learner, beginning.store, writer) if beginning.store is not None else None,
    )
    point.cadence.begin(now, began)
    writer.progressed = point.saving
    channel.event(
        events.Training(
            num_timesteps=began,
            total_timesteps=learner.total_timesteps,
            requested_timesteps=run.total_timesteps,
            algorithm=run.algorithm,
            device=device,
            checkpoint=choice.path.name if choice.path else None,
            exact=lineage.exactness.is_exact,
            exactness=lineage.exactness,
            replay_bytes=beginning.store.buffer_bytes if beginning.store is not None else None,
            replay_row_bytes=beginning.store.row_bytes if beginning.store is not None else None,
        )
    )
    try:
        if beginning.is_over:
            return Ending.finished, began, "The run was finished already."
        if beginning.state is not None:
            point.resume(beginning.state)
        channel.event(phases.FIRST_STEP)
        learner.learn(point, point.updating)
        point.finish()
        return Ending.finished, learner.num_timesteps, "All timesteps are done."
    except StopTraining as stopped:
        return stopped.status, learner.num_timesteps, str(stopped)
    finally:
        writer.close()


def choose_device(wanted: str) -> str:
    """`cuda` or `cpu`, one thread in either case."""
    th.set_num_threads(1)
    device = ("cuda" if th.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    if device == "cuda":
        th.use_deterministic_algorithms(True, warn_only=True)
        th.backends.cudnn.benchmark = False
    return device


def begin_metrics(metrics: MetricsFile, folder: Path, choice: sources.Choice) -> None:
    """Rows up to the checkpoint that training resumes from, out of the file and of every checkpoint there."""
    texts = [metrics.path.read_text("utf-8", "replace")] if metrics.path.is_file() else []
    for path in reversed(checkpoints_in(folder / CHECKPOINTS)):
        try:
            manifest = verify(path)
        except (CheckpointInvalid, OSError):
            continue  # an older one than the one resumed from; nobody needs it
        if METRICS_MEMBER in manifest.members:
            rows = read_member(path, METRICS_MEMBER, manifest.members[METRICS_MEMBER].size)
            texts.append(rows.decode("utf-8", "replace"))
    metrics.begin(choice.manifest.num_timesteps if choice.manifest else -1, texts)
