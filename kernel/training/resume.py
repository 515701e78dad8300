"""Where a training begins: at the newest checkpoint that can be used, else at timestep 0.

The one place that decides it. A checkpoint that cannot be used, for whatever reason, is set aside with one
`checkpoint_refused` that says why, and the one before it is tried, on an algorithm and environments made anew. Where
the environments of none can be put back the newest goes on with new episodes. Everything that makes the continuation
other than bit-identical is told in one `inexact`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch as th

from kernel.channel import REPLAYING, Channel
from kernel.checkpoints import sources
from kernel.checkpoints.checkpoint import read_state, refuse
from kernel.checkpoints.digests import append_digest, read_digests
from kernel.contract import chunks, events
from kernel.contract.config import Configuration
from kernel.contract.manifest import CheckpointInvalid, Manifest
from kernel.contract.names import weights_timesteps_of
from kernel.training import codec, earlier_replay, environments, fingerprint
from kernel.training import learner as learners
from kernel.training.learner import Learner, Rows
from kernel.training.replay_store import ReplayStore
from kernel.training.state_graph.nodes import HalfRestored, NotRestorable
from kernel.training.writer import Lineage

logger = logging.getLogger(__name__)


class NotExact(ValueError):
    """Raised when bit-identical continuation was required and cannot be promised."""


@dataclass
class Beginning:
    """A training that can begin to learn."""

    learner: Learner
    store: ReplayStore | None
    choice: sources.Choice
    lineage: Lineage
    state: dict[str, Any] | None = None
    """What was put back; None from scratch."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to learn."""
        manifest = self.choice.manifest
        return self.choice.finished and manifest is not None and manifest.num_timesteps >= self.lineage.total_timesteps


@dataclass(frozen=True)
class Otherwise:
    """How to begin where beginning as usual has led nowhere."""

    passed_over: str = ""
    """Name of a checkpoint that is not to be begun at."""
    new_episodes: str = ""
    """Why the episodes are to be new ones; empty where they are to go on."""


def begin(
    configuration: Configuration, checkpoints: Path, device: str, channel: Channel, otherwise: Otherwise | None = None
) -> Beginning:
    """Make the algorithm of the run and bring it to where the run stands.

    Raises
    ------
    sources.RunChanged
        The run is not the one that its newest checkpoint was made by.
    NotExact
        `require_exact`, and the continuation is not exact.
    """
    session = configuration.session
    otherwise = otherwise or Otherwise()
    unusable: set[Path] = {checkpoints / otherwise.passed_over} if otherwise.passed_over else set()
    unrestorable: dict[Path, str] = {}
    new_episodes = otherwise.new_episodes
    while True:
        kind = learners.kind_of(configuration.run.algorithm)
        learner = kind.make(configuration.run, device, session.environment_state, session.inexact_because)
        store = _replay_store(checkpoints, learner)
        choice = sources.choose([checkpoints], configuration.run, session.allow_changed, unusable)
        for refused in choice.refused:
            _set_aside(refused, unusable, channel)
        lineage, changes, reasons = _lineage(configuration, learner, device, choice)
        beginning = Beginning(learner, store, choice, lineage)
        if choice.path is None or choice.manifest is None:
            if not unrestorable:
                if unusable and session.require_exact:
                    raise _not_exact([f"none of {len(unusable)} checkpoints can be gone on from"])
                _tell_of_weights(checkpoints, channel)
                return beginning
            # No checkpoint's environments can be put back: the newest goes on with new episodes.
            new_episodes = next(iter(unrestorable.values()))
            unusable, unrestorable = unusable - set(unrestorable), {}
            learner.close()
            continue
        reasons += changes
        if reasons and session.require_exact:
            raise _not_exact(reasons)
        beat = lambda t=choice.manifest.num_timesteps: channel.beat(t, REPLAYING)  # noqa: E731
        try:
            beginning.state, lost = _put_back(beginning, choice.path, choice.manifest, beat, new_episodes)
        except NotRestorable as error:
            channel.event(events.CheckpointRefused(file=choice.path.name, reason=str(error)))
            unusable.add(choice.path)
            unrestorable[choice.path] = str(error)
            learner.close()
            continue
        except CheckpointInvalid as error:
            if changes:  # the checkpoint is as good as it was: older ones would fit no better
                why = f"{choice.path.name} does not fit the run as it is ({'; '.join(changes)}): {error}."
                raise sources.RunChanged(f"{why} Restore what was changed.") from error
            _set_aside(sources.Refused(choice.path, str(error)), unusable, channel)
            learner.close()
            continue
        if lost and session.require_exact:
            raise _not_exact([*reasons, lost])
        if reasons or lost:
            t, reason = choice.manifest.num_timesteps, "; ".join([*reasons, *([lost] if lost else [])])
            lineage.exactness = lineage.exactness.inexact(t, reason)
            channel.event(events.Inexact(num_timesteps=t, reason=reason))
        lineage.known_digests = recorded_digests(checkpoints, choice.manifest, channel)
        return beginning


def _tell_of_weights(checkpoints: Path, channel: Channel) -> None:
    """Name the checkpoints that are there and hold too little to go on from."""
    for path in sorted(checkpoints.iterdir()):
        if weights_timesteps_of(path.name) is not None:
            reason = "its replay buffer was not kept: its weights alone are there, from which no run goes on"
            channel.event(events.CheckpointRefused(file=path.name, reason=reason))


