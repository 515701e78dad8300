"""The page on notebooks tells what really happens: its blocks run as they stand, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher import Kaglaunch
from launcher.cli import app
from launcher.errors import ConfigError, UnknownRun

from .conftest import User

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"


@pytest.mark.slow
def test_the_blocks_of_the_notebook_page_run_as_they_stand(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in user.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(user.folder)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    cells: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), cells)
    assert cells["report"]["sessions"][-1]["result"] == "finished"
    assert cells["checkpoint"].name == "checkpoint_t100.zip"
    assert cells["model"].num_timesteps == 100
    assert f"{cells['run']} 100 of 100 finished" in capsys.readouterr().out
    # The command line knows the run of the notebook.
    assert cells["run"] in user.types("runs")


def test_a_method_raises_what_its_command_would_end_with(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", user.environ["XDG_STATE_HOME"])
    with pytest.raises(UnknownRun) as caught:
        Kaglaunch().status("no-such-run")
    user.types("status", "no-such-run", code=caught.value.exit_code)


def test_the_package_loads_its_verbs_only_when_asked() -> None:
    code = (
        "import sys, launcher; before = 'launcher.api' in sys.modules; launcher.Kaglaunch; "
        "print(before, 'launcher.api' in sys.modules, 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True False\n"


def test_every_verb_of_the_command_line_is_a_method() -> None:
    verbs = {str(command.name or command.callback.__name__).replace("_", "-") for command in app.registered_commands}
    of_a_terminal = {"init", "demo", "version", "help", "debug-prints"}
    methods = {name.replace("_", "-") for name in vars(Kaglaunch) if not name.startswith("_")}
    assert methods == verbs - of_a_terminal


def test_a_setting_that_does_not_exist_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"'timestep'.*timesteps"):
        Kaglaunch(target="local").push(quick=True, timestep=5)
