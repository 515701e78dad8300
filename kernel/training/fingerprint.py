"""What the numbers of a training depend on besides its configuration, and a canary that computes a few of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from kernel.pinning import PINNED

PACKAGES = ("torch", "stable-baselines3", "numpy", "numba", "gymnasium")
OWN_MODULES = (
    "training/consistent_point.py",
    "training/environments.py",
    "training/evaluation.py",
    "training/metrics.py",
    "training/sb3/algorithms.py",
    "training/sb3/learner.py",
    "training/sb3/statistics.py",
)
"""Modules of the kernel that shape what is learnt or recorded."""


def fingerprint(device: str) -> dict[str, Any]:
    """JSON that is equal where bit-identical continuation is promised."""
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "machine": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "threads": th.get_num_threads(),
        "pinned": {name: os.environ.get(name, "") for name in PINNED if name != "PYTHONHASHSEED"},
        "packages": {name: _version(name) for name in PACKAGES},
        "device": device,
        "canary": canary(),
    }
    if device == "cuda":
        found["gpu"] = th.cuda.get_device_name(0)
        found["cuda"] = str(th.version.cuda)
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words; empty where the two promise the same numbers."""
    return [
        f"{name}: {before.get(name)!r} before, {now.get(name)!r} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name as the kernel gives it."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def canary() -> str:
    """sha256 of a small training step in float32 and float64: other arithmetic gives another one."""
    generator = np.random.Generator(np.random.PCG64(20_251_021))
    x = generator.standard_normal((32, 26))
    inputs = th.from_numpy(x.astype(np.float32))
    weight = th.from_numpy(generator.standard_normal((26, 64)).astype(np.float32) * 0.2).requires_grad_()
    optimizer = th.optim.Adam([weight], lr=1e-3)
    for _ in range(3):
        loss = th.log_softmax(th.tanh(inputs @ weight), dim=1)[:, 0].mean() + th.exp(weight * 0.1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mixed = np.exp(np.sin(x)) @ np.abs(x.T) ** 0.3
    digest = hashlib.sha256(weight.detach().numpy().tobytes())
    digest.update(mixed.tobytes())
    return digest.hexdigest()


def trainer_digests() -> dict[str, str]:
    """sha256, shortened, of each module of OWN_MODULES."""
    return _digests({name: Path(__file__).parents[1] / name for name in OWN_MODULES})


def code_digests(module_names: Iterable[str]) -> dict[str, str]:
    """sha256, shortened, of each source file of the researcher's modules."""
    files: dict[str, Path] = {}
    for name in module_names:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        for folder in map(Path, spec.submodule_search_locations or ()):
            files |= {f"{name}/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*.py"))}
        if spec.submodule_search_locations is None and spec.origin is not None:
            files[f"{name}/{Path(spec.origin).name}"] = Path(spec.origin)
    return _digests(files)


def recorded_digests(details: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What `code_digests` and `trainer_digests` were for the checkpoint of these details.

    Version 0.1 kept both in one table, its own modules under `kernel/`.
    """
    code, trainer = (held if isinstance(held := details.get(key), dict) else None for key in ("code", "trainer"))
    if trainer is not None:
        return code or {}, trainer
    code = code or {}
    own = {name for name in code if name.startswith("kernel/")}
    return {k: v for k, v in code.items() if k not in own}, {k.partition("/")[2]: code[k] for k in own}


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {
        key: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for key, path in sorted(files.items()) if path.is_file()
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        module = importlib.import_module(package.replace("-", "_")) if _is_bundled(package) else None
        return str(getattr(module, "__version__", ""))


def _is_bundled(package: str) -> bool:
    """A wheel that was only unpacked has no metadata, but the module."""
    return importlib.util.find_spec(package.replace("-", "_")) is not None
