"""Small configurations and how to run them; imported by the tests of the kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kernel.contract import events

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

PPO = {"algorithm": "PPO", "hyperparameters": {"n_steps": 10, "batch_size": 10, "n_epochs": 2}}


def configuration(run: dict[str, Any] | None = None, session: dict[str, Any] | None = None) -> dict[str, Any]:
    """A quick run of 100 timesteps, changed as the arguments say."""
    quick = {"run_id": "quick-run", "total_timesteps": 100, "checkpoint_freq": 10, "env": "CartPole-v1", **PPO}
    return {"run": {**quick, **(run or {})}, "session": session or {}}


def environment(**variables: str) -> dict[str, str]:
    """Variables of a process that finds the kernel and the environments of these tests."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, **variables}


def events_of(output: str) -> list[dict[str, Any]]:
    """Events among the lines of a session's standard output."""
    return [event.plain() for line in output.splitlines() if (event := events.parse(line))]
