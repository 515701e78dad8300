"""What training on this machine needs beyond launching: which packages, whether they are here, how they come here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from launcher.errors import TrainingMissing

DISTRIBUTION = "kaglaunch"
TRAINING = ("torch", "gymnasium", "numba", "numpy")
"""What a training imports besides its algorithm, which travels in the bundle."""
COMPARING = ("torch", "stable_baselines3", "numba")
"""What `evaluate` imports."""
PACKAGES = ("torch", "stable_baselines3", "sb3_contrib", "gymnasium", "numba", "kagglehub")
"""What the extra brings, and sessions of the embedded Kaggle meet."""


def missing(packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """Those of `packages` that cannot be imported here; none of them is imported to find out."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def require(what: str, otherwise: str = "", packages: tuple[str, ...] = PACKAGES) -> None:
    """Raise TrainingMissing when something of `packages` is missing.

    Parameters
    ----------
    what : str
        The beginning of the message: who needs them.
    otherwise : str
        What to type to do without them.
    """
    if lacking := missing(packages):
        instead = f", or {otherwise}" if otherwise else ""
        raise TrainingMissing(
            f"{what}, and {', '.join(lacking)} cannot be imported here.\nInstall the training extra {how()}{instead}."
        )


def how() -> str:
    """How to add the extra to this very copy: no index is asked for a project of this name, which may be another's."""
    requirement = _requirement()
    if requirement is None:
        return f'with `{_pip()} install ".[train]"`, typed in the folder of its sources'
    return f"with `{_pip()} install {requirement}`"


def _requirement() -> str | None:
    """What pip has to be told, by what it wrote down when it installed this copy."""
    try:
        recorded = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        origin = json.loads(recorded or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    path = Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None
    if "dir_info" in origin and path is not None and (path / "pyproject.toml").is_file():
        return ("-e " if origin["dir_info"].get("editable") else "") + f'"{path}[train]"'
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f'"{DISTRIBUTION}[train] @ {vcs["vcs"]}+{url}@{vcs["commit_id"]}"'
    if "archive_info" in origin and (path is None or path.is_file()):
        return f'"{DISTRIBUTION}[train] @ {url}"'
    sources = Path(__file__).resolve().parent.parent
    return f'"{sources}[train]"' if (sources / "pyproject.toml").is_file() else None


def _pip() -> str:
    """The pip of this interpreter, by its short name where that is the one that a shell finds."""
    found = shutil.which("pip")
    beside = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip" if beside else f'"{sys.executable}" -m pip'
