"""Rewriting reported prints to `logger.debug` with libcst, everything else of the file byte for byte as it was.

What becomes of a print (its arguments stay the expressions they were, evaluated as before):

    print("text")  print(f"x {y}")  print("x %s" % y)     logger.debug(<the same argument>)
    print(x)                                              logger.debug("%s", x)
    print("a 5 %", x, "b")                                logger.debug("a 5 %% %s %s", x, "b")
    print(x, y, sep=", ")                                 logger.debug("%s, %s", x, y)
    print(*xs)  print(a, *xs)                             logger.debug(" ".join(map(str, xs)))
    print()                                               logger.debug("")

`sep` goes into the text; `end`, `flush` and `file` of stdout or stderr go. With no argument behind it, logging does no
%-formatting on a text. A print stays as it is, and that is said, where a keyword's value would have to be evaluated
(`end=f()`) or is not known (`**options`), and where the syntax tree and libcst disagree about its place.

In compiled code a logger cannot be compiled: the print goes, `pass` stays where nothing else would or where the line
carries a comment, and arguments that call what may act (`print(next_state(x))`) stay as a statement of their own.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from launcher.debug_prints.arguments import Unfit, debug_arguments
from launcher.debug_prints.logger import insert_logger, logger_of
from launcher.debug_prints.scan import Finding, Source
from launcher.debug_prints.scope import binds

_PURE = re.compile(
    r"(np|numpy|math)\.(?!random)\w+|(abs|min|max|len|sum|round|int|float|bool|str|repr|range|tuple|type|isinstance)|"
    r"[\w.]+\.(sum|min|max|mean|std|copy|any|all|item|astype|format|tolist)"
)


@dataclass(frozen=True)
class Outcome:
    """What became of one finding: "rewritten", "removed", or the reason why it was left."""

    finding: Finding
    done: str
    left: str = ""


@dataclass(frozen=True)
class Rewritten:
    """New bytes of a file, equal to the old where nothing could be done."""

    raw: bytes
    outcomes: list[Outcome]


def rewrite(source: Source, findings: list[Finding]) -> Rewritten:
    """Rewrite the prints that were found in `source`; what comes out compiles, or is what went in."""
    try:
        module = cst.parse_module(source.text)
    except (cst.ParserSyntaxError, RecursionError) as error:
        return _all_left(source, findings, f"libcst cannot read the file ({type(error).__name__})")
    if module.code != source.text:
        return _all_left(source, findings, "libcst would change other lines (form feeds or lone carriage returns)")
    wanted = {_position(source.text, finding): finding for finding in findings}
    logger = logger_of(source.tree)
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    str_is_builtin = not (binds(source.tree, "str") or binds(source.tree, "map"))
    rewriter = _Rewriter(wanted, logger.name, str_is_builtin=str_is_builtin)
    changed = wrapper.visit(rewriter)
    outcomes = [
        rewriter.outcomes.get(place, Outcome(finding, "", "its place in the file is not plain"))
        for place, finding in wanted.items()
    ]
    if any(outcome.done == "rewritten" for outcome in outcomes):
        changed = insert_logger(changed, logger)
    raw = source.bom + changed.code.encode(source.encoding)
    if problem := _does_not_compile(changed.code):
        return _all_left(source, findings, f"the rewritten file would not compile ({problem})")
    return Rewritten(raw, outcomes)


def _all_left(source: Source, findings: list[Finding], reason: str) -> Rewritten:
    return Rewritten(source.raw, [Outcome(finding, "", reason) for finding in findings])


def _does_not_compile(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<rewritten>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def _position(text: str, finding: Finding) -> tuple[int, int]:
    """Line and column in characters, as libcst counts."""
    line = re.split(r"\r\n|\r|\n", text)[finding.line - 1]
    return finding.line, len(line.encode()[: finding.column].decode(errors="replace"))


class _Rewriter(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, wanted: Mapping[tuple[int, int], Finding], logger: str, *, str_is_builtin: bool) -> None:
        super().__init__()
        self.wanted = wanted
        self.logger = logger
        self.str_is_builtin = str_is_builtin
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self._removed: list[cst.CSTNode] = []

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        place = self._place(original_node)
        finding = self.wanted.get(place)
        if finding is None:
            return updated_node
        if finding.compiled:  # a statement of its own goes in `leave_Expr`
            self.outcomes[place] = Outcome(finding, "", "it is part of an expression in compiled code")
            return updated_node
        try:
            arguments = debug_arguments(updated_node.args, str_is_builtin=self.str_is_builtin)
        except Unfit as reason:
            self.outcomes[place] = Outcome(finding, "", str(reason))
            return updated_node
        self.outcomes[place] = Outcome(finding, "rewritten")
        function = cst.Attribute(cst.Name(self.logger), cst.Name("debug"))
        return updated_node.with_changes(func=function, args=arguments)

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.BaseSmallStatement:  # noqa: N802
        place = self._place(original_node.value)
        finding = self.wanted.get(place)
        call = original_node.value
        if finding is None or not finding.compiled or not isinstance(call, cst.Call):
            return updated_node
        acting = [argument.value for argument in call.args if _may_act(argument)]
        if any(argument.star for argument in call.args if argument.value in acting):
            return updated_node
        if not acting:
            self.outcomes[place] = Outcome(finding, "removed")
            statement = cst.Pass(semicolon=updated_node.semicolon)
            self._removed.append(statement)
            return statement
        self.outcomes[place] = Outcome(finding, "removed")
        parens = {"lpar": [cst.LeftParen()], "rpar": [cst.RightParen()]}
        kept = acting[0] if len(acting) == 1 else cst.Tuple([cst.Element(value) for value in acting])
        return updated_node.with_changes(value=kept if kept.lpar else kept.with_changes(**parens))

    def leave_SimpleStatementLine(  # noqa: N802
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        commented = updated_node.trailing_whitespace.comment or any(line.comment for line in updated_node.leading_lines)
        if commented or not all(any(part is gone for gone in self._removed) for part in updated_node.body):
            return updated_node
        return cst.RemoveFromParent()

    def leave_IndentedBlock(  # noqa: N802
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        if updated_node.body:
            return updated_node
        return updated_node.with_changes(body=[cst.SimpleStatementLine([cst.Pass()])])

    def _place(self, node: cst.CSTNode) -> tuple[int, int]:
        start = self.get_metadata(PositionProvider, node).start
        return start.line, start.column


def _may_act(argument: cst.Arg) -> bool:
    node = ast.parse(f"({cst.Module([]).code_for_node(argument.value)})", mode="eval")
    for part in ast.walk(node):
        if isinstance(part, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(part, ast.Call) and not _PURE.fullmatch(ast.unparse(part.func)):
            return True
    return False
