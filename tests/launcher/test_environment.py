"""What files tell of the environment that a run names: what would fail for certain is refused, and nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from arz_model.control.env import TrafficSignalEnv
from kernel.contract.names import TRAFFIC
from launcher import catalogue, environment
from launcher.config import RunSettings
from launcher.errors import ConfigError
from launcher.packing import project

MODULE = """
from gymnasium import Env as Base
import gymnasium.wrappers

LIMIT: int = 5
try:
    from fast import make_fast
except ImportError:
    def make_fast(): ...
if LIMIT:
    picked = lambda **kwargs: None
with open(__file__) as handle:
    text = handle

class Balance(Base):
    def inside(self): ...

def make(length, seed=0, *, noise=0.0):
    def nested(): ...
    global late
    late = nested

def _private(**anything): ...

@wrapped
def decorated(): ...

def twice(): ...
twice = wrapped(twice)
"""


def _require(folder: Path, env: str, include: tuple[str, ...] = (), **env_kwargs: Any) -> None:
    run = RunSettings(env=env, env_kwargs=env_kwargs, include=include)
    environment.require(run, lambda key: key, project.collect(run, folder).files, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "balance.py").write_text(MODULE)
    (tmp_path / "signals").mkdir()
    (tmp_path / "signals" / "__init__.py").touch()
    (tmp_path / "signals" / "env.py").write_text("def make(**kwargs): ...\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "far.py").write_text("def make(): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("env", "include", "kwargs"),
    [
        ("CartPole-v1", (), {"anything": 1}),
        ("ALE/Pong-v5", (), {}),
        (TRAFFIC, (), {"scenario": "crossing", "demand": "peak", "max_episode_steps": 9}),
        (TRAFFIC, (), {"scenario": "mine.toml", "demand": "rush"}),
        ("balance:Registered-v0", (), {}),
        ("balance:make", (), {"length": 3, "noise": 0.1}),
        ("balance:Balance", (), {"anything": 1}),
        ("balance:Base", (), {}),
        ("balance:gymnasium", (), {}),
        ("balance:make_fast", (), {"anything": 1}),
        ("balance:picked", (), {"anything": 1}),
        ("balance:late", (), {}),
        ("balance:text", (), {}),
        ("balance:_private", (), {"anything": 1}),
        ("balance:decorated", (), {"anything": 1}),
        ("balance:twice", (), {"anything": 1}),
        ("signals.env:make", (), {"anything": 1}),
        ("signals.env:make", (".",), {}),
        ("far:make", ("src/far.py",), {}),
        ("gymnasium.envs.classic_control:CartPoleEnv", (), {}),
    ],
)
def test_an_environment_that_can_be_is_not_refused(
    folder: Path, env: str, include: tuple[str, ...], kwargs: dict[str, Any]
) -> None:
    _require(folder, env, include, **kwargs)


@pytest.mark.parametrize(
    "source",
    [
        "from others import *\n",
        "def __getattr__(name): ...\n",
        "globals()['nosuch'] = 1\n",
        "import sys\nsys.modules[__name__].__dict__['nosuch'] = 1\n",
        "type nosuch = int\nand that is no Python\n",
    ],
)
def test_what_a_module_defines_is_left_open_where_its_source_does_not_tell(tmp_path: Path, source: str) -> None:
    (tmp_path / "open.py").write_bytes(source.encode())
    run = RunSettings(env="open:nosuch", env_kwargs={})
    environment.require(run, lambda key: key, {"open.py": source.encode()}, tmp_path)


@pytest.mark.parametrize(
    ("env", "include", "kwargs", "says"),
    [
        ("balance:inside", (), {}, "names the factory 'inside', which balance.py does not define"),
        ("balance:nested", (), {}, "It defines make_fast, Balance, make, decorated, twice"),
        ("balance:mak", (), {}, r"Did you mean make_fast or make\?"),
        ("balance:make.it", (), {}, "or MODULE:FACTORY; got 'balance:make.it'"),
        ("signals:make", (), {}, "which signals/__init__.py does not define.* It defines no function and no class"),
        ("far:make", (), {}, "'far', which is neither in .* nor installed"),
        ("signals.env:make", ("src",), {}, r"lies in .* is not among what `include` names.*\n.*--include signals"),
        ("balance:make", (), {}, r"make of balance\.py needs length, which nothing gives\.\n.* = \{length = …\}"),
        ("balance:make", (), {"length": 1, "sed": 2}, r"^env_kwargs names 'sed'.* length, seed, noise\. .* mean seed"),
        (TRAFFIC, (), {"scenario": "crosing"}, r"Did you mean crossing\?(.|\n)*named by env_kwargs"),
        (TRAFFIC, (), {"scenario": "crossing", "demand": "paek"}, r"has no demand 'paek'"),
        (
            TRAFFIC,
            (),
            {"scenarios": "crossing"},
            r"'scenarios', which the traffic environment does not .* mean scenario",
        ),
    ],
)
def test_what_would_fail_for_certain_is_refused_with_what_there_is(
    folder: Path, env: str, include: tuple[str, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        _require(folder, env, include, **kwargs)


def test_what_the_traffic_environment_takes_is_read_from_its_file() -> None:
    taken = inspect.signature(TrafficSignalEnv).parameters
    assert set(taken) < set(catalogue.traffic_arguments())
    gymnasium.make(TRAFFIC, scenario="quick", max_episode_steps=5, disable_env_checker=True).close()
