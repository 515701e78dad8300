"""What a single expression says to `debug_prints`: a tag, a verbosity condition, a loop over timesteps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_BRACKET = r"[\[<({]\s*(?:[\w./-]+[ _.:/-])?(?:(?i:debug|dbg)|TRACE)(?:\d*[ _.:/-][^\])>}]*|\d*)[\])>}]"
_BRACKETED = re.compile(rf"[^\w\[<({{]*{_BRACKET}")
_LEADING = re.compile(
    r"\W*(?:"
    r"(?:\w+_)?(?:(?i:debug|dbg)|TRACE)(?:_\w+)*\d*\s*(?::|=|\||->?|—|–|>)"  # noqa: RUF001 - dashes as people type them
    r"|(?:DEBUG|DBG)(?:_\w+)*\W*$"
    r"|(?:DEBUG|DBG)(?:_\w+)*\s[^.!?\n]*[:=]"
    r")"
)
_FAILURE = re.compile(r"\W*(?i:error|warning|warn|fatal|critical|failed|failure|traceback)\b")


def is_tagged(call: ast.Call, constants: Mapping[str, str]) -> bool:
    """Whether the text of a print begins with a debug tag; behind a first argument, only a bracketed one counts."""
    for index, argument in enumerate(call.args):
        text = leading_text(argument, constants)
        if text is None:
            continue
        text = _ANSI.sub("", text)
        if _BRACKETED.match(text) or (index == 0 and _LEADING.match(text)):
            return True
    return False


def says_failure(call: ast.Call, constants: Mapping[str, str]) -> bool:
    """Whether the text of a print begins with ERROR, WARNING and the like."""
    text = leading_text(call.args[0], constants) if call.args else None
    return text is not None and _FAILURE.match(_ANSI.sub("", text)) is not None


def leading_text(node: ast.expr, constants: Mapping[str, str]) -> str | None:
    """The literal text that the string made by `node` begins with, as far as it can be read."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            value = part.value if isinstance(part, ast.FormattedValue) else part
            text = leading_text(value, constants)
            if text is not None and text.strip():
                return text
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
        return leading_text(node.left, constants)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            return leading_text(node.func.value, constants)
        if isinstance(node.func, ast.Name) and node.args:  # colored("[DEBUG] …", "red"), _("…")
            return leading_text(node.args[0], constants)
    return None


# --- conditions ---------------------------------------------------------------------------------------------------

_LOUD = {"verbose", "verbosity", "debug", "dbg", "debugging", "tracing"}
_QUIET = {"quiet", "silent"}
_ONCE = {"warned", "printed", "logged", "announced", "first", "once"}
_RARE = {"done", "terminated", "truncated", "finished"}
_FAILING = {"nan", "isnan", "isinf", "isfinite", "invalid", "error", "errors", "failed", "failure"}
_PACE = re.compile(
    r"(last|next)_(log|print|report|status|message|output)|(log|print|report|display)_(every|interval|freq)"
)
_INDEX = re.compile(r"(\w+_)?(step|timestep|iteration|iter|it|idx|index|episode|epoch|calls?|num_timesteps)s?|[ijknt]")
_LEVELS = {"isEnabledFor", "getEffectiveLevel"}


def guards(test: ast.expr) -> tuple[bool, bool]:
    """Whether a condition keeps debug output back in its (true branch, false branch)."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        body, other = guards(test.operand)
        return other, body
    if isinstance(test, ast.BoolOp):
        parts = [guards(value) for value in test.values]
        if isinstance(test.op, ast.And):
            return any(body for body, _ in parts), all(other for _, other in parts)
        return all(body for body, _ in parts), any(other for _, other in parts)
    if isinstance(test, ast.NamedExpr):
        return guards(test.value)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _guards_of_comparison(test, test.ops[0], test.comparators[0])
    if _paced(test):  # `if step % 1000:` prints on every step but each thousandth
        return False, True
    return _named_guard(test)


def _guards_of_comparison(test: ast.Compare, operator: ast.cmpop, right: ast.expr) -> tuple[bool, bool]:
    equal, unequal = isinstance(operator, (ast.Eq, ast.Is)), isinstance(operator, (ast.NotEq, ast.IsNot))
    if _paced(test.left) and not _paced(right):
        return equal or isinstance(operator, ast.Lt), unequal
    if _pacing_name(test):
        return True, True
    if isinstance(right, ast.Constant) and type(right.value) is int and _is_index(test.left) and (equal or unequal):
        return equal, unequal  # `if step == 0:` holds once
    left, other = _named_guard(test.left)
    if not (left or other):
        left, other = _named_guard(right)
        if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            return left, other
    off = isinstance(right, ast.Constant) and not right.value
    low = isinstance(operator, (ast.Lt, ast.LtE)) or (equal and off) or (unequal and not off)
    return (other, left) if low else (left, other)


def _paced(node: ast.expr) -> bool:
    """`step % n` with an n that can thin lines out: at least ten, or unknown."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mod):
        return False
    if isinstance(node.left, (ast.Constant, ast.JoinedStr)):
        return False
    return not isinstance(node.right, ast.Constant) or (isinstance(node.right.value, int) and node.right.value >= 10)


