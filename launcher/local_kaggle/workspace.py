"""One session's folders and environment: what `/kaggle` is to a script that runs here."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.contract.files import write_aside
from launcher import paths
from launcher.local_kaggle import endpoint_patch
from launcher.local_kaggle.files import copy_read_only

NOWHERE = "http://127.0.0.1:1"
"""Where a session without internet finds Kaggle: a port that refuses."""

LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
DRIVER = ("CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""The only variables of the host that get into a session; the driver's only into accelerator sessions."""


@dataclass(frozen=True)
class Tokens:
    """What a session may show the service; each dies with it."""

    api: str
    user: str
    proxy: str

    @classmethod
    def new(cls) -> Tokens:
        return cls(*(f"session_{secrets.token_urlsafe(24)}" for _ in range(3)))


@dataclass(frozen=True)
class Input:
    """A dataset version to attach."""

    owner: str
    slug: str
    files: Path


def mount_path(root: Path, item: Input, flat: bool) -> Path:
    base = root / "kaggle" / "input"
    return base / item.slug if flat else base / "datasets" / item.owner / item.slug


def prepare(
    root: Path,
    *,
    session_id: int,
    source: str,
    inputs: list[Input],
    flat_inputs: bool,
    accelerator: bool,
    internet: bool,
    url: str,
    tokens: Tokens,
    extra_env: dict[str, str],
) -> dict[str, Any]:
    """Lay out `root` for a session and return the runner's `spec.json` (without its limit).

    The environment is built from nothing: no variable and no credential of the host gets in. Of its folders one does,
    that of compiled kernels.
    """
    for folder in ("kaggle/src", "kaggle/working", "kaggle/input", "home", "tmp", "etc/secrets/kaggle", "site"):
        (root / folder).mkdir(parents=True)
    script = root / "kaggle" / "src" / "script.py"
    script.write_text(source, encoding="utf-8")
    write_aside(root / "etc" / "secrets" / "kaggle" / "api-v1-token", tokens.api.encode(), mode=0o600)
    patch = Path(endpoint_patch.__file__).read_text(encoding="utf-8")
    (root / "site" / "sitecustomize.py").write_text(patch, encoding="utf-8")
    for item in inputs:
        target = mount_path(root, item, flat_inputs)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_read_only(item.files, target)
    return {
        "argv": [sys.executable, str(script)],
        "cwd": str(root / "kaggle" / "working"),
        "env": _environment(root, session_id, accelerator, url, internet, tokens) | extra_env,
    }


def base_environment() -> dict[str, str]:
    """What any process needs to run this interpreter."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in LOADER if name in os.environ},
    }


def _environment(
    root: Path, session_id: int, accelerator: bool, url: str, internet: bool, tokens: Tokens
) -> dict[str, str]:
    reachable = url if internet else NOWHERE
    environment = base_environment() | {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "PYTHONPATH": str(root / "site"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_CONTAINER_NAME": f"kaggle_{secrets.token_hex(16)}-{session_id}-webtier",
        "KAGGLE_DATA_PROXY_URL": reachable,
        "KAGGLE_DATA_PROXY_TOKEN": tokens.proxy,
        "KAGGLE_DATA_PROXY_PROJECT": "kaggle-161607",
        "KAGGLE_USER_SECRETS_TOKEN": tokens.user,
        "KAGGLE_API_V1_TOKEN": str(root / "etc" / "secrets" / "kaggle" / "api-v1-token"),
        "KAGGLE_URL_BASE": reachable,
        "KAGGLE_CACHE_MOUNT_FOLDER": str(root / "kaggle" / "input"),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGLAUNCH_LOCAL_KAGGLE": reachable,
        "KAGLAUNCH_SESSION_ROOT": str(root),
        **paths.compiled_kernels(),
    }
    if accelerator:
        environment |= {name: os.environ[name] for name in DRIVER if name in os.environ}
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def write_spec(folder: Path, spec: dict[str, Any]) -> None:
    write_aside(folder / "spec.json", json.dumps(spec).encode(), mode=0o600)
