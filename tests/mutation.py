"""Mutants of the safety rules: each changes one rule, limit or verdict, and the nearest tests must notice.

`make mutants` tries all of them on copies of the packages, `python -m tests.mutation MODULE…` those of some modules.
`mutation.toml` names the modules, the tests that guard each, and the mutants that no test can notice, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from .own_time import LOOK_S, OwnTime, Spent

ROOT = Path(__file__).resolve().parents[1]
TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
HUNG_S, HUNG_FACTOR = 10.0, 5.0
"""A mutant hangs, and is noticed by that, where its tests work or sleep so long, and so many times what they do without
it. The tests' own limits of time come later: they are those of a test that only a broken machine may miss."""
PAIRS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)]
PAIRS += [(ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div)]
SWAPPED: dict[type, type] = {**dict(PAIRS), **{there: here for here, there in PAIRS}, ast.FloorDiv: ast.Mult}


class Mutant(NamedTuple):
    """One change of one module, `function: old -> new`, and the source that it makes."""

    module: str
    line: int
    change: str
    source: str


def mutants(module: str) -> list[Mutant]:
    """Every mutant of `module`, by line; texts that hold values, and what `__init__` sets up, are left alone."""
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    return sorted((Mutant(module, *made) for made in _below(tree, tree, tree, "")), key=lambda one: one.line)


def _below(tree: ast.Module, parent: ast.AST, around: Any, scope: str) -> Iterator[tuple[int, str, str]]:
    """Line, change and source of the mutants below `parent`; a change is shown in the expression `around` it."""
    for field, value in list(ast.iter_fields(parent)):
        for index, old in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(old, ast.AST) or isinstance(old, (ast.JoinedStr, ast.arguments)):
                continue
            holder, key = (value, index) if isinstance(value, list) else (vars(parent), field)
            whole = old if isinstance(old, ast.stmt) or field in ("test", "ifs") else around
            before = "" if isinstance(old, (ast.FunctionDef, ast.ClassDef)) else ast.unparse(whole)
            for new in _instead(field, old):
                holder[key] = new
                after = ast.unparse(new if whole is old else whole)
                yield getattr(old, "lineno", around.lineno), f"{scope}: {before} -> {after}", ast.unparse(tree)
                holder[key] = old
            name = old.name if isinstance(old, (ast.FunctionDef, ast.ClassDef)) else ""
            is_shown = isinstance(old, (ast.expr, ast.stmt)) and not isinstance(old, ast.Constant)
            if name != "__init__":
                yield from _below(tree, old, old if is_shown else around, f"{scope}.{name}".strip("."))


def _instead(field: str, old: Any) -> Iterator[ast.AST]:
    """What may stand where `old` does, in this field of its parent."""
    if type(old) in SWAPPED:
        yield SWAPPED[type(old)]()
    if field in ("test", "ifs"):
        yield ast.UnaryOp(ast.Not(), old)
    match old:
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from map(ast.Constant, [value + 1, value - 1] if value % 1 == 0 else [value * 2])
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("logger")))):
            pass
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Return(None):
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript() | ast.Tuple()]):
            yield ast.Pass()
        case ast.Return(value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


class Copies:
    """Copies of the packages and their tests, one a processor; mutants are put into these alone."""

    def __init__(self, folder: Path) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        self._alone = threading.Lock()  # a start asks for the ends of all, and each can be read only once
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["pytest", "hypothesis.strategies", "numpy", "psutil"])
        for copy in (folder / str(number) for number in range(os.cpu_count() or 1)):
            for name in ("kernel", "launcher", "arz_model", "tests"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            self._free.put(copy)

    def try_out(self, module: str, source: str | None = None, limit: Spent | None = None) -> tuple[bool, Spent]:
        """Whether the tests nearest to `module` pass within `limit`, with `source` in its place, and their time."""
        copy = self._free.get()
        whole = (path := copy / module).read_text("utf-8")
        path.write_text(whole if source is None else source, "utf-8")
        tests = self._processes.Process(target=_test, args=(copy, TABLE[module]["tests"]))
        with self._alone:
            tests.start()
        own = OwnTime(tests.pid or 0)
        while self._is_alive(tests):
            own.look()
            if limit is not None and own.spent.exceeds(limit):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(tests.pid or 0, signal.SIGKILL)
            wait([tests.sentinel], LOOK_S)
        path.write_text(whole, "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()  # known by size and second alone, which two mutants may have in common
        self._free.put(copy)
        return tests.exitcode == 0, own.spent

    def _is_alive(self, tests: BaseProcess) -> bool:
        with self._alone:
            return tests.is_alive()


def _test(copy: Path, tests: list[str]) -> None:
    """Run tests of `copy` against its packages, in a process and a process group of their own."""
    import pytest

    os.setsid()
    os.chdir(copy)
    os.environ["PYTHONPATH"] = sys.path[0] = str(copy)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "kernel", "launcher")]:
        del sys.modules[name]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder = tempfile.mkdtemp(dir=copy.parent)  # of its own: what ends the processes of one mutant knows it by that
    options = ["-xq", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", f"--basetemp={folder}"]
    sys.exit(pytest.main([*options, *tests]))


def survivors(chosen: dict[str, list[Mutant]]) -> list[Mutant]:
    """Those of the mutants that no test notices. Raises ValueError where the tests judge nothing."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        copies, survived = Copies(Path(folder)), []
        for module, wanted in chosen.items():
            (passes, spent), (is_blind, _) = copies.try_out(module), copies.try_out(module, "")
            if not passes or is_blind:
                raise ValueError(f"{module}: {TABLE[module]['tests']} fail as it stands, or pass where it is empty")
            limit = Spent(*(max(HUNG_S, HUNG_FACTOR * seconds) for seconds in spent))
            tried = pool.map(lambda one, limit=limit: copies.try_out(one.module, one.source, limit), wanted)
            survived += [one for one, (passes, _) in zip(wanted, tried, strict=True) if passes]
        return survived


def main(modules: list[str]) -> int:
    """Try all mutants of these modules, or of all; 1 if one lives and is not excused, or is excused and does not."""
    wrong = 0
    for module in modules or TABLE:
        made, excused = mutants(module), set(TABLE[module].get("survivors", {}))
        lived = survivors({module: made})
        said = [f"  not noticed: {module}:{one.line}  {one.change}" for one in lived if one.change not in excused]
        said += [f"  excused, but noticed: {change}" for change in sorted(excused - {one.change for one in lived})]
        wrong += len(said)
        counts = f"{module}: {len(made)} mutants, {len(made) - len(lived)} noticed, {len(excused)} excused"
        print(counts, *said, sep="\n", flush=True)  # noqa: T201
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
