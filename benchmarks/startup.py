"""How fast commands start, as ratios against `import typer` and the kaggle client, side by side in one run.

`status` asks a real server: the embedded Kaggle, about a kernel that it has. Run as `python -m benchmarks.startup`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kernel.contract.config import RunConfig
from launcher.local_kaggle.service import LocalKaggle
from launcher.runs.ledger import Ledger
from launcher.runs.records import new_run
from launcher.targets.base import Kernel
from launcher.targets.credentials import Credentials
from launcher.targets.kaggle import KaggleBackend

ROUNDS = 15
LIMIT = 2.2
"""What the commands may take at the most, in units of `import typer`."""
PYTHON = sys.executable
HELD = ("kaglaunch --help", "kaglaunch runs", "kaglaunch status")
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import typer": [PYTHON, "-c", "import typer"],
    "kaglaunch --help": [PYTHON, "-m", "launcher", "--help"],
    "kaglaunch runs": [PYTHON, "-m", "launcher", "runs"],
    "kaglaunch status": [PYTHON, "-m", "launcher", "status"],
    "kaggle --version": [
        PYTHON,
        "-c",
        "import sys; sys.argv = ['kaggle', '--version']; from kaggle.cli import main; main()",
    ],
}


def main() -> None:
    """Time every command ROUNDS times, interleaved; print medians and ratios, and which are over the limit."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        # An installed command finds its byte code written, whatever this shell asks for.
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environ |= {"HOME": home, "XDG_STATE_HOME": home}
        service = _run_of_one_session(Path(home) / "kaglaunch")
        try:
            for count in range(ROUNDS + 1):
                for name, command in COMMANDS.items():
                    # The client wants credentials even to tell its version; ours would take them for the real target.
                    more = {"KAGGLE_USERNAME": "x", "KAGGLE_KEY": "x"} if name.startswith("kaggle ") else {}
                    began = time.perf_counter()
                    done = subprocess.run(
                        command, env=environ | more, cwd=os.getcwd(), capture_output=True, check=False
                    )
                    if count:  # the first round writes byte code and fills the disk's cache
                        times[name].append(time.perf_counter() - began)
                    if done.returncode and name in HELD:
                        raise RuntimeError(f"{name}: {done.stderr.decode()}")
        finally:
            service.stop()
    medians = {name: statistics.median(values) for name, values in times.items()}
    base, client = medians["import typer"], medians["kaggle --version"]
    print(f"start-up, medians of {ROUNDS} interleaved rounds")
    for name, median in medians.items():
        ratios = f"{median / base:5.2f} x import typer   {median / client:4.2f} x kaggle --version"
        print(f"  {name:20} {median * 1e3:7.0f} ms   {ratios}")
    late = [name for name in HELD if medians[name] > LIMIT * base or medians[name] > client]
    print(f"over {LIMIT} x import typer or over kaggle --version: {', '.join(late) or 'none'}")


def _run_of_one_session(state_dir: Path) -> LocalKaggle:
    """An embedded Kaggle with one session, and the ledger that knows it."""
    service = LocalKaggle(state_dir / "local-kaggle")
    endpoint = service.ensure_running()
    backend = KaggleBackend(endpoint.url, Credentials("here", endpoint.token, endpoint.username))
    run = new_run("start-up", "local", endpoint.username, RunConfig("start-up", 100, 10), Path.cwd())
    backend.push(Kernel(run.slug(1), b"print('up')\n", None, 600))
    book = Ledger(state_dir / "ledger.sqlite")
    book.add_run(run)
    book.begin_session(
        run,
        device="cpu",
        accelerator=None,
        max_seconds=600,
        max_timesteps_at_risk=0,
        publish_interval_seconds=0,
        after=0,
    )
    return service


if __name__ == "__main__":
    main()
