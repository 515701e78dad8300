"""Configuration: flags win over environment over file, and nothing unknown is ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from launcher import config
from launcher.cli import main
from launcher.commands.init import init, template
from launcher.errors import ConfigError, Refused
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run


def _load(folder: Path, toml: str = "", environ: dict[str, str] | None = None, **kwargs: Any) -> config.Settings:
    if toml:
        (folder / config.FILE).write_text(toml)
    return config.load(kwargs.pop("flags", {}), folder=folder, environ=environ or {}, **kwargs)


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    toml = "[run]\ntimesteps = 1\ncheckpoint_freq = 1\nseed = 1\n"
    environ = {"KAGLAUNCH_RUN_TIMESTEPS": "2", "KAGLAUNCH_RUN_SEED": "2"}
    settings = _load(tmp_path, toml, environ, flags={"run": {"seed": 3, "timesteps": None}})
    assert (settings.run.checkpoint_freq, settings.run.timesteps, settings.run.seed) == (1, 2, 3)


def test_quick_is_a_hundred_timesteps_with_a_checkpoint_every_ten(tmp_path: Path) -> None:
    settings = _load(tmp_path, quick=True)
    assert (settings.run.timesteps, settings.run.checkpoint_freq) == (100, 10)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[run]\ntimestep = 5\n", "timesteps"),
        ("[runs]\ntimesteps = 5\n", "session"),
        ("[run]\ntimesteps = 'many'\n", r"\[run\] timesteps in .*kaglaunch\.toml must be a whole number; got 'many'"),
        ("[run]\ntimesteps = 0\n", "more than 0"),
        ("[session]\ndevice = 'quantum'\n", "auto, cpu, cuda"),
        ("[session]\nmax_hours = 40\n", "at most 12"),
        ("[session]\naccelerator = 'NvidiaTeslaP100'\n", "retired"),
        ("[session]\npublish_interval_s = nan\n", "finite"),
        ("[run]\nenv_kwargs = {since = 2026-01-01}\n", "JSON"),
        ("[run]\nhyperparameters = {gamma = inf}\n", "JSON"),
        ("[run]\npolicy = 'LstmPolicy'\n", "MlpPolicy, CnnPolicy"),
        ("[run]\nalgorithm = 'SACK'\n", "PPO, A2C, DQN"),
        ("[run]\ninclude = 'signals'\n", r"\[run\] include in .*kaglaunch\.toml must be a list"),
        ("[run]\ninclude = [1]\n", r"Item 1 of \[run\] include in .*kaglaunch\.toml must be a string; got 1"),
        ("[run\n", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(tmp_path: Path, toml: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        _load(tmp_path, toml)


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KAGLAUNCH_RUN_TIMESTEPS"):
        _load(tmp_path, environ={"KAGLAUNCH_RUN_TIMESTEPS": "lots of"})


def test_an_unknown_variable_of_ours_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KAGLAUNCH_RUN_TIMESTEP\. .*KAGLAUNCH_RUN_TIMESTEPS"):
        _load(tmp_path, environ={"KAGLAUNCH_RUN_TIMESTEP": "5"})


def test_each_value_knows_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text("[run]\nseed = 1\ntimesteps = 9\n[session]\ndevice = 'cpu'\n")
    environ = {"KAGLAUNCH_RUN_SEED": "2"}
    found = config.resolve({"run": {"env": "x:y"}}, quick=True, folder=tmp_path, environ=environ).plain()
    assert found["run"]["seed"] == {"value": 2, "source": "environment"}
    assert found["run"]["timesteps"] == {"value": 100, "source": "--quick"}
    assert found["run"]["env"] == {"value": "x:y", "source": "flag"}
    assert found["session"]["device"] == {"value": "cpu", "source": "kaglaunch.toml"}
    assert found["watch"]["silence_s"]["source"] == "default"


def test_the_traffic_scenario_is_no_argument_of_another_environment(tmp_path: Path) -> None:
    assert _load(tmp_path).run.env_kwargs == {"scenario": "quick"}
    assert _load(tmp_path, flags={"run": {"env": "CartPole-v1"}}).run.env_kwargs == {}
    toml = "[run]\nenv = 'a:b'\nenv_kwargs = {length = 3}\n"
    assert _load(tmp_path, toml).run.env_kwargs == {"length": 3}


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_quick_keeps_the_recipe_and_asks_the_algorithm_only_for_what_it_takes(tmp_path: Path, algorithm: str) -> None:
    toml = f"[run]\nalgorithm = '{algorithm}'\nhyperparameters = {{gamma = 0.9, learning_rate = 'lin_1e-3'}}\n"
    found = dict(_load(tmp_path, toml, quick=True).run.hyperparameters)
    assert (found.pop("gamma"), found.pop("learning_rate")) == (0.9, "lin_1e-3")
    assert found == config.QUICK_HYPERPARAMETERS[algorithm]
    assert "batch_size" not in found or algorithm == "PPO"


def test_settings_do_not_follow_what_they_were_given(tmp_path: Path) -> None:
    inner = {"net_arch": [64]}
    given = {"hyperparameters": {"policy_kwargs": inner}, "env": "balance:make", "env_kwargs": {"lengths": [1]}}
    found = config.load({"run": given}, folder=tmp_path, environ={}).run
    inner["net_arch"].append(8)
    given["env_kwargs"]["lengths"].append(2)  # type: ignore[index]
    assert found.hyperparameters == {"policy_kwargs": {"net_arch": [64]}}
    assert found.env_kwargs == {"lengths": [1]}
    with pytest.raises(TypeError):
        found.hyperparameters["policy_kwargs"]["net_arch"].append(8)
    with pytest.raises(TypeError):
        config.RunSettings().env_kwargs["scenario"] = "crossing"  # type: ignore[index]


def test_kernel_reads_what_the_launcher_writes(tmp_path: Path) -> None:
    settings = _load(tmp_path, quick=True)
    written = Configuration(settings.run_config("quick-abcdef"), settings.session_config(2, "local/quick-abcdef-ckpt"))
    assert Configuration.from_json(written.to_json()) == written


def test_digest_is_of_the_run_alone() -> None:
    run = RunConfig("quick-abcdef", 100, 10)
    assert Configuration(run, SessionConfig(session=2, device="cpu")).run.digest == run.digest
    assert RunConfig("quick-abcdef", 100, 10, seed=1).digest != run.digest


def test_run_ids_do_not_repeat() -> None:
    """Of 10^9 names; two of a hundred are alike once in 200,000 times."""
    assert len({config.new_run_id("quick") for _ in range(100)}) == 100


def test_the_written_file_names_every_key_and_changes_nothing(tmp_path: Path) -> None:
    text = template()
    assert _load(tmp_path, text) == config.Settings()
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines()[2:])
    assert _load(tmp_path, uncommented) == config.Settings()


def test_init_does_not_write_over_a_file_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / config.FILE).write_text("[run]\nseed = 7\n")
    with pytest.raises(Refused, match="--force"):
        init(force=False)
    assert _load(tmp_path).run.seed == 7
    init(force=True)
    assert _load(tmp_path) == config.Settings()


def test_what_a_resume_insists_on_and_accepts_reaches_the_kernel(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    Ledger().add_run(new_run("quick-abcdef", "local", "local", RunConfig("quick-abcdef", 100, 10), home))
    monkeypatch.setattr("launcher.commands.resume.resume", lambda run, **kwargs: asked.update(kwargs))
    command = ["resume", "--require-exact", "--allow-changed", "code", "--allow-changed", "reward"]
    assert main(command) == 0
    session = _load(tmp_path, flags=asked["flags"]).session_config(2, "")
    assert (session.require_exact, session.allow_changed) == (True, ("code", "reward"))
    assert main(["resume"]) == 0
    session = _load(tmp_path, flags=asked["flags"]).session_config(2, "")
    assert (session.require_exact, session.allow_changed) == (False, ())


def test_allow_changed_takes_names_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Item 1 of \[session\] allow_changed in .* must be a string; got 3"):
        _load(tmp_path, "[session]\nallow_changed = [3]\n")


@pytest.mark.parametrize(
    ("settings", "sent", "renamed"),
    [
        (config.RunSettings, RunConfig, {"timesteps": "total_timesteps", "include": None}),
        (
            config.SessionSettings,
            SessionConfig,
            {
                "max_hours": "max_seconds",
                "publish_interval_s": "publish_interval_seconds",
                "silence_s": "silence_seconds",
                "disk_gb": "disk_bytes",
                "replay_dataset_mb": "replay_dataset_bytes",
                "accelerator": None,
            },
        ),
    ],
)
def test_what_a_kernel_is_told_leaves_no_setting_out(
    settings: type, sent: type, renamed: Mapping[str, str | None]
) -> None:
    """Each setting is changed by itself, and its field of what the kernel is told changes; None travels elsewhere."""
    other: dict[str, Any] = {
        "env": "CartPole-v1", "env_kwargs": {"x": 1}, "algorithm": "DQN", "policy": "CnnPolicy", "device": "cpu",
        "hyperparameters": {"gamma": 0.5}, "on_flood": "throttle", "on_unhealthy": "stop", "allow_changed": ("code",),
    }  # fmt: skip
    for item in dataclasses.fields(settings):
        name = renamed.get(item.name, item.name)
        if name is None:
            continue
        assert name in {known.name for known in dataclasses.fields(sent)}
        default = getattr(settings(), item.name)
        value = other.get(item.name, not default if isinstance(default, bool) else None)
        value = default + 1 if value is None else value
        section = "run" if settings is config.RunSettings else "session"
        changed = dataclasses.replace(config.Settings(), **{section: settings(**{item.name: value})})
        told = [
            one.run_config("run-abcdef") if section == "run" else one.session_config(1, "")
            for one in (config.Settings(), changed)
        ]
        assert getattr(told[0], name) != getattr(told[1], name), item.name
