"""Checkpoints of kaglaunch 0.1 (tests/data/version_0_1) are resumed to the end of their runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, learn

from kernel.checkpoints import sources
from kernel.contract.config import Configuration, RunConfig, SessionConfig, from_mapping
from kernel.contract.manifest import checkpoints_in, verify
from kernel.training import environments, fingerprint, policy
from kernel.training.resume import NotExact

RECORDED = Path(__file__).resolve().parents[1] / "data" / "version_0_1"


@pytest.fixture(params=["ppo", "dqn"])
def dataset(request: pytest.FixtureRequest) -> Path:
    return RECORDED / request.param / "dataset"


def brought_back(dataset: Path, folder: Path, **session: Any) -> Configuration:
    """A session's folder with the newest checkpoint of the mounted `dataset`; its configuration."""
    run = from_mapping(RunConfig, json.loads((dataset / "run.json").read_text())["run"])
    choice = sources.choose([dataset], run)
    assert choice.path is not None
    assert choice.manifest is not None
    sources.import_checkpoint(choice.path, choice.manifest, folder / "checkpoints")
    sources.import_records(choice.path, folder, folder / "checkpoints")
    return Configuration(run, SessionConfig(session=2, device="cpu", **session))


def test_a_run_of_the_version_before_goes_on_to_its_end_and_says_that_the_trainer_changed(
    dataset: Path, tmp_path: Path
) -> None:
    ear = Ear()
    assert learn(brought_back(dataset, tmp_path), tmp_path, ear)[:2] == ("finished", 200)
    assert ear.of("checkpoint_refused") == []
    assert ear.of("training")[0]["num_timesteps"] == 100
    (inexact,) = ear.of("inexact")
    assert "kaglaunch's own trainer changed: " in inexact["reason"]
    last = verify(checkpoints_in(tmp_path / "checkpoints")[0])
    assert (last.num_timesteps, last.exact) == (200, False)
    rows = [json.loads(line)["num_timesteps"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(20, 201, 20))


def test_exactness_that_was_required_is_refused_and_nothing_is_set_aside(dataset: Path, tmp_path: Path) -> None:
    wanted = brought_back(dataset, tmp_path, require_exact=True)
    with pytest.raises(NotExact, match="own trainer changed"):
        learn(wanted, tmp_path)
    assert [path.name for path in checkpoints_in(tmp_path / "checkpoints")] == ["checkpoint_t100.zip"]


def test_its_policy_can_be_looked_at(dataset: Path, tmp_path: Path) -> None:
    brought_back(dataset, tmp_path)
    found = policy.load_policy(tmp_path / "checkpoints" / "checkpoint_t100.zip")
    assert found.num_timesteps == 100
    assert found.model.predict(found.model.observation_space.sample())[0] in (0, 1)


def test_code_of_the_researcher_that_changed_is_refused_as_ever(tmp_path: Path, monkeypatch: Any) -> None:
    """Recorded as 0.1 did: own modules and the researcher's in one table."""
    digests = {"roads/env.py": "0123456789abcdef", "kernel/point.py": "fedcba9876543210"}
    code, trainer = fingerprint.recorded_digests({"code": digests})
    assert (code, trainer) == ({"roads/env.py": "0123456789abcdef"}, {"point.py": "fedcba9876543210"})
    wanted = brought_back(RECORDED / "ppo" / "dataset", tmp_path)
    monkeypatch.setattr(environments, "source_modules", lambda run: ["toy_environments"])
    with pytest.raises(sources.RunChanged, match=r"toy_environments\.py"):
        learn(wanted, tmp_path)
    allowed = dataclasses.replace(wanted, session=dataclasses.replace(wanted.session, allow_changed=("code",)))
    assert learn(allowed, tmp_path)[0] == "finished"
