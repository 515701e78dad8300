"""The policy of a checkpoint, for looking at what a training brought: nothing of the training comes along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch as th

from kernel.checkpoints import checkpoint
from kernel.contract.config import RunConfig, from_mapping
from kernel.contract.manifest import CheckpointInvalid, verify
from kernel.training import codec
from kernel.training.environments import VecEnv, make_environments
from kernel.training.sb3 import algorithms


@dataclass(frozen=True)
class TrainedPolicy:
    """What `load_policy` found."""

    run: RunConfig
    num_timesteps: int
    model: Any
    """Has `predict(obs, deterministic=True)`."""


def load_policy(path: Path, device: str = "cpu") -> TrainedPolicy:
    """Read the policy of a checkpoint file; nothing is unpickled.

    Raises
    ------
    CheckpointInvalid
        The file does not verify, or does not say which run it is of.
    """
    manifest = verify(path)
    described = manifest.details.get("run")
    if not isinstance(described, dict):
        raise CheckpointInvalid(f"{path.name} does not say what run it is of")
    run = from_mapping(RunConfig, described)
    state = codec.decode(checkpoint.read_state(path, manifest))
    # Batch sizes concern learning only; SB3 warns where they do not suit one environment.
    small = {k: v for k, v in run.hyperparameters.items() if k not in ("batch_size", "n_steps", "buffer_size")}
    venv: VecEnv = make_environments(replace(run, n_envs=1, normalize=False), device)
    try:
        model = algorithms.make_model(replace(run, n_envs=1, hyperparameters=small), venv, device)
    finally:
        venv.close()
    model.policy.load_state_dict({name: th.from_numpy(array.copy()) for name, array in state["policy"].items()})
    return TrainedPolicy(run, manifest.num_timesteps, model)
