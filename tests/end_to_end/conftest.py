"""A user in an empty folder who types `kaglaunch` commands; the embedded Kaggle is theirs and ends with the test.

What the tests of `anyone` claim can be tried on kaggle.com too: `KAGLAUNCH_LIVE=1 python -m pytest -m live`, with
credentials. It takes some minutes of the account's quota and leaves private kernels and datasets (quick-*, run-*).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.local_kaggle.service import LocalKaggle
from launcher.targets import credentials
from tests.limits import limit_s

LIVE_TIMEOUT_S = 3600.0


@dataclass
class User:
    """Types commands in `folder`; `kaggle` is what their `--target local` talks to."""

    folder: Path
    environ: dict[str, str]
    live: bool = False
    """Whether the commands talk to kaggle.com."""
    kaggle: LocalKaggle = field(init=False)

    def __post_init__(self) -> None:
        self.kaggle = LocalKaggle(Path(self.environ["XDG_STATE_HOME"]) / "kaglaunch" / "local-kaggle")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            # A terminal leaves Ctrl-C to the command; a background job of a shell, as CI may be, ignores it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def types(self, *arguments: str, code: int = 0, timeout_s: float | None = None) -> str:
        """Run a command to its end; its output (with --json the document alone), after its exit code was checked."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_s or (LIVE_TIMEOUT_S if self.live else limit_s(200)))
        assert process.returncode == code, f"kaglaunch {' '.join(arguments)}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out if "--json" in arguments else out + err

    def checkpoints(self) -> list[Path]:
        """Checkpoints that were brought back, by name."""
        return sorted(self.folder.rglob("checkpoint_t*.zip"))


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A newcomer without credentials; only the cache of wheels is shared with this machine's user."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KAGLAUNCH_"))}
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    environ |= {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": cache}
    person = User(folder, environ)
    person.kaggle.ensure_running(timeout_s=limit_s(20))
    # The steps of a dataset version stay, in their order; only the newcomer's patience is not tested.
    person.kaggle.change_settings(
        queue_s=0.1,
        log_delay_s=0.1,
        dataset_receive_s=0.05,
        dataset_decompress_s=0.05,
        dataset_copy_s=0.05,
        dataset_compress_s=0.05,
        dataset_finish_s=0.05,
    )
    yield person
    person.kaggle.stop()


@pytest.fixture(
    params=["local", pytest.param("kaggle", marks=[pytest.mark.live, pytest.mark.timeout(2 * LIVE_TIMEOUT_S)])]
)
def anyone(request: pytest.FixtureRequest, tmp_path: Path) -> User:
    """The newcomer, and where that is asked for the owner of the Kaggle account whose credentials are found."""
    if request.param == "local":
        newcomer: User = request.getfixturevalue("user")
        return newcomer
    if os.environ.get("KAGLAUNCH_LIVE") != "1" or credentials.find() is None:
        pytest.skip("talks to kaggle.com: set KAGLAUNCH_LIVE=1 and give credentials")
    (tmp_path / "work").mkdir()
    return User(tmp_path / "work", os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}, live=True)
