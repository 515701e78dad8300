"""The logger that rewritten prints go to: the module's own where it has one, else one that is added once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst

_HARMLESS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


@dataclass(frozen=True)
class Logger:
    """Name of the logger, and what has to be added for it to exist."""

    name: str
    exists: bool = False
    logging: str = "logging"
    imported: bool = False
    """Whether the module imports `logging` before the place where the logger is made."""
    star: bool = False
    """Whether the module imports `*`, which may bind any name."""


def logger_of(tree: ast.Module) -> Logger:
    """The module's own `logging.getLogger(…)`, where it is there before anything runs; else a name that is free."""
    bound = list(_bound(tree))
    star = "*" in bound
    leading = [node for node in tree.body[: _leading(tree)] if isinstance(node, ast.Import)]
    names = {(part.asname or part.name) for node in leading for part in node.names if part.name == "logging"}
    usable = sorted(name for name in names if bound.count(name) == 1)
    direct = {
        part.asname or part.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "logging"
        for part in node.names
        if part.name == "getLogger"
    }
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and bound.count(target.id) == 1 and _is_get_logger(node, usable, direct):
            return Logger(target.id, exists=True)
        if not (isinstance(node, _HARMLESS) or _is_text(node)) or _calls(node):
            break
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    taken = read.union(bound)
    candidates = ["_logger", "_debug_logger"] if star else ["logger", "_logger", "debug_logger"]
    name = next(name for name in [*candidates, *(f"_logger_{n}" for n in range(len(taken) + 1))] if name not in taken)
    if usable and not star:
        return Logger(name, logging=usable[0], imported=True)
    return Logger(name, logging="_logging" if "logging" in bound and "logging" not in usable else "logging", star=star)


def insert_logger(module: cst.Module, logger: Logger) -> cst.Module:
    """Add what `logger` needs: the import behind docstring and `__future__`, the logger behind the leading imports."""
    if logger.exists:
        return module
    body: list[Any] = list(module.body)
    first, last = _leading_lines(body)
    made = [_line(f"{logger.name} = {logger.logging}.getLogger(__name__)", blank_before=True)]
    name = "" if logger.logging == "logging" else f" as {logger.logging}"
    added = [] if logger.imported else [_line(f"import logging{name}", blank_before=first > 0 and first == last)]
    following = body[last : last + 1]
    if following and not following[0].leading_lines:
        following = [following[0].with_changes(leading_lines=[cst.EmptyLine(indent=False)])]
    if logger.star:
        body[last : last + 1] = [*added, *made, *following]
    else:
        body[last : last + 1] = [*made, *following]
        if added and first < last:
            added = [added[0].with_changes(leading_lines=body[first].leading_lines)]
            body[first] = body[first].with_changes(leading_lines=[])
        body[first:first] = added
    return module.with_changes(body=body)


def _line(text: str, *, blank_before: bool) -> cst.SimpleStatementLine:
    statement = cst.parse_statement(text)
    assert isinstance(statement, cst.SimpleStatementLine)
    return statement.with_changes(leading_lines=[cst.EmptyLine(indent=False)] if blank_before else [])


def _leading_lines(body: list[Any]) -> tuple[int, int]:
    """Where a first import belongs, and the end of the leading imports."""
    first = index = 0
    for position, statement in enumerate(body):
        parts = statement.body if isinstance(statement, cst.SimpleStatementLine) else []
        future = any(_is_future(part) for part in parts)
        opening = parts[0] if position == 0 and parts else None
        docstring = isinstance(opening, cst.Expr) and isinstance(
            opening.value, (cst.SimpleString, cst.ConcatenatedString)
        )
        imports = bool(parts) and all(isinstance(part, (cst.Import, cst.ImportFrom)) for part in parts)
        if not (future or docstring or imports):
            break
        index = position + 1
        if future or docstring:
            first = index
    return first, index


def _is_future(part: cst.CSTNode) -> bool:
    return isinstance(part, cst.ImportFrom) and isinstance(part.module, cst.Name) and part.module.value == "__future__"


def _leading(tree: ast.Module) -> int:
    for index, node in enumerate(tree.body):
        if not isinstance(node, (ast.Import, ast.ImportFrom)) and not (index == 0 and _is_text(node)):
            return index
    return len(tree.body)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _calls(node: ast.stmt) -> bool:
    """An assignment that calls something may already run a function of the module, whose logger must exist by then."""
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and any(isinstance(part, ast.Call) for part in ast.walk(node))


def _is_get_logger(node: ast.stmt, logging_names: list[str], direct: set[str]) -> bool:
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    if isinstance(function, ast.Name):
        return function.id in direct
    if not isinstance(function, ast.Attribute) or function.attr != "getLogger":
        return False
    return isinstance(function.value, ast.Name) and function.value.id in logging_names


def _bound(tree: ast.Module) -> Iterator[str]:
    """Every binding of a name in the module, whatever its scope, once each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            yield from node.names
