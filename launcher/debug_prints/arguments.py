"""The arguments of `logger.debug` that say what a print said; comments and continued lines among them are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst
from libcst import matchers

_OCTAL_END = re.compile(r"\\[0-7]{1,2}$")


class Unfit(Exception):
    """Raised for a print that has to stay as it is; says why."""


def debug_arguments(given: Sequence[cst.Arg], *, str_is_builtin: bool) -> list[cst.Arg]:
    """Arguments for `logger.debug` from those of a print.

    Raises
    ------
    Unfit
        No call of the logger would evaluate the same and say the same.
    """
    separator: str | cst.BaseExpression = " "
    for argument in given:
        if argument.star == "**":
            raise Unfit("its keywords are not known before it runs (**)")
        if argument.keyword is None:
            continue
        name = argument.keyword.value
        if name not in ("sep", "end", "flush", "file") or not _is_plain(argument.value):
            raise Unfit(f"the value of {name}= would have to be evaluated")
        if name == "sep":
            separator = _constant(argument.value)
    kept = _without_keywords(given)
    if not kept:
        made = [cst.Arg(cst.SimpleString('""'))]
    elif any(argument.star for argument in kept):
        made = [_joined(kept, separator, str_is_builtin)]
    elif len(kept) == 1:
        made = [_alone(kept[0])] if _is_text(kept[0].value) else [_text("%s"), _alone(kept[0])]
    elif isinstance(separator, str):
        made = _formatted(kept, separator)
    else:
        made = [_text("%s" * (2 * len(kept) - 1)), *_interleaved(kept, separator)]
    if len(matchers.findall(cst.Call(cst.Name("f"), made), matchers.Comment())) < _comments(given):
        raise Unfit("a comment between its arguments would be lost")
    return made


def _comments(given: Sequence[cst.Arg]) -> int:
    return len(matchers.findall(cst.Call(cst.Name("f"), list(given)), matchers.Comment()))


def _is_plain(node: cst.BaseExpression) -> bool:
    """Left out without a trace: evaluating it does nothing."""
    if isinstance(node, cst.Attribute):
        return _is_plain(node.value)
    return isinstance(node, (cst.Name, cst.SimpleString, cst.ConcatenatedString, cst.Integer))


def _constant(node: cst.BaseExpression) -> str | cst.BaseExpression:
    if isinstance(node, cst.Name) and node.value == "None":
        return " "
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        if isinstance(value, str):
            return value
    return node


def _is_text(node: cst.BaseExpression) -> bool:
    """Certainly a `str`, whatever else is in it."""
    if isinstance(node, cst.SimpleString):
        return "b" not in node.prefix.lower()
    if isinstance(node, cst.FormattedString):
        return True
    if isinstance(node, cst.ConcatenatedString):
        return _is_text(node.left)
    if isinstance(node, cst.BinaryOperation):
        repeated = isinstance(node.operator, cst.Multiply) and _is_text(node.right)
        return repeated or (isinstance(node.operator, (cst.Modulo, cst.Add, cst.Multiply)) and _is_text(node.left))
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return node.func.attr.value in ("format", "join") and _is_text(node.func.value)
    return False


def _text(content: str) -> cst.Arg:
    return cst.Arg(cst.SimpleString(f'"{content}"'), comma=_comma())


def _comma() -> cst.Comma:
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _alone(argument: cst.Arg) -> cst.Arg:
    """`print(x for x in y)` needs no parentheses of its own; behind another argument it does."""
    value = argument.value
    if isinstance(value, cst.GeneratorExp) and not value.lpar:
        return argument.with_changes(value=value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]))
    return argument


def _formatted(kept: list[cst.Arg], separator: str) -> list[cst.Arg]:
    first = kept[0].value
    if isinstance(first, cst.SimpleString) and first.prefix.lower() in ("", "u"):
        inside = first.raw_value
        value = first.evaluated_value
        as_written = isinstance(value, str) and value.count("%") == inside.count("%")
        if as_written and not _OCTAL_END.search(inside):
            rest = (_escaped(separator, first.quote[0]) + "%s") * (len(kept) - 1)
            text = f"{first.prefix}{first.quote}{inside.replace('%', '%%')}{rest}{first.quote}"
            return [kept[0].with_changes(value=first.with_changes(value=text)), *kept[1:]]
    return [_text(_escaped(separator, '"').join(["%s"] * len(kept))), *kept]


def _interleaved(kept: list[cst.Arg], separator: cst.BaseExpression) -> list[cst.Arg]:
    made = []
    for argument in kept[:-1]:
        made += [argument, cst.Arg(separator.deep_clone(), comma=_comma())]
    return [*made, kept[-1]]


def _escaped(text: str, quote: str) -> str:
    """`text` as it is written between quotes in a %-format; in ASCII, for the file may be in any encoding."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return escaped.replace(quote, "\\" + quote).replace("%", "%%")


