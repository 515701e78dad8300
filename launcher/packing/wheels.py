"""The pure-python wheels that travel in a bundle because Kaggle's image lacks them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kernel.contract.config import OF_CONTRIB
from kernel.contract.files import put_in_place
from launcher.errors import BundleError


@dataclass(frozen=True)
class Wheel:
    """A wheel as it is pinned."""

    project: str
    version: str
    filename: str
    sha256: str


STABLE_BASELINES3 = Wheel(
    "stable-baselines3",
    "2.9.2",
    "stable_baselines3-2.9.2-py3-none-any.whl",
    "0b7db1789bea31d43b3e9be4f88abf639549b587f2bf2a2461ee9d3d77c68e96",
)
SB3_CONTRIB = Wheel(
    "sb3-contrib",
    "2.9.2",
    "sb3_contrib-2.9.2-py3-none-any.whl",
    "1f9306c3ff9e1a72f9ef958987559d41b8c80d375e38865de7685852b6c5af3d",
)
LIBRARIES = ("stable_baselines3", "sb3_contrib")
"""What they are imported as."""


def needed(algorithm: str) -> tuple[Wheel, ...]:
    """The wheels that a training with `algorithm` needs."""
    return (STABLE_BASELINES3, SB3_CONTRIB) if algorithm in OF_CONTRIB else (STABLE_BASELINES3,)


def fetch(wheel: Wheel, cache: Path) -> Path:
    """The wheel's file in `cache`, fetched by pip when it is not there or not whole.

    Raises
    ------
    BundleError
        pip cannot fetch it, or what came is not the pinned file.
    """
    path = cache / "wheels" / wheel.filename
    if path.is_file() and _sha256(path) == wheel.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        fetched = Path(folder) / wheel.filename
        if done.returncode != 0 or not fetched.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise BundleError(
                f"The bundle needs the wheel {wheel.filename}, and pip did not fetch it: {last}\n"
                f"Put that file (sha256 {wheel.sha256}) into {path.parent} by hand, or try again with a network."
            )
        put_in_place(fetched, path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
