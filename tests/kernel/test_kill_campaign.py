"""Kill a training with SIGKILL at random instants, again and again: it must end as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import limit_s

from .support import HERE, environment

CASES = (
    "ppo-boundary",
    "ppo-any-step",
    "ppo-continuous",
    "ppo-explores-by-state",
    "ppo-4-envs-normalised",
    "ppo-opaque",
    "ppo-named",
    "a2c",
    "dqn-any-step",
    "dqn-episodes",
    "dqn-wide",
    "dqn-n-step",
    "dqn-less-memory",
    "dqn-2-envs-normalised",
    "qrdqn",
    "sac",
    "sac-explores-by-state",
    "td3-noise",
    "ddpg",
    "tqc",
    "crossq",
    "her",
    "maskable-ppo",
    "recurrent-ppo",
    "trpo",
    "ars",
)
KILLS = 6
"""In each case; 156 in all: `python -m benchmarks.kills` has hundreds more."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_runs_end_bit_identical_to_an_undisturbed_one(case: str, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "kill_campaign.py"), str(tmp_path), case, str(KILLS), "1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=limit_s(250))
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["wrong"] == []
    assert seen["kills"] >= KILLS
    assert seen["invalid"] == 0, "a checkpoint that does not verify was visible under its name"
    assert seen["went_back"] == 0, "a kill lost a checkpoint that was there before"
