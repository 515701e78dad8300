"""The unmodified `kaggle` and `kagglehub` as subprocesses, pointed at an embedded Kaggle from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.local_kaggle.service import LocalKaggle
from tests.limits import limit_s, until


@dataclass
class Clients:
    """A user of the plain clients, with a home of their own."""

    kaggle: LocalKaggle
    home: Path
    token: str = ""

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.environ = self.kaggle.client_env(self.home)
        if self.token:
            self.environ["KAGGLE_API_TOKEN"] = self.token

    def cli(self, *arguments: str, code: int = 0) -> str:
        """Run the `kaggle` command line; standard output, after its exit code was checked."""
        return self._run([str(Path(sys.executable).with_name("kaggle")), *arguments], code)

    def hub(self, source: str, *arguments: str, code: int = 0) -> str:
        """Run a piece of Python that uses kagglehub."""
        return self._run([sys.executable, "-c", "import kagglehub, sys\n" + source, *arguments], code)

    def push(self, slug: str, source: str, **metadata: Any) -> str:
        """`kaggle kernels push` of a script; its output."""
        folder = self.home / "kernels" / slug
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "script.py").write_text(source)
        values = {
            "id": f"local/{slug}",
            "title": slug,
            "code_file": "script.py",
            "language": "python",
            "kernel_type": "script",
            "is_private": True,
            "enable_gpu": False,
            "enable_internet": True,
            "dataset_sources": [],
            **metadata,
        }
        (folder / "kernel-metadata.json").write_text(json.dumps(values))
        return self.cli("kernels", "push", "-p", str(folder))

    def wait_for(self, slug: str, *statuses: str, seconds: float = 40) -> str:
        """The status of a kernel once it is one of `statuses`."""

        def reached() -> str | None:
            for session in self.kaggle.status()["sessions"]:
                if session["kernel"] == f"local/{slug}" and session["state"] in statuses:
                    return str(session["state"])
            return None

        return str(until(reached, seconds))

    def _run(self, command: list[str], code: int) -> str:
        done = subprocess.run(
            command,
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit_s(90),
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
