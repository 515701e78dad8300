"""What `test_reaper.py` kills: a test amid an embedded Kaggle, its session, and a session of the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.kernel.support import configuration, environment, events_of
from tests.launcher.stage import ENDLESS, staged
from tests.limits import until


def test_all_parts_run(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        run = stage.begins(ENDLESS)
        until(lambda: stage.sessions(run) == ["RUNNING"])
        (tmp_path / "run.json").write_text(json.dumps(configuration({"env": "toy_environments:SlowQueue"})))
        with (tmp_path / "out.txt").open("wb") as out:
            command = [sys.executable, "-m", "kernel", "--config", "run.json"]
            subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=out, stderr=subprocess.DEVNULL)
        until(lambda: any(e["event"] == "training" for e in events_of((tmp_path / "out.txt").read_text())), 120)
        (tmp_path / "all-run").touch()
        time.sleep(3600)
