"""Whatever a whole and well-hashed checkpoint holds, the training goes on: from it, from the one before, or anew."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from harness import SMALL_DQN, Ear, configuration, digests, learn, learn_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.checkpoints import checkpoint, sources
from kernel.checkpoints.retention import Scores
from kernel.contract.manifest import MANIFEST, CheckpointInvalid, Manifest, checkpoints_in, verify
from kernel.training import codec, environment_state

RUNS: dict[str, dict[str, Any]] = {
    "ppo": {"n_envs": 2, "normalize": True, "total_timesteps": 96, "env": "toy_environments:Queue"},
    "opaque": {"total_timesteps": 48, "env": "toy_environments:OpaqueQueue"},
    "dqn": {
        "algorithm": "DQN",
        "hyperparameters": SMALL_DQN,
        "env": "toy_environments:ContractQueue",
        "total_timesteps": 48,
    },
}
ODD = [
    None,
    True,
    -1,
    0,
    10**12,
    1.5,
    float("nan"),
    "x",
    b"x",
    [],
    [1],
    {},
    {"x": 1},
    np.zeros(0),
    np.ones((2, 3), "f4"),
]


@pytest.fixture(scope="module", params=RUNS)
def half(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run that was killed half way, inside a rollout: its configuration and its folder."""
    wanted = configuration(RUNS[request.param], keep_checkpoints=20)
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        learn_until(wanted, folder, 60 if request.param == "ppo" else 43, patch)
    return wanted, folder


def rewrite(path: Path, state: Any = None, **manifest: Any) -> None:
    """Put another state or manifest into a checkpoint, with every hash as it should be."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    values = json.loads(members.pop(MANIFEST))
    if state is not None:
        members[checkpoint.STATE] = codec.encode(state)
        values["state_digest"] = hashlib.sha256(members[checkpoint.STATE]).hexdigest()
    values["members"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(MANIFEST, json.dumps({**values, **manifest}))


def state_of(path: Path) -> Any:
    return codec.decode(checkpoint.read_state(path, verify(path)))


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a tree there is something, the environments' own values left out."""
    yield at
    if at and at[-1] in ("graph", "told", "begins"):
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def changed(tree: Any, at: tuple[Any, ...], value: Any, drop: bool) -> Any:
    """`tree` with what lies `at` a place replaced by `value`, or left out."""
    if not at:
        return value
    tree = copy.deepcopy(tree)
    inner = tree
    for key in at[:-1]:
        inner = inner[key]
    if drop:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return tree


def goes_on(wanted: Any, folder: Path, odd: str) -> None:
    """Resume; the run must reach its end, and what could not be used must be said once."""
    ear = Ear()
    assert learn(wanted, folder, ear)[0] == "finished"
    refused = [event["file"] for event in ear.of("checkpoint_refused")]
    assert refused in ([], [odd])
    started = ear.of("training")[0]
    if refused:
        assert started["checkpoint"] != odd
        assert started["num_timesteps"] > 0
    assert len(ear.of("inexact")) <= 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False), value=st.sampled_from(ODD), drop=st.booleans())
def test_a_state_of_which_any_part_is_odd_never_stops_the_run(
    half: Any, tmp_path_factory: Any, chance: random.Random, value: Any, drop: bool
) -> None:
    wanted, folder = half
    here = shutil.copytree(folder, tmp_path_factory.mktemp("odd") / "run")
    newest = checkpoints_in(here / "checkpoints")[0]
    state = state_of(newest)
    rewrite(newest, changed(state, chance.choice(list(places(state))), value, drop))
    goes_on(wanted, here, newest.name)
    shutil.rmtree(here.parent)


