"""A test process that is killed leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.limits import until


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_nothing_that_a_killed_test_process_started_lives_on(tmp_path: Path) -> None:
    midway = Path(__file__).with_name("killed_midway.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    with (tmp_path / "out.txt").open("wb") as out:
        tests = subprocess.Popen([*command, str(midway)], cwd=midway.parents[1], stdout=out, stderr=out)

    def all_run() -> bool:
        assert tests.poll() is None, (tmp_path / "out.txt").read_text()
        return any((tmp_path / "tests").rglob("all-run"))

    until(all_run, 120)
    started = psutil.Process(tests.pid).children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in started]
    for part in ("local_kaggle.server", "script.py", "-m kernel --config", "kernel.training"):
        assert any(part in command for command in commands), (part, commands)
    tests.kill()
    tests.wait()
    until(lambda: not any(_lives(process) for process in started), 60)
