"""What a docstring names of another module or class is there: `settings.Settings`, `RunConfig.digest`."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("launcher", "kernel", "arz_model")
CITED = re.compile(r"`([A-Za-z_]\w*)\.([A-Za-z_]\w*)(?:\.\w+)*(?:\([^`]*\))?`")
ENDINGS = {"py", "json", "jsonl", "toml", "md", "zip", "bin", "log", "sqlite"}
"""What makes it a file's name."""
OF_OTHERS = {"logger.debug", "datasets.DatasetApiService", "kernels.KernelsApiService"}
"""Python's logging, and services of Kaggle that are called as modules here are."""


def _sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _index(paths: list[Path]) -> dict[str, set[str]]:
    """Last name of a module or a package, or name of a class -> the names that it has."""
    has: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        tree = ast.parse(path.read_text("utf-8"))
        name = path.parent.name if path.stem == "__init__" else path.stem
        has[path.parent.name] |= {path.stem}
        has[path.parent.parent.name] |= {path.parent.name}
        has[name] |= set(_bound(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                own = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
                has[node.name] |= set(_bound(node)) | own
    return has


def _bound(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for one in ast.walk(node):
        match one:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def _wrong(path: Path, has: dict[str, set[str]]) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    variables = {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for owner, name in CITED.findall(node.value.value):
                known = owner in has or owner[0].isupper()
                if not known or owner in variables or f"{owner}.{name}" in OF_OTHERS:
                    continue
                if name not in ENDINGS | has.get(owner, set()):
                    yield f"{path.relative_to(ROOT)}: {owner}.{name}"


def test_what_a_docstring_cites_is_there() -> None:
    paths = _sources()
    has = _index(paths)
    assert len(has) > 300
    assert [wrong for path in paths for wrong in _wrong(path, has)] == []


@pytest.mark.parametrize(("cited", "found"), [("`things.Other`", True), ("`Gone.ever`", True), ("`Thing.size`", False)])
def test_a_citation_of_what_is_gone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cited: str, found: bool
) -> None:
    monkeypatch.setattr("tests.test_citations.ROOT", tmp_path)
    path = tmp_path / "things.py"
    path.write_text(f'"""See {cited}."""\n\n\nclass Thing:\n    size: int = 1\n')
    assert bool(list(_wrong(path, _index([path])))) is found
