"""The unmodified `kaggle` and `kagglehub` as subprocesses, pointed at an embedded Kaggle from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.local_kaggle.service import LocalKaggle

_REDIRECT = """
import importlib.abc, importlib.machinery, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "kagglesdk.kaggle_env":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            table = module._env_to_endpoint
            table.update(dict.fromkeys(table, os.environ["EMBEDDED_KAGGLE"]))
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@dataclass
class Clients:
    """A user of the plain clients, with a home of their own."""

    kaggle: LocalKaggle
    home: Path
    token: str = ""

    def __post_init__(self) -> None:
        site = self.home / "site"
        site.mkdir(parents=True)
        (site / "sitecustomize.py").write_text(_REDIRECT)
        endpoint = self.kaggle.ensure_running()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
        self.environ |= {
            "HOME": str(self.home),
            "PYTHONPATH": str(site),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": self.token or endpoint.token,
            "EMBEDDED_KAGGLE": endpoint.url,
        }

    def cli(self, *arguments: str, code: int = 0) -> str:
        """Run the `kaggle` command line; standard output, after its exit code was checked."""
        return self._python("from kaggle.cli import main; main()", *arguments, code=code)

    def hub(self, source: str, *arguments: str, code: int = 0) -> str:
        """Run a piece of Python that uses kagglehub."""
        return self._python("import kagglehub, sys\n" + source, *arguments, code=code)

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
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for session in self.kaggle.status()["sessions"]:
                if session["kernel"] == f"local/{slug}" and session["state"] in statuses:
                    return str(session["state"])
            time.sleep(0.05)
        raise AssertionError(f"{slug} did not reach {statuses}: {self.kaggle.status()['sessions']}")

    def _python(self, code_text: str, *arguments: str, code: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code_text, *arguments],
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
