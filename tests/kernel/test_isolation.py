"""Only the bundle provides the packages of a session."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.limits import limit_s

from .support import ROOT, environment


def isolated(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    begin = f"import sys; sys.path.insert(0, {str(folder)!r}); from kernel.isolation import isolate; "
    return subprocess.run(
        [sys.executable, "-c", begin + code], env=environment(), capture_output=True, text=True, timeout=limit_s(60)
    )


def bundle(folder: Path, *names: str) -> Path:
    shutil.copytree(ROOT / "kernel", folder / "kernel", ignore=shutil.ignore_patterns("__pycache__"))
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("HERE = True\n")
    return folder


def test_only_the_bundle_provides_our_packages(tmp_path: Path) -> None:
    folder = bundle(tmp_path, "arz_model")
    done = isolated(
        folder, f"isolate({str(folder)!r}); import arz_model, kernel.contract.config; print(arz_model.HERE)"
    )
    assert done.stdout.strip() == "True", done.stderr
    missing = isolated(folder, f"isolate({str(folder)!r}); import launcher")
    assert "ModuleNotFoundError" in missing.stderr
    assert "other copies are not used" in missing.stderr


def test_package_imported_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    done = isolated(folder, f"sys.path.insert(0, {str(ROOT)!r}); import launcher; isolate({str(folder)!r})")
    assert "NotIsolated: launcher was imported from" in done.stderr


def test_further_packages_of_a_bundle_are_isolated_too(tmp_path: Path) -> None:
    folder = bundle(tmp_path, "my_model")
    (folder / "packages.json").write_text('["my_model", "toy_environments"]')
    done = isolated(folder, f"isolate({str(folder)!r}); import my_model; print('ok'); import toy_environments")
    assert done.stdout.strip() == "ok"
    assert "No module named 'toy_environments'" in done.stderr
