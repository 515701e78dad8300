"""The walk through one module's syntax tree that applies the rules of `debug_prints`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from launcher.debug_prints import words
from launcher.debug_prints.estimate import Function, Loop, Place, estimate
from launcher.debug_prints.scope import Names, binds_here, children

_STEP = re.compile(
    r"_*(step|sub_?step|on_step|apply|update|forward|kernel|advance|tick|rhs|step_(cpu|gpu|cuda|once|one|env|all|async|wait)|"
    r"(train|training|time|one|single|do|env|sim|simulation|rk\d|ssp_rk\d|euler|solver|solve|cpu|gpu|cuda)_step|\w+_kernel)"
)
_ENVIRONMENT = re.compile(r"\w*(Env|Environment|Wrapper)")
_MAIN = re.compile(r"_*(main|cli|usage|help|run_cli|print_usage|print_help)")
_SPEAKING = re.compile(
    r"_*(print|show|display|report|dump|list|usage|help|summari[sz]e|describe)(_\w+)?|\w+_(report|summary)"
)
_COMMANDS = {"command", "callback", "group"}
_CLI_FILES = {"cli.py", "__main__.py", "setup.py", "noxfile.py", "fabfile.py", "manage.py"}
_CLI_FOLDERS = {"cli", "commands", "bin"}
_EXITS = {"exit", "quit", "sys.exit", "os._exit", "os.abort"}


@dataclass(frozen=True)
class Site:
    """A print that the rules report."""

    call: ast.Call
    rule: str
    lines: int
    per: str
    at_least: bool
    at_most: bool
    basis: str
    compiled: bool


@dataclass
class _Walk:
    names: Names
    compiled_abroad: frozenset[str]
    environments: frozenset[str]
    prints: list[tuple[ast.Call, Place]] = field(default_factory=list)
    calls: list[tuple[str, str, Place]] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)

    def block(self, body: list[ast.stmt], place: Place) -> None:
        last = body[-1] if body else None
        if isinstance(last, ast.Raise) or self._exits(last):
            place = replace(place, failing=True)
        elif isinstance(last, ast.Break):
            place = replace(place, loops=place.loops[:-1])
        elif isinstance(last, ast.Return):
            place = replace(place, loops=())
        for statement in body:
            self.statement(statement, place)
            if isinstance(statement, ast.If) and not statement.orelse and _leaves(statement.body):
                place = replace(place, guarded=place.guarded or words.guards(statement.test)[1])

    def _shadows(self, scope: ast.AST) -> bool:
        return self.names.rebinds_print and binds_here(scope, "print")

    def _exits(self, statement: ast.stmt | None) -> bool:
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
            return False
        name = self.names.dotted(statement.value.func)
        return name in _EXITS or name.endswith(".error")

    def statement(self, node: ast.stmt, place: Place) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._function(node, place)
        elif isinstance(node, ast.ClassDef):
            for outer in [*node.decorator_list, *node.bases, *node.keywords]:
                self.expression(outer, place)
            inner = replace(place, owner=node.name, shadowed=place.shadowed or self._shadows(node))
            compiled = any(self.names.compiles(decorator) for decorator in node.decorator_list)
            for statement in node.body:
                if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    self._function(statement, replace(place, owner=node.name), node, compiled)
                else:
                    self.statement(statement, inner)
        elif isinstance(node, ast.If):
            self.expression(node.test, place)
            self._branches(node.test, node.body, node.orelse, place)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self.expression(node.iter, place)
            loop = Loop(words.iterations(node.iter, self.names.numbers), words.is_time_loop(node))
            self.block(node.body, replace(place, loops=(*place.loops, loop)))
            self.block(node.orelse, place)
        elif isinstance(node, ast.While):
            inner = replace(place, loops=(*place.loops, Loop(None, words.is_time_loop(node))))
            self.expression(node.test, inner)
            self.block(node.body, replace(inner, guarded=place.guarded or words.guards(node.test)[0]))
            self.block(node.orelse, place)
        elif isinstance(node, (ast.Try, ast.TryStar)):
            self.block(node.body, place)
            for handler in node.handlers:
                self.block(handler.body, replace(place, failing=True))
            self.block(node.orelse, place)
            self.block(node.finalbody, place)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                self.expression(item, place)
            self.block(node.body, place)
        elif isinstance(node, ast.Match):
            self.expression(node.subject, place)
            for case in node.cases:
                self.expression(case, place)
                self.block(case.body, replace(place, conditional=True))
        else:
            for child in children(node):
                self.expression(child, place)

    def _branches(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt], place: Place) -> None:
        if place.function is None and words.is_main_guard(test):
            self.block(body, replace(place, main=True))
            self.block(orelse, place)
            return
        held, held_else = words.guards(test)
        inner = replace(place, conditional=True, failing=place.failing or words.tests_failure(test))
        self.block(body, replace(inner, guarded=place.guarded or held))
        self.block(orelse, replace(inner, guarded=place.guarded or held_else))

    def expression(self, node: ast.AST, place: Place) -> None:
        if isinstance(node, ast.Call):
            self._call(node, place)
        if isinstance(node, ast.IfExp):
            held, held_else = words.guards(node.test)
            self.expression(node.test, place)
            self.expression(node.body, replace(place, conditional=True, guarded=place.guarded or held))
            self.expression(node.orelse, replace(place, conditional=True, guarded=place.guarded or held_else))
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                self.expression(value, place)
                held = words.guards(value)[0 if isinstance(node.op, ast.And) else 1]
                place = replace(place, conditional=True, guarded=place.guarded or held)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            for part in node.generators:
                self.expression(part.iter, place)
                turns = words.iterations(part.iter, self.names.numbers)
                held = any(words.guards(test)[0] for test in part.ifs)
                place = replace(place, loops=(*place.loops, Loop(turns, False)), guarded=place.guarded or held)
                place = replace(place, conditional=place.conditional or bool(part.ifs))
            for element in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
                self.expression(element, place)
        elif isinstance(node, ast.Lambda):
            self.expression(node.body, replace(place, loops=(), shadowed=place.shadowed or self._shadows(node)))
        elif not isinstance(node, ast.stmt):
            for child in children(node):
                self.expression(child, place)

    def _call(self, node: ast.Call, place: Place) -> None:
        if self.names.is_print(node) and not (place.shadowed and isinstance(node.func, ast.Name)):
            self.prints.append((node, place))
        elif isinstance(node.func, ast.Name):
            self.calls.append(("", node.func.id, place))
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            self.calls.append((place.owner if node.func.value.id in ("self", "cls") else "?", node.func.attr, place))

    def _function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        place: Place,
        owner: ast.ClassDef | None = None,
        compiled: bool = False,
    ) -> None:
        for outer in [*node.decorator_list, node.args]:
            self.expression(outer, place)
        parent = place.function
        decorators = [self.names.dotted(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
        by_decorator = [name for d, name in zip(node.decorator_list, decorators, strict=True) if self.names.compiles(d)]
        by_call = node.name in self.names.compiled or (owner is None and node.name in self.compiled_abroad)
        function = Function(
            node.name,
            owner.name if owner else "",
            compiled=compiled or bool(by_decorator) or by_call or (parent is not None and parent.compiled),
            cuda=any("cuda" in name for name in by_decorator),
            main=_MAIN.fullmatch(node.name) is not None
            or any(name.rpartition(".")[2] in _COMMANDS for name in decorators)
            or (parent is not None and parent.main),
            speaking=_SPEAKING.fullmatch(node.name) is not None,
        )
        self._by_name(function, node, owner)
        if not function.per and parent is not None and parent.per:
            function.per, function.reason, function.at_least = parent.per, f"within {parent.name}", parent.at_least
        self.functions.append(function)
        inner = Place(
            function,
            place.owner,
            guarded=place.guarded,
            main=function.main,
            shadowed=place.shadowed or self._shadows(node),
        )
        self.block(node.body, inner)

    def _by_name(
        self, function: Function, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef | None
    ) -> None:
        if owner is not None and owner.name in self.environments and node.name in ("step", "reset"):
            function.per = "timestep" if node.name == "step" else "episode"
            function.reason = f"{owner.name}.{node.name} of an environment runs once per {function.per}"
        elif owner is not None and node.name == "_on_step" and any("Callback" in _last(base) for base in owner.bases):
            function.per, function.reason = "timestep", f"{owner.name}._on_step runs once per timestep"
        elif _STEP.fullmatch(node.name) and not any(_is_time_loop(part) for part in _inside(node)):
            function.per, function.reason = "timestep", f"{node.name} is taken to run once per timestep"


def sites(
    tree: ast.Module, names: Names, path: PurePath, compiled_abroad: frozenset[tuple[str, str]] = frozenset()
) -> Iterator[Site]:
    """Every print of a module that the rules report; `path`, relative to the tree, tells a command-line module."""
    if not names.prints:
        return
    abroad = frozenset(name for module, name in compiled_abroad if module == path.stem)
    walk = _Walk(names, abroad, frozenset(_environments(names)))
    walk.block(tree.body, Place(shadowed=names.rebinds_print and binds_here(tree, "print")))
    _spread(walk)
    cli = path.name in _CLI_FILES or any(part in _CLI_FOLDERS for part in path.parts[:-1])
    for call, place in walk.prints:
        if not place.guarded and _to_console(call, names) and (site := _judge(call, place, cli, names)):
            yield site


def _judge(call: ast.Call, place: Place, cli: bool, names: Names) -> Site | None:
    function = place.function
    time_loop = any(loop.time for loop in place.loops)
    tagged = words.is_tagged(call, names.strings)
    compiled = function is not None and function.compiled
    if not tagged and (place.failing or words.says_failure(call, names.strings)):
        return None
    main = cli or place.main or (function is not None and function.speaking)
    if tagged:
        rule = "tagged"
    elif compiled:
        rule = "jitted"
    elif cli:
        return None
    elif function is not None and function.per:
        rule = "per-step"
    elif time_loop or (place.loops and not main):
        rule = "loop"
    else:
        return None
    lines, per, at_least, basis = estimate(place, time_loop)
    return Site(call, rule, lines, per, at_least, place.conditional, basis, compiled)


def _spread(walk: _Walk) -> None:
    """What a per-step function, or a loop over timesteps, calls without a guard runs once per timestep too."""
    known: dict[str, list[Function]] = {}
    for function in walk.functions:
        known.setdefault(function.name, []).append(function)
    changed = True
    while changed:
        changed = False
        for owner, name, place in walk.calls:
            caller = place.function
            time_loop = any(loop.time for loop in place.loops)
            if place.guarded or place.failing or not (time_loop or (caller is not None and caller.per)):
                continue
            candidates = [f for f in known.get(name, []) if bool(f.owner) == bool(owner)]
            for function in [f for f in candidates if f.owner == owner] or candidates:
                if not function.per and function is not caller:
                    function.lines, function.per, function.at_least, _ = estimate(place, time_loop)
                    source = caller.name if caller is not None and caller.per else "a loop over timesteps"
                    function.reason = f"{name} is called once per {function.per} by {source}"
                    changed = True


def _environments(names: Names) -> Iterator[str]:
    """Classes named or based like a gymnasium environment, or that have both `step` and `reset`."""
    for node in names.classes:
        methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        named = any(_ENVIRONMENT.fullmatch(name) for name in [node.name, *map(_last, node.bases)])
        if named or {"step", "reset"} <= methods:
            yield node.name


def _to_console(call: ast.Call, names: Names) -> bool:
    """A print to another `file=` is the author's business."""
    for keyword in call.keywords:
        if keyword.arg == "file":
            none = isinstance(keyword.value, ast.Constant) and keyword.value.value is None
            return none or names.dotted(keyword.value) in CONSOLE
    return True


CONSOLE = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}


def _leaves(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], (ast.Return, ast.Continue, ast.Break, ast.Raise))


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):  # gym.Env[Obs, Act]
        return _last(node.value)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_time_loop(node: ast.AST) -> bool:
    return isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and words.is_time_loop(node)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a function but those of functions in it."""
    for child in children(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield child
            yield from _inside(child)
