"""How the rooms of the code may know each other: no circle of imports, and contracts that break where they should."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.contract import names

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("launcher", "kernel", "arz_model")
SUFFIXES = (".json", ".jsonl", ".log")


def imports(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, set[str]]:
    """Module -> modules of the same packages that it imports, inside functions too; what only types ask for is none."""
    files = {_name(path.relative_to(root)): path for package in packages for path in (root / package).rglob("*.py")}
    return {module: set(_imported(module, path, set(files))) for module, path in files.items()}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, path: Path, known: set[str]) -> Iterator[str]:
    for node in _executed(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name and name != module and not module.startswith(f"{name}."):
                yield name


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is below it, less what stands under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _executed(child)


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, in their order; empty where there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_runs_in_a_circle() -> None:
    edges = imports(ROOT)
    assert len(edges) > 150
    assert circle(edges) == []


@pytest.mark.parametrize(
    ("back", "found"),
    [
        ("from one.first import a", True),
        ("def late():\n    from one import first", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from one import first", False),
    ],
    ids=["at the top", "inside a function", "for types only"],
)
def test_a_circle_is_seen_wherever_its_import_stands(tmp_path: Path, back: str, found: bool) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "__init__.py").touch()
    (tmp_path / "one" / "first.py").write_text("from one import second\na = 1\n")
    (tmp_path / "one" / "second.py").write_text(back + "\n")
    edges = imports(tmp_path, ("one",))
    assert edges["one.first"] == {"one.second"}
    assert bool(circle(edges)) is found


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("kernel/session/memory.py", "import torch", "no numpy, no torch"),
        ("kernel/pinning.py", "import numpy", "no numpy, no torch"),
        ("launcher/runs/follower.py", "import typer", "a run has no screen"),
        ("launcher/runs/watch.py", "from launcher import screen", "a run has no screen"),
        ("launcher/runs/follower.py", "from launcher.commands import report", "a run has no screen"),
        ("launcher/api.py", "from launcher.commands import report", "equal faces"),
        ("launcher/targets/kaggle.py", "from launcher.runs import relay", "no verb of a run"),
        ("launcher/documents/runs.py", "from launcher.runs import report", "a document is a value"),
    ],
)
@pytest.mark.slow
def test_an_import_that_a_contract_forbids_is_seen(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.nb[ci]"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    spoilt = tmp_path / module
    # At the end, where the import of a function would stand too.
    spoilt.write_text(spoilt.read_text("utf-8") + f"\n\ndef late() -> None:\n    {line}\n", "utf-8")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), broken


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_and_room_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    named = re.findall(r"`((?:launcher|kernel|arz_model|docs|tests|benchmarks|examples|kaglaunch)/[\w/.-]*)`", text)
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("package", ["launcher", "kernel"])
def test_every_module_that_lies_in_no_room_has_a_place_in_the_table_of_rooms(package: str) -> None:
    table = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    told = " ".join(row for row in table.splitlines() if row.startswith(f"| `{package}/"))
    loose = {path.name for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")}
    assert len(loose) > 5
    assert {name for name in loose if not re.search(rf"[`/]{re.escape(name)}`", told)} == set()


def test_names_of_files_that_both_sides_know_stand_in_the_contract_alone() -> None:
    files = {value: name for name, value in vars(names).items() if isinstance(value, str) and value.endswith(SUFFIXES)}
    assert {"run.json", "packages.json", "result.json", "index.json"} <= set(files)
    sources = [path for package in ("launcher", "kernel") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 150
    repeated = [
        (path.relative_to(ROOT).as_posix(), node.value)
        for path in sources
        if path != Path(names.__file__)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in files
    ]
    assert repeated == []
