"""`kaglaunch evaluate`: real processes, real checkpoints."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from kernel.contract.manifest import checkpoints_in
from kernel.training import compare
from launcher import Kaglaunch
from launcher.documents import schema
from launcher.errors import NotCompared

pytestmark = pytest.mark.slow
SIGNALS = Path(__file__).resolve().parents[2] / "docs" / "signals.md"


def kaglaunch(*arguments, folder, state):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(state), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "launcher", "evaluate", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, trains):
    """Checkpoints of a short training on `quick`."""
    folder = tmp_path_factory.mktemp("trained")
    run = RunConfig(
        run_id="short-training",
        total_timesteps=64,
        checkpoint_freq=32,
        n_envs=2,
        env_kwargs={"scenario": "quick", "decision_interval_s": 10, "change_step_s": 1},
        hyperparameters={"n_steps": 16, "batch_size": 32},
    )
    (folder / "run.json").write_text(Configuration(run, SessionConfig(device="cpu")).to_json())
    subprocess.run(
        [sys.executable, "-m", "kernel", "--config", "run.json"],
        cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}, check=True, capture_output=True,
    )  # fmt: skip
    return checkpoints_in(folder / "checkpoints")[0]


def test_the_documented_comparison_prints_its_table(tmp_path):
    (command,) = re.findall(r"^kaglaunch evaluate (.*)$", SIGNALS.read_text(encoding="utf-8"), re.MULTILINE)
    done = kaglaunch(*command.split(), "--seeds", "2", folder=tmp_path, state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "crossing, demand peak: 2 held-out episodes" in done.stdout
    assert "|" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for name in ("webster", "actuated", "max-pressure"):
        assert name in done.stdout.lower()


def test_agent_and_controllers_meet_on_the_agents_scenario(trained, tmp_path):
    done = kaglaunch(
        "actuated", "random", "--agent", str(trained), "--seeds", "3", "--json", "--plot", "delays.svg",
        folder=tmp_path, state=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema.json_schema("evaluate"))
    assert found["scenario"] == "quick"
    assert [c["name"] for c in found["controllers"]] == ["actuated", "random", "short-training t64"]
    assert [c["decision_interval_s"] for c in found["controllers"]] == [1, 10, 10]
    assert all(len(c["episodes"]["delay_s"]) == 3 for c in found["controllers"])
    assert (tmp_path / "delays.svg").read_text().count("±") == 3


@pytest.mark.parametrize("plot", ["nowhere/delays.svg", ".", "file/delays.svg"])
def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_simulated(plot, tmp_path):
    (tmp_path / "file").touch()
    done = kaglaunch("webster", "--seeds", "2", "--plot", plot, folder=tmp_path, state=tmp_path)
    assert done.returncode == 2
    assert f"--plot names {plot}" in done.stderr
    assert "Loading the simulator" not in done.stderr
    assert (done.stdout, [path.name for path in tmp_path.iterdir()]) == ("", ["file"])


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_plot_that_fails_in_the_end_costs_nothing_of_the_comparison(form, tmp_path):
    plot = "x" * 300 + ".svg"  # no file system of ours takes the name
    arguments = ["fixed", "--scenario", "quick", "--seeds", "2", "--plot", plot, *form]
    done = kaglaunch(*arguments, folder=tmp_path, state=tmp_path)
    assert done.returncode == 1
    assert f"{plot} could not be written: File name too long." in " ".join(done.stderr.split())
    assert "fixed" in done.stdout
    if form:
        jsonschema.validate(json.loads(done.stdout), schema.json_schema("evaluate"))
    assert not list(tmp_path.glob(".x*"))


def test_agent_of_another_scenario_is_refused_by_its_observations(trained, tmp_path):
    done = kaglaunch("--agent", str(trained), "--scenario", "corridor", "--seeds", "2", folder=tmp_path, state=tmp_path)
    assert done.returncode == 2
    assert "trained on observations of 28 numbers; this scenario has" in done.stderr
    assert "Traceback" not in done.stderr


def test_agent_of_another_decision_interval_is_refused_by_its_actions(trained, capsys):
    assert compare.main(["--checkpoint", str(trained), "--decision-interval-s", "5", "--seeds", "2"]) == 2
    assert "trained to choose from Discrete(11); here are Discrete(6)" in capsys.readouterr().err


def test_a_notebook_gets_what_json_prints_and_errors_as_exceptions(trained, caplog):
    caplog.set_level(logging.INFO, "launcher")
    found = Kaglaunch().evaluate("random", agents=[str(trained)], seeds=2)
    jsonschema.validate({"schema": 1, **found}, schema.json_schema("evaluate"))
    assert [c["name"] for c in found["controllers"]] == ["random", "short-training t64"]
    assert [text for text in caplog.messages if "episodes" in text] == [
        "2 episodes with random (1 of 2)",
        "2 episodes with short-training t64 (2 of 2)",
    ]
    with pytest.raises(NotCompared, match="no controller 'actuatd'"):
        Kaglaunch().evaluate("actuatd", seeds=2)


def test_an_agent_that_is_not_there_is_named(tmp_path):
    for agent, message in (("missing.zip", "There is no checkpoint missing.zip"), ("no-such-run", "no-such-run")):
        done = kaglaunch("--agent", agent, "--seeds", "2", folder=tmp_path, state=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["actuatd"], "no controller 'actuatd'; there are fixed"),
        (["random", "--scenario", "crosing"], "no scenario 'crosing'; there are corridor"),
        (["random", "--demand", "rush"], "has no demand 'rush'; there are"),
    ],
)
def test_mistakes_end_with_what_there_is(arguments, message, capsys):
    assert compare.main([*arguments, "--seeds", "2"]) == 2
    assert message in capsys.readouterr().err