def _joined(kept: list[cst.Arg], separator: str | cst.BaseExpression, str_is_builtin: bool) -> cst.Arg:
    """`" ".join(map(str, (a, *rest)))`: how many there are is known only when it runs."""
    if not isinstance(separator, str):
        raise Unfit("its sep= is not constant, and how many arguments it gets is not known")
    parts: cst.BaseExpression = kept[0].value
    last = kept[-1]
    if len(kept) > 1:
        elements = [
            (cst.StarredElement if argument.star else cst.Element)(
                argument.value, comma=argument.comma if argument is not last else cst.MaybeSentinel.DEFAULT
            )
            for argument in kept
        ]
        parts = cst.Tuple(elements, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    literal = cst.SimpleString('"' + _escaped(separator, '"').replace("%%", "%") + '"')
    if str_is_builtin:
        inner = [cst.Arg(cst.Call(cst.Name("map"), [cst.Arg(cst.Name("str")), cst.Arg(parts)]))]
    else:
        text = cst.FormattedString([cst.FormattedStringExpression(cst.Name("part"), conversion="s")], start='f"')
        generator = cst.GeneratorExp(text, cst.CompFor(cst.Name("part"), parts), lpar=[], rpar=[])
        inner = [cst.Arg(generator)]
    call = cst.Call(cst.Attribute(literal, cst.Name("join")), inner)
    return last.with_changes(value=call, star="", whitespace_after_star=cst.SimpleWhitespace(""))


# --- leaving keywords out ---------------------------------------------------------------------------------------------


def _without_keywords(given: Sequence[cst.Arg]) -> list[cst.Arg]:
    """Positional arguments; a comment beside a keyword stays, behind the argument before it."""
    kept: list[cst.Arg] = []
    for index, argument in enumerate(given):
        if argument.keyword is None:
            kept.append(argument)
            continue
        if not kept:
            continue
        before, last = kept[-1], index == len(given) - 1
        own = argument.comma.whitespace_after if isinstance(argument.comma, cst.Comma) else cst.SimpleWhitespace("")
        if _has_comment(own) or (isinstance(before.comma, cst.Comma) and _has_comment(before.comma.whitespace_after)):
            space = before.comma.whitespace_after if isinstance(before.comma, cst.Comma) else cst.SimpleWhitespace("")
            comma = cst.Comma(whitespace_after=_merged(space, own))
            kept[-1] = before.with_changes(comma=comma, whitespace_after_arg=argument.whitespace_after_arg)
        elif last:
            kept[-1] = before.with_changes(comma=argument.comma, whitespace_after_arg=argument.whitespace_after_arg)
    return kept


def _has_comment(space: cst.BaseParenthesizableWhitespace) -> bool:
    return bool(matchers.findall(space, matchers.Comment()))


def _merged(
    first: cst.BaseParenthesizableWhitespace, second: cst.BaseParenthesizableWhitespace
) -> cst.BaseParenthesizableWhitespace:
    if not isinstance(second, cst.ParenthesizedWhitespace):
        return first
    if not isinstance(first, cst.ParenthesizedWhitespace):
        return second
    line = second.first_line
    own = [cst.EmptyLine(first.indent, first.last_line, line.comment, line.newline)] if line.comment else []
    return second.with_changes(first_line=first.first_line, empty_lines=[*first.empty_lines, *own, *second.empty_lines])
