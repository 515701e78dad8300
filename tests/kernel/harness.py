"""A training in this process, with its events kept and an end at a chosen step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernel.channel import Channel
from kernel.checkpoints.digests import read_digests
from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.events import Event
from kernel.training import train

SMALL = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
SMALL_DQN = {
    "buffer_size": 90,
    "learning_starts": 20,
    "batch_size": 8,
    "target_update_interval": 20,
    "policy_kwargs": {"net_arch": [8]},
}


class Killed(BaseException):
    """The end of the process, as far as the training can see."""


class Ear(Channel):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def event(self, event: Event) -> None:
        self.events.append(event.plain())

    def of(self, name: str) -> list[dict[str, Any]]:
        """All events of one name."""
        return [event for event in self.events if event["event"] == name]


def configuration(run: dict[str, Any] | None = None, **session: Any) -> Configuration:
    """A run of 96 timesteps of a toy environment."""
    small = {
        "run_id": "small-run",
        "total_timesteps": 96,
        "checkpoint_freq": 8,
        "env": "toy_environments:ContractQueue",
        "hyperparameters": SMALL,
    }
    return Configuration(RunConfig(**{**small, **(run or {})}), SessionConfig(device="cpu", **session))


def learn(wanted: Configuration, folder: Path, ear: Ear | None = None) -> tuple[str, int, str]:
    """Train in `folder`, from its newest checkpoint if it has one."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return train.train(wanted, folder, ear or Ear(), 1e6)
    finally:
        signal.signal(signal.SIGTERM, handler)


def learn_until(wanted: Configuration, folder: Path, steps: int, monkeypatch: Any) -> None:
    """Train and end without warning in the `steps`-th step of an environment, or of a batch of them."""
    import toy_environments

    from arz_model.control.vector import TrafficSignalVectorEnv

    left = [steps]
    stepped: Any = TrafficSignalVectorEnv if wanted.run.env.startswith("arz_model:") else toy_environments.Queue
    original: Callable[..., Any] = stepped.step

    def step(self: Any, action: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return original(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(stepped, "step", step)
        try:
            learn(wanted, folder)
        except Killed:
            return
    raise AssertionError(f"the run ended before step {steps}")


def digests(folder: Path) -> dict[int, str]:
    """State digests that a run recorded."""
    return read_digests(folder / "checkpoints")