def _set_aside(found: sources.Refused, unusable: set[Path], channel: Channel) -> None:
    channel.event(events.CheckpointRefused(file=found.path.name, reason=found.reason))
    unusable.add(found.path)  # on a disk that cannot be written the name stays
    refuse(found.path)


def _not_exact(reasons: list[str]) -> NotExact:
    said = "; ".join(reason.rstrip(".") for reason in reasons)
    return NotExact(f"Exact continuation was required, but {said}. Leave out --require-exact.")


def _put_back(
    beginning: Beginning, path: Path, manifest: Manifest, beat: Callable[[], None], new_episodes: str
) -> tuple[dict[str, Any], str]:
    """The state of a checkpoint, put back, and why its episodes are new ones if they are.

    Raises
    ------
    CheckpointInvalid
        It cannot be read, or is none of this algorithm; the algorithm may be changed by half of it.
    NotRestorable
        Its environments cannot be put back, and new episodes are not asked for.
    """
    learner, lost = beginning.learner, ""
    try:
        state = codec.decode(read_state(path, manifest))
        learner.require_whole(state, {"row_at": 0, "evaluated_at": 0, "statistics": learner.statistics.state()})
        if state["scalars"]["num_timesteps"] != manifest.num_timesteps:
            raise CheckpointInvalid(f"its state is of timestep {state['scalars']['num_timesteps']}")
        if beginning.store is not None:
            _put_replay_back(beginning.store, learner, state["replay"], manifest, beat)
        if not beginning.is_over:
            lost = learner.restore(state, beat, new_episodes)
    except (MemoryError, th.cuda.OutOfMemoryError, HalfRestored):
        raise  # says nothing of the checkpoint, or leaves nothing to try it in
    except NotRestorable:
        raise
    except (CheckpointInvalid, codec.Undecodable) as error:
        raise CheckpointInvalid(str(error)) from error
    except Exception as error:  # a state that is whole in form may hold anything, and torch raises anything of it
        raise CheckpointInvalid(f"it cannot be put back ({type(error).__name__}: {error})") from error
    return state, lost


def _replay_store(checkpoints: Path, learner: Learner) -> ReplayStore | None:
    if not learner.buffer_size:
        return None
    return ReplayStore(checkpoints / chunks.FOLDER, learner.copy_rows(0, 0), learner.buffer_size)


def _put_replay_back(
    store: ReplayStore, learner: Learner, saved: Any, manifest: Manifest, beat: Callable[[], None]
) -> None:
    """Bring the rows of a checkpoint into the buffer, a chunk at a time, each with a `beat`.

    Raises
    ------
    CheckpointInvalid
        A chunk is missing, altered, or holds other rows than the checkpoint says.
    """

    def put(first: int, rows: Rows) -> None:
        beat()
        learner.put_rows(first, rows, saved["rows"])

    listed = chunks.listed(manifest)
    if not chunks.is_of_earlier_version(manifest):
        store.load(saved, listed, put)
        return
    parts = earlier_replay.segments(store.folder, saved, listed, store.buffer_size)
    store.adopt(parts, saved["digest"], put)


def _lineage(
    configuration: Configuration, learner: Learner, device: str, choice: sources.Choice
) -> tuple[Lineage, list[str], list[str]]:
    """What this session's manifests say, what was changed of the run, and what differs of the machine.

    Raises
    ------
    sources.RunChanged
        Code, spaces or reward are not what the checkpoint was made with.
    """
    run, session = configuration.run, configuration.session
    details: dict[str, Any] = {
        "code": fingerprint.code_digests(environments.source_modules(run)),
        "trainer": fingerprint.trainer_digests(),
        **learner.details(),
    }
    now = fingerprint.fingerprint(device)
    if traffic := environments.canary(run, device):
        now["traffic"] = traffic
    lineage = Lineage(run, session, learner.total_timesteps, now, details)
    before = choice.manifest
    if before is None or choice.path is None:
        return lineage, [], []
    code, trainer = fingerprint.recorded_digests(before.details)
    recorded = {**before.details, "code": code, "trainer": trainer}
    changed: dict[str, tuple[Any, Any]] = {k: (recorded.get(k), v) for k, v in details.items() if recorded.get(k) != v}
    for key in {"code", "trainer"} & set(changed):
        changed[key] = changed_files(recorded[key], details[key])
    # An update of kaglaunch is nothing that the researcher changed: it costs exactness and not the run.
    own = changed.pop("trainer", None)
    if unmeant := {k: v for k, v in changed.items() if k not in session.allow_changed}:
        raise sources.RunChanged(sources.describe(choice.path.name, unmeant))
    lineage.parent, lineage.exactness = before.state_digest, before.exactness
    changes = [f"{key} was changed" for key in (*choice.changed, *changed)]
    if own is not None:
        changes.append(f"kaglaunch's own trainer changed: {', '.join(own[1])}")
    return lineage, changes, fingerprint.differences(before.fingerprint, now)


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


def changed_files(before: dict[str, str], now: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the source files that differ."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return {n: before.get(n) for n in names}, {n: now.get(n) for n in names}
