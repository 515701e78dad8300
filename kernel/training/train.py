"""One training: scratch or resume, then learn."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch as th

from kernel import signals
from kernel.channel import Channel
from kernel.checkpoints import sources
from kernel.checkpoints.checkpoint import METRICS_MEMBER, read_member
from kernel.contract import events
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.manifest import CheckpointInvalid, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS, METRICS
from kernel.training import environments, evaluation, resume
from kernel.training.cadence import Cadence
from kernel.training.consistent_point import ConsistentPoint, StopTraining
from kernel.training.metrics import MetricsFile
from kernel.training.pace import Pace
from kernel.training.sb3 import algorithms, exact_state
from kernel.training.sb3.members import constant_data
from kernel.training.writer import CheckpointWriter

logger = logging.getLogger(__name__)

REFUSALS = (
    sources.RunChanged,
    exact_state.NotExact,
    algorithms.HyperparametersRefused,
    environments.UnknownEnvironment,
)
"""What no restart would change."""


def train(configuration: Configuration, folder: Path, channel: Channel, seconds_left: float) -> tuple[Ending, int, str]:
    """Learn until the total or until stopped: (status, timestep, message)."""
    run, session = configuration.run, configuration.session
    stop = signals.StopFlag.install()
    device = choose_device(session.device)
    beginning = resume.begin(configuration, folder / CHECKPOINTS, device, channel)
    model, statistics, choice = beginning.model, beginning.statistics, beginning.choice
    lineage, total, store = beginning.lineage, beginning.lineage.total_timesteps, beginning.store
    metrics = MetricsFile(folder / METRICS)
    begin_metrics(metrics, folder, choice)
    writer = CheckpointWriter(folder / CHECKPOINTS, lineage, constant_data(model), metrics, channel.event, store)

    began = choice.manifest.num_timesteps if choice.manifest else 0
    point = ConsistentPoint(
        model,
        run,
        session,
        total,
        statistics,
        Cadence(run.checkpoint_freq, session.checkpoint_seconds),
        writer,
        channel,
        Pace(total, run.eval_freq, time.monotonic(), began, seconds_left, update_timesteps(model)),
        folder,
        evaluate=lambda: evaluation.evaluate(model, run, device),
        stop_requested=stop.is_set,
    )
    model.at_consistent_point = point
    point.cadence.begin(time.monotonic(), began)
    channel.event(
        events.Training(
            num_timesteps=began,
            total_timesteps=total,
            requested_timesteps=run.total_timesteps,
            algorithm=run.algorithm,
            device=device,
            checkpoint=choice.path.name if choice.path else None,
            exact=lineage.exact,
        )
    )
    try:
        if beginning.state is None:
            model.learn(total, statistics, log_interval=1)
        elif not beginning.is_over:
            point.resume(beginning.state)
            # Inside a rollout that ends after the total the loop must be entered all the same.
            model.num_timesteps = min(model.num_timesteps, total - 1)
            left = total - model.num_timesteps
            model.learn(left, statistics, log_interval=1, reset_num_timesteps=False)
        else:
            return Ending.finished, began, "The run was finished already."
        point.finish()
        return Ending.finished, model.num_timesteps, "All timesteps are done."
    except StopTraining as stopped:
        return stopped.status, model.num_timesteps, str(stopped)
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


def update_timesteps(model: Any) -> int:
    """Timesteps between two updates."""
    return int(getattr(model, "n_steps", 1)) * int(model.n_envs)
