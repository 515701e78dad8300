"""A checkpoint that only this machine has goes into the run's dataset, so that a session on the target can mount it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kernel.contract import events
from kernel.contract.config import Configuration
from launcher.config import Settings
from launcher.errors import CheckpointError, TrainingMissing
from launcher.runs.bound_run import BoundRun
from launcher.targets.target import Target, TargetName, local_kaggle

ROOT = Path(__file__).resolve().parents[2]


def hand_over(bound: BoundRun, number: int, settings: Settings, max_seconds: float = 3600.0) -> None:
    """Publish the newest checkpoint of the run's folder in the name of session `number`, and wait until it is there.

    Raises
    ------
    TrainingMissing
        The client that uploads is not installed.
    CheckpointError
        It did not succeed; the message has the reason.
    """
    run, say = bound.run, bound.say
    if importlib.util.find_spec("kagglehub") is None:
        raise TrainingMissing(
            f"The newest checkpoint of run {run.run_id} is on this machine only; uploading it needs kagglehub, which "
            "cannot be imported here.\nInstall it with `pip install kagglehub`, or go on here with "
            f"`kaglaunch resume {run.run_id} --here`."
        )
    session = dataclasses.replace(settings.session_config(number, run.dataset), publish_interval_seconds=0.0)
    reason = "it ended without a word"
    with tempfile.TemporaryDirectory(prefix="kaglaunch-hand-over-") as folder, _client_environ(bound.target) as environ:
        config = Path(folder) / "handover.json"
        config.write_text(Configuration(run.config, session).to_json(), "utf-8")
        arguments = ["--config", str(config), "--folder", str(run.folder), "--seconds", f"{max_seconds:.0f}"]
        with subprocess.Popen(
            [sys.executable, "-m", "kernel.session.hand_over", *arguments],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                match events.parse(line):
                    case events.Published() as done:
                        size = f" ({done.bytes:,} bytes)" if done.bytes is not None else ""
                        say(f"Uploaded t{done.num_timesteps:,}{size} as version {done.version} of {run.dataset}.")
                    case events.PublishFailed(reason=reason):
                        say(f"The upload did not succeed ({reason}); it is tried again.")
                    case None if line.strip():
                        reason = line.strip()
        if process.returncode != 0:
            raise CheckpointError(
                f"The newest checkpoint of run {run.run_id} is on this machine only, and it could not be uploaded: "
                f"{reason}.\nTry again with `kaglaunch resume {run.run_id}`, or go on here with `--here`."
            )


@contextlib.contextmanager
def _client_environ(target: Target) -> Iterator[dict[str, str]]:
    """An environment in which the uploading client finds the credentials of `target` and no others."""
    with tempfile.TemporaryDirectory(prefix="kaglaunch-home-") as home:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}
        if target.name is TargetName.local:
            environ |= local_kaggle().client_env(Path(home))
        else:
            assert target.credentials is not None
            token, username, key = (getattr(target.credentials, name) for name in ("token", "username", "key"))
            environ |= {"KAGGLE_API_TOKEN": token} if token else {"KAGGLE_USERNAME": username, "KAGGLE_KEY": key}
        # Packages that the user installed for themselves are found through the home folder, which is another now.
        environ |= {"HOME": home, "PYTHONUSERBASE": site.getuserbase()}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH", "")]))
        yield environ
