"""What the names of one module mean to `debug_prints`: imports, constants, compilers and a `print` of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_NUMBA = {
    *("jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc", "generated_jit", "register_jitable"),
    *("overload", "overload_method", "overload_attribute", "intrinsic", "jitclass"),
}
_JIT = re.compile(r"(\w+_)?n?jit(_\w+)?")
_BOUND = re.compile(r"\bprint\b(?!\s*\()|\b(?:def|class)\s+print\b")
"""Without this no name is bound to `print`; with it, perhaps."""
_TRACED = {"jax", "equinox", "flax", "tensorflow"}
"""Their `jit` runs the Python body once, to trace it: a print there neither floods nor has to compile."""


class Names:
    """The names of a module, as far as its own source binds them."""

    def __init__(self, tree: ast.Module, text: str) -> None:
        self.aliases: dict[str, str] = {}
        self.strings: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self._compilers: set[str] = set()
        self.compiled: set[str] = set()
        """Functions of this module handed to a compiler by a call, `fast = njit(step)`."""
        self.compiled_abroad: set[tuple[str, str]] = set()
        """(module, function) of those that were imported from elsewhere."""
        nodes = [tree, *descendants(tree)]
        jit = "jit" in text or "numba" in text or "taichi" in text or "rawkernel" in text
        self.classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        for node in nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.aliases |= _imported(node)
        self._read_constants(tree)
        named = [node for node in nodes if isinstance(node, (ast.Assign, ast.FunctionDef))] if jit else []
        for _ in range(2):  # a compiler may be named by way of another one
            self._compilers |= {name for node in named for name in self._compiler_names(node)}
        for call in calls if jit else ():
            if call.args and self.compiles(call.func):
                *_, module, name = ["", "", *self.dotted(call.args[0]).split(".")]
                self.compiled.add(name)
                if module:
                    self.compiled_abroad.add((module, name))
        self.prints = any(self.is_print(call) for call in calls)
        self.rebinds_print = _BOUND.search(text) is not None and binds(tree, "print", nodes)

    def dotted(self, node: ast.expr) -> str:
        """`cuda.jit` of `from numba import cuda` as "numba.cuda.jit"; "" where it is no dotted name."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def compiles(self, node: ast.expr) -> bool:
        """Whether a decorator, or what is called, hands a function to a compiler that cannot compile `logging`."""
        if isinstance(node, ast.Call):
            if self.dotted(node.func).rpartition(".")[2] == "partial" and node.args:
                return self.compiles(node.args[0])
            return self.compiles(node.func)
        if isinstance(node, ast.IfExp):
            return self.compiles(node.body) or self.compiles(node.orelse)
        name = self.dotted(node)
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        if isinstance(node, ast.Name) and node.id in self._compilers:
            return True
        if first in _TRACED:
            return False
        if first == "torch":
            return name.startswith("torch.jit.") and last in ("script", "script_method", "export")
        if first == "taichi":
            return last in ("kernel", "func")
        return (first == "numba" and last in _NUMBA) or _JIT.fullmatch(last) is not None or last == "rawkernel"

    def is_print(self, call: ast.Call) -> bool:
        """Whether a call names the builtin; scopes that rebind it are the caller's to know."""
        if isinstance(call.func, ast.Name):
            return call.func.id == "print"
        return isinstance(call.func, ast.Attribute) and self.dotted(call.func) in (
            "builtins.print",
            "__builtins__.print",
        )

    def _read_constants(self, tree: ast.Module) -> None:
        seen: set[str] = set()
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                if not isinstance(target, ast.Name):
                    continue
                if target.id in seen or isinstance(node, ast.AugAssign):
                    self.strings.pop(target.id, None)
                    self.numbers.pop(target.id, None)
                elif isinstance(value, ast.Constant) and isinstance(value.value, str):
                    self.strings[target.id] = value.value
                elif isinstance(value, ast.Constant) and type(value.value) is int:
                    self.numbers[target.id] = value.value
                seen.add(target.id)

    def _compiler_names(self, node: ast.AST) -> Iterator[str]:
        """`fast = njit(cache=True)`, and functions that return what a compiler made of their argument."""
        if isinstance(node, ast.Assign):
            call = node.value if isinstance(node.value, ast.Call) else None
            partial = call is not None and self.dotted(call.func).rpartition(".")[2] == "partial"
            given = call is not None and any(isinstance(argument, (ast.Name, ast.Attribute)) for argument in call.args)
            if self.compiles(node.value) and (partial or not given):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef):
            own = {argument.arg for argument in node.args.args}
            for part in _inside(node) if own else ():
                if isinstance(part, ast.Return) and part.value is not None:
                    calls = [call for call in ast.walk(part.value) if isinstance(call, ast.Call)]
                    if any(
                        self.compiles(call.func) and any(isinstance(a, ast.Name) and a.id in own for a in call.args)
                        for call in calls
                    ):
                        yield node.name


def children(node: ast.AST) -> list[ast.AST]:
    """`ast.iter_child_nodes` at half its price, contexts and operators left out."""
    found: list[ast.AST] = []
    for name in node._fields:
        if name in ("ctx", "op", "ops"):
            continue
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def descendants(node: ast.AST) -> list[ast.AST]:
    """Every node below `node`."""
    found = children(node)
    for part in found:  # it grows on the way
        found += children(part)
    return found


def _inside(node: ast.FunctionDef) -> Iterator[ast.AST]:
    queue: list[ast.AST] = list(node.body)
    while queue:
        part = queue.pop()
        yield part
        if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            queue += children(part)


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    if isinstance(node, ast.Import):
        return {
            name.asname or name.name.partition(".")[0]: name.name if name.asname else name.name.partition(".")[0]
            for name in node.names
        }
    module = node.module or ""
    return {name.asname or name.name: f"{module}.{name.name}" for name in node.names if name.name != "*"}


def binds(scope: ast.AST, name: str, nodes: list[ast.AST] | None = None) -> bool:
    """Whether anything in `scope`, functions within it too, binds `name`."""
    for node in nodes if nodes is not None else ast.walk(scope):
        if isinstance(node, ast.Name):
            bound = node.id == name and not isinstance(node.ctx, ast.Load)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound = node.name == name
        elif isinstance(node, ast.arg):
            bound = node.arg == name
        elif isinstance(node, ast.alias):
            bound = (node.asname or node.name) == name
        else:
            bound = isinstance(node, ast.ExceptHandler) and node.name == name
        if bound:
            return True
    return False


def binds_here(scope: ast.AST, name: str) -> bool:
    """Whether `scope` binds `name` for itself: what functions and classes within it bind does not count."""
    opaque = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    queue: list[ast.AST] = []
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        if binds(scope.args, name):
            return True
        queue = list(scope.body) if isinstance(scope.body, list) else [scope.body]
    else:
        queue = children(scope)
    while queue:
        node = queue.pop()
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            continue
        if isinstance(node, opaque):
            if getattr(node, "name", None) == name:
                return True
            told = any(isinstance(part, ast.Global) and name in part.names for part in ast.walk(node))
            if told and binds(node, name):
                return True
            continue
        if binds(node, name, [node]):
            return True
        queue += children(node)
    return False
