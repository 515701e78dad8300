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
from kernel.checkpoints.checkpoint import METRICS_MEMBER, read_member, read_state, refuse
from kernel.checkpoints.digests import append_digest, read_digests
from kernel.contract import events
from kernel.contract.config import Configuration
from kernel.contract.endings import Ending
from kernel.contract.manifest import CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.contract.names import CHECKPOINTS, METRICS
from kernel.training import codec, environments, evaluation, fingerprint
from kernel.training.cadence import Cadence
from kernel.training.consistent_point import ConsistentPoint, StopTraining
from kernel.training.metrics import MetricsFile, StepStatistics
from kernel.training.pace import Pace
from kernel.training.sb3 import algorithms, exact_state, replay
from kernel.training.sb3.members import constant_data
from kernel.training.writer import CheckpointWriter, Lineage

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
    venv = environments.make_environments(run, device)
    model = algorithms.make_model(run, venv, device)
    statistics = StepStatistics()
    model.set_logger(statistics.make_logger())
    total = algorithms.rounded_total(run, model)

    store = replay.store_for(model, folder / CHECKPOINTS)
    choice, state = newest_state(folder / CHECKPOINTS, configuration, model, store, channel)
    lineage = make_lineage(configuration, total, venv, device, choice, channel)
    metrics = MetricsFile(folder / METRICS)
    begin_metrics(metrics, folder, choice)
    writer = CheckpointWriter(folder / CHECKPOINTS, lineage, constant_data(model), metrics, channel.event, store)

    began = choice.manifest.num_timesteps if choice.manifest else 0
    point = ConsistentPoint(
        model,
        venv,
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
        if state is None:
            model.learn(total, statistics, log_interval=1)
        elif began < total or not choice.finished:
            point.restore_now(state)
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


def newest_state(
    checkpoints: Path, configuration: Configuration, model: Any, store: replay.SegmentStore | None, channel: Channel
) -> tuple[sources.Choice, dict[str, Any] | None]:
    """The newest checkpoint that can be resumed from, and its state; what cannot is set aside."""
    while True:
        choice = sources.choose([checkpoints], configuration.run, configuration.session.allow_changed)
        for refused in choice.refused:
            channel.event(events.CheckpointRefused(file=refused.path.name, reason=refused.reason))
            refuse(refused.path)
        if choice.path is None or choice.manifest is None:
            return choice, None
        try:
            state = codec.decode(read_state(choice.path, choice.manifest))
            if store is not None:
                store.fill(model, state["replay"], choice.manifest.details["segments"])
            return choice, state
        except (codec.Undecodable, CheckpointInvalid) as error:
            channel.event(events.CheckpointRefused(file=choice.path.name, reason=str(error)))
            refuse(choice.path)


def choose_device(wanted: str) -> str:
    """`cuda` or `cpu`, one thread in either case."""
    th.set_num_threads(1)
    device = ("cuda" if th.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    if device == "cuda":
        th.use_deterministic_algorithms(True, warn_only=True)
        th.backends.cudnn.benchmark = False
    return device


def make_lineage(
    configuration: Configuration, total: int, venv: Any, device: str, choice: sources.Choice, channel: Channel
) -> Lineage:
    """What this session's manifests say, and whether the continuation is exact.

    Raises
    ------
    sources.RunChanged
        Code, spaces or reward are not what the checkpoint was made with.
    exact_state.NotExact
        `require_exact`, and it cannot be promised.
    """
    run, session = configuration.run, configuration.session
    details: dict[str, Any] = {
        "code": fingerprint.code_digests(environments.source_modules(run)),
        "observation_space": str(venv.observation_space),
        "action_space": str(venv.action_space),
        "reward": environments.reward_source(venv),
    }
    now = fingerprint.fingerprint(device)
    if traffic := environments.canary(run, device):
        now["traffic"] = traffic
    lineage = Lineage(run, session, total, now, details)
    before = choice.manifest
    if before is None or choice.path is None:
        return lineage
    changed = {k: (before.details.get(k), v) for k, v in details.items() if before.details.get(k) != v}
    if "code" in changed:
        changed["code"] = changed_files(changed["code"][0], details["code"])
    if unmeant := {k: v for k, v in changed.items() if k not in session.allow_changed}:
        raise sources.RunChanged(sources.describe(choice.path.name, unmeant))
    lineage.parent, lineage.exact = before.state_digest, before.exact
    lineage.known_digests = recorded_digests(choice.path.parent, before, channel)
    reasons = [*fingerprint.differences(before.fingerprint, now)]
    reasons += [f"{key} was changed" for key in (*choice.changed, *changed)]
    if reasons:
        lineage.exact = False
        if session.require_exact:
            raise exact_state.NotExact(
                f"Exact continuation was required, but {'; '.join(reasons)}. Leave out --require-exact."
            )
        channel.event(events.Inexact(num_timesteps=before.num_timesteps, reason="; ".join(reasons)))
    return lineage


def recorded_digests(folder: Path, manifest: Manifest, channel: Channel) -> dict[int, str]:
    """Digests that `folder` records, and that of `manifest`: its writer may have been killed before it did."""
    digests = read_digests(folder)
    t = manifest.num_timesteps
    if t not in digests:
        digests[t] = manifest.state_digest
        try:
            append_digest(folder, t, manifest.state_digest)
        except OSError as error:
            reason = f"its digest could not be recorded: {error}"
            channel.event(events.CheckpointFailed(num_timesteps=t, reason=reason))
    return digests


def changed_files(before: Any, now: dict[str, str]) -> tuple[Any, Any]:
    """Only the source files that differ."""
    before = before if isinstance(before, dict) else {}
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return {n: before.get(n) for n in names}, {n: now.get(n) for n in names}


def begin_metrics(metrics: MetricsFile, folder: Path, choice: sources.Choice) -> None:
    """Rows up to the checkpoint that training resumes from, out of the file and of every checkpoint there."""
    texts = [metrics.path.read_text("utf-8", "replace")] if metrics.path.is_file() else []
    for path in reversed(checkpoints_in(folder / CHECKPOINTS)):
        try:
            manifest = verify(path)
        except CheckpointInvalid:
            continue  # an older one than the one resumed from; nobody needs it
        if METRICS_MEMBER in manifest.members:
            rows = read_member(path, METRICS_MEMBER, manifest.members[METRICS_MEMBER].size)
            texts.append(rows.decode("utf-8", "replace"))
    metrics.begin(choice.manifest.num_timesteps if choice.manifest else -1, texts)


def update_timesteps(model: Any) -> int:
    """Timesteps between two updates."""
    return int(getattr(model, "n_steps", 1)) * int(model.n_envs)