def _named_guard(node: ast.expr) -> tuple[bool, bool]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
        return True, False
    words = set().union(*(_words(name) for name in _names(node)))
    if words & _QUIET:
        return False, True
    if words & _ONCE:
        return True, True
    return bool(words & (_LOUD | _RARE)), False


def tests_failure(test: ast.expr) -> bool:
    """Whether a condition asks for something gone wrong: `np.isnan(…)`, `if errors`."""
    return any(_words(name) & _FAILING for name in _names(test))


def _pacing_name(test: ast.expr) -> bool:
    return any(_PACE.search(name.lower()) for name in _names(test))


def _is_index(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return _INDEX.fullmatch(name) is not None


def _names(node: ast.expr) -> Iterator[str]:
    """Names, attributes and keys that an expression reads; `__debug__`, true unless Python runs with -O, is none."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id != "__debug__":
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
            yield str(part.slice.value)
        elif isinstance(part, ast.Call) and part.args and isinstance(part.args[0], ast.Constant):
            yield str(part.args[0].value)  # os.environ.get("DEBUG"), kwargs.get("verbose")


def _words(name: str) -> set[str]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return set(re.split(r"[^a-z0-9]+", parted.lower()))


def is_main_guard(test: ast.expr) -> bool:
    """`__name__ == "__main__"`, in either order."""
    return (
        isinstance(test, ast.Compare)
        and any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))
        and any(isinstance(node, ast.Constant) and node.value == "__main__" for node in ast.walk(test))
    )


# --- loops --------------------------------------------------------------------------------------------------------

_TIME = re.compile(
    r"(n|num|max|total|nb|n_?time|num_?time)?_?(time_?)?steps|total_?timesteps|n_?timesteps|num_?timesteps|"
    r"t_?(end|final|max|stop)|max_?(time|iter|iterations)|n_?iter(ations)?|time_?horizon|horizon|episodes|epochs|"
    r"(n|num|max|total)_?(episodes|epochs)|terminated|truncated|done"
)


def is_time_loop(loop: ast.For | ast.AsyncFor | ast.While) -> bool:
    """A loop over timesteps: its head says so, or its own body calls something's `.step(…)`."""
    head = loop.test if isinstance(loop, ast.While) else loop.iter
    for node in ast.walk(head):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name and _TIME.fullmatch(name.lower()):
            return True
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
        for node in _own(loop.body)
    )


def _own(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node of a block but those of loops and functions in it."""
    queue: list[ast.AST] = list(body)
    while queue:
        node = queue.pop()
        yield node
        if not isinstance(node, (ast.For, ast.AsyncFor, ast.While, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            queue += ast.iter_child_nodes(node)


def iterations(iterable: ast.expr, numbers: Mapping[str, int]) -> int | None:
    """How often a `for` over this runs, where the source says so: a constant range, a literal, `enumerate` of one."""
    if isinstance(iterable, (ast.Tuple, ast.List, ast.Set)):
        return None if any(isinstance(item, ast.Starred) for item in iterable.elts) else len(iterable.elts)
    if not isinstance(iterable, ast.Call) or not iterable.args:
        return None
    name = iterable.func.id if isinstance(iterable.func, ast.Name) else getattr(iterable.func, "attr", "")
    if name in ("range", "prange"):
        bounds = [_number(argument, numbers) for argument in iterable.args]
        known = [bound for bound in bounds if bound is not None]
        return len(range(*known)) if len(known) == len(bounds) <= 3 and 0 not in known[2:] else None
    return iterations(iterable.args[0], numbers) if name in ("enumerate", "reversed", "sorted", "list") else None


def _number(node: ast.expr, numbers: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand, numbers)
        return None if inner is None else -inner
    if isinstance(node, ast.Name):
        return numbers.get(node.id)
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