JSON_ODD = [None, True, -1, 0, 10**30, 1.5, "x", [], [1], {}, {"x": 1}]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False), value=st.sampled_from(JSON_ODD), drop=st.booleans())
def test_a_manifest_of_which_any_part_is_odd_never_crashes_the_run(
    half: Any, tmp_path_factory: Any, chance: random.Random, value: Any, drop: bool
) -> None:
    wanted, folder = half
    here = shutil.copytree(folder, tmp_path_factory.mktemp("odd") / "run")
    newest = checkpoints_in(here / "checkpoints")[0]
    with zipfile.ZipFile(newest) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    odd = changed(manifest, chance.choice(list(places(manifest))), value, drop)
    with zipfile.ZipFile(newest, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(MANIFEST, json.dumps(odd))
    # A manifest may say that it is of another code or configuration: that is refused, and nothing is set aside.
    with contextlib.suppress(sources.RunChanged):
        goes_on(wanted, here, newest.name)
    shutil.rmtree(here.parent)


def test_a_state_without_any_of_its_parts_leads_to_the_checkpoint_before(half: Any, tmp_path: Path) -> None:
    wanted, folder = half
    for part in state_of(checkpoints_in(folder / "checkpoints")[0]):
        here = shutil.copytree(folder, tmp_path / part)
        newest, before, *_ = checkpoints_in(here / "checkpoints")
        state = state_of(newest)
        del state[part]
        rewrite(newest, state)
        ear = Ear()
        assert learn(wanted, here, ear)[0] == "finished"
        assert [event["file"] for event in ear.of("checkpoint_refused")] == [newest.name]
        assert ear.of("training")[0]["checkpoint"] == before.name
        assert ear.of("inexact") == []


def _with_a_weight_of_another_shape(path: Path) -> None:
    state = state_of(path)
    state["policy"]["action_net.weight"] = np.zeros((2, 3), np.float32)
    rewrite(path, state)


def _with_an_attribute_that_is_nowhere(path: Path) -> None:
    state = state_of(path)
    env = next(node for node in state["environments"]["graph"]["nodes"] if node[1].endswith(":Queue"))
    env[4]["queue"] = codec.Reference(10**6)
    rewrite(path, state)


def _with_the_moments_of_another_network(path: Path) -> None:
    state = state_of(path)
    state["optimizer"]["state"][0]["exp_avg"] = np.zeros((9, 9), np.float32)
    rewrite(path, state)


def _that_claims_another_timestep(path: Path) -> None:
    state = state_of(path)
    state["scalars"]["num_timesteps"] = 10**12
    rewrite(path, state)


def _that_is_a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _that_leads_to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


ODDITIES = [
    _with_a_weight_of_another_shape,
    _with_an_attribute_that_is_nowhere,
    _with_the_moments_of_another_network,
    _that_claims_another_timestep,
    _that_is_a_link_to_itself,
    _that_leads_to_a_pipe,
    lambda path: rewrite(path, details=[]),
    lambda path: rewrite(path, fingerprint=[]),
    lambda path: rewrite(path, metrics="x"),
    lambda path: rewrite(path, state_digest="0" * 64),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    learn(configuration({"env": "toy_environments:Queue"}, keep_checkpoints=20), folder)
    return folder


@pytest.mark.parametrize("make_odd", ODDITIES)
def test_the_checkpoint_before_an_odd_one_is_taken_and_the_run_ends_the_same(
    make_odd: Any, whole: Path, tmp_path: Path
) -> None:
    wanted = configuration({"env": "toy_environments:Queue"}, keep_checkpoints=20)
    here = shutil.copytree(whole, tmp_path / "run", symlinks=True)
    for path in checkpoints_in(here / "checkpoints"):
        if verify(path).num_timesteps > 56:
            path.unlink()
    newest, before, *_ = checkpoints_in(here / "checkpoints")
    make_odd(newest)
    ear = Ear()
    assert learn(wanted, here, ear)[:2] == ("finished", 96)
    assert [event["file"] for event in ear.of("checkpoint_refused")] == [newest.name]
    assert ear.of("training")[0]["checkpoint"] == before.name
    assert ear.of("inexact") == []
    assert digests(here)[96] == digests(whole)[96]


def test_a_pipe_under_the_name_of_a_checkpoint_is_refused_without_waiting_for_what_it_brings(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_t8.zip"
    os.mkfifo(path)
    with pytest.raises(CheckpointInvalid, match="no regular file"):
        verify(path)
    assert Scores().chunks(path) == ()
    assert Scores().best([path]) is None


def test_where_no_checkpoint_can_be_used_the_run_begins_anew_and_says_why(whole: Path, tmp_path: Path) -> None:
    here = shutil.copytree(whole, tmp_path / "run")
    odd = checkpoints_in(here / "checkpoints")
    for path in odd:
        _with_a_weight_of_another_shape(path)
    ear = Ear()
    assert learn(configuration({"env": "toy_environments:Queue"}, keep_checkpoints=20), here, ear)[0] == "finished"
    assert [event["file"] for event in ear.of("checkpoint_refused")] == [path.name for path in odd]
    assert ear.of("training")[0]["num_timesteps"] == 0
    assert digests(here)[96] == digests(whole)[96]


def test_from_weights_alone_no_run_goes_on_and_it_says_so(tmp_path: Path) -> None:
    wanted = configuration(RUNS["dqn"], keep_checkpoints=2)
    learn(wanted, tmp_path)
    whole = digests(tmp_path)
    left = [checkpoint.leave_weights(path).name for path in checkpoints_in(tmp_path / "checkpoints")]
    ear = Ear()
    assert learn(wanted, tmp_path, ear)[0] == "finished"
    assert ear.of("training")[0]["num_timesteps"] == 0
    assert sorted(event["file"] for event in ear.of("checkpoint_refused")) == sorted(left)
    assert digests(tmp_path) == whole


def test_a_run_that_was_changed_on_purpose_keeps_the_checkpoints_that_do_not_fit_it(
    whole: Path, tmp_path: Path
) -> None:
    here = shutil.copytree(whole, tmp_path / "run")
    names = [path.name for path in checkpoints_in(here / "checkpoints")]
    wider = {"env": "toy_environments:Queue", "hyperparameters": {"n_steps": 16, "policy_kwargs": {"net_arch": [9]}}}
    with pytest.raises(sources.RunChanged, match="hyperparameters was changed"):
        learn(
            configuration({**wider, "total_timesteps": 960}, allow_changed=("hyperparameters", "total_timesteps")), here
        )
    assert [path.name for path in checkpoints_in(here / "checkpoints")] == names


def test_an_endless_episode_of_an_opaque_environment_trains_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(environment_state, "MAX_REPEATED_ACTIONS", 30)
    wanted = configuration({"env": "toy_environments:OpaqueQueue", "env_kwargs": {"length": 10_000}})
    ear = Ear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.Ear", lambda: ear)
        learn_until(wanted, tmp_path, 70, patch)
    (inexact,) = ear.of("inexact")
    assert inexact["num_timesteps"] == 32
    assert "more than 30 steps" in inexact["reason"]
    again = Ear()
    assert learn(wanted, tmp_path, again)[:2] == ("finished", 96)
    assert again.of("training")[0]["num_timesteps"] == 64
    assert "more than 30 steps" in again.of("inexact")[0]["reason"]
    assert again.of("checkpoint_refused") == []
    assert verify(checkpoints_in(tmp_path / "checkpoints")[0]).exact is False


@pytest.mark.parametrize("inner", ["Queue", "ContractQueue", "OpaqueQueue"])
@pytest.mark.parametrize("wrapper", ["NormalizeObservation", "NormalizeReward"])
def test_running_statistics_of_gymnasiums_wrappers_come_back(
    inner: str, wrapper: str, tmp_path: Path, monkeypatch: Any
) -> None:
    wanted = configuration({"env": "toy_environments:wrapped", "env_kwargs": {"inner": inner, "wrapper": wrapper}})
    learn(wanted, tmp_path / "whole")
    learn_until(wanted, tmp_path / "killed", 58, monkeypatch)
    ear = Ear()
    assert learn(wanted, tmp_path / "killed", ear)[0] == "finished"
    assert ear.of("training")[0]["num_timesteps"] == 56
    assert ear.of("inexact") == []
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("method", ["state_dict", "load_state_dict"])
def test_a_contract_that_fails_costs_the_episode_and_not_the_run(method: str, tmp_path: Path, monkeypatch: Any) -> None:
    def fails(self: gymnasium.Env, *_: Any) -> Any:
        raise KeyError("lanes")

    wanted = configuration()
    if method == "state_dict":
        monkeypatch.setattr(f"toy_environments.ContractQueue.{method}", fails)
    learn_until(wanted, tmp_path, 58, monkeypatch)
    monkeypatch.setattr(f"toy_environments.ContractQueue.{method}", fails)
    ear = Ear()
    assert learn(wanted, tmp_path, ear)[:2] == ("finished", 96)
    assert ear.of("training")[0]["num_timesteps"] == 56
    assert "lanes" in ear.of("inexact")[0]["reason"]


def test_a_rewritten_state_under_the_digest_of_the_old_one_is_refused_wherever_it_is_read(
    whole: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(whole, tmp_path / "run") / "checkpoints" / "checkpoint_t96.zip"
    digest = verify(path).state_digest
    rewrite(path, {**state_of(path), "collected": [1, 0]}, state_digest=digest)
    with pytest.raises(CheckpointInvalid, match="digest"):
        verify(path)


@given(st.recursive(st.sampled_from(JSON_ODD), lambda inner: st.dictionaries(st.text(), inner, max_size=3)))
def test_a_manifest_is_read_or_refused(values: Any) -> None:
    try:
        Manifest.from_json(json.dumps(values))
    except CheckpointInvalid:
        return
    raise AssertionError(values)
