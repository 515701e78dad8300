"""The shipped recipes are configurations that launch and train as they are."""

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from kernel.training.environments import make_environments
from kernel.training.sb3.algorithms import make_model
from launcher import config

RECIPES = sorted(file.name for file in (files("arz_model") / "recipes").iterdir() if file.name.endswith(".toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_whole_configuration_file_whose_agent_can_be_built(name, tmp_path):
    shutil.copy(Path(str(files("arz_model") / "recipes" / name)), tmp_path / "kaglaunch.toml")
    run = config.resolve({}, folder=tmp_path, environ={}).settings.run_config("a-recipe")
    assert run.env_kwargs["scenario"] == name.removesuffix(".toml")
    assert run.eval_freq % run.checkpoint_freq == 0  # the best evaluation then has a checkpoint
    few = replace(run, n_envs=2)
    model = make_model(few, make_environments(few, "cpu"), "cpu")
    assert model.policy.observation_space.shape == make_environments(few, "cpu").observation_space.shape
    assert model.lr_schedule(1.0) > model.lr_schedule(0.5) > 0.0
