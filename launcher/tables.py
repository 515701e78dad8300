"""Text as a person reads it: tables and paragraphs that fit the terminal, times in words."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TextIO

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_TIED = "\N{NO-BREAK SPACE}"
LONGEST_WORD = 48
"""A longer one in a table is broken; names of runs and kernels are not."""
BROKEN = 16
"""Least width of a column with such a word."""
NARROW = 80
"""Columns of a terminal that is not asked, or that nobody looks at."""


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that `stream` (standard output) is; None where it is none and nothing need be wrapped."""
    looked_at = (stream or sys.stdout).isatty()
    return shutil.get_terminal_size((NARROW, 24)).columns if looked_at else None


def columns(header: Sequence[str], body: Sequence[Sequence[str]], limit: int | None = None) -> list[str]:
    """Rows of text in aligned columns under `header`; wider than `limit`, cells go on in lines below.

    Cells break between words, and not at a no-break space; a word that is longer than any name is broken itself.
    Without `limit` the terminal decides.
    """
    rows = [[printable(str(cell)) for cell in row] for row in (header, *body)]
    widths = _fitting(rows, limit if limit is not None else width())
    lines: list[str] = []
    for at, row in enumerate(rows):
        cells = [wrapped(cell, wide, break_words=True) for cell, wide in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            parts = "  ".join(part.ljust(wide) for part, wide in zip(line, widths, strict=True))
            lines.append(parts.rstrip().replace(_TIED, " "))
        if at == 0:
            lines.append("  ".join("-" * wide for wide in widths))
    return lines


def wrapped(text: str, limit: int | None, indent: str = "", *, break_words: bool = False) -> list[str]:
    """`text` in lines of at most `limit` columns, broken between words; later ones begin with `indent`.

    A word that is longer stays whole, but for `break_words`.
    """
    if limit is None or len(text) <= limit:
        return [text]
    lines = textwrap.wrap(
        text, max(1, limit), subsequent_indent=indent, break_long_words=break_words, break_on_hyphens=False
    )
    return lines or [""]


def printable(text: str) -> str:
    """`text` without what would move a terminal's cursor, change its colours or ring its bell."""
    return _CONTROL.sub("", text.rsplit("\r", 1)[-1])


def paragraphs(text: str, limit: int | None) -> str:
    """Each line of `text` wrapped, what goes on indented as its line is."""
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += wrapped(line, limit, indent)
    return "\n".join(lines)


def flowed(parts: Sequence[str], limit: int | None, indent: str = "") -> list[str]:
    """`parts` side by side in lines of at most `limit` columns: what does not fit goes on below, indented further."""
    further = indent + "  "
    lines = [""]
    for part in filter(None, parts):
        beside = f"{lines[-1]}   {part}" if lines[-1] else indent + part
        if lines[-1] and limit is not None and len(beside) > limit:
            lines.append(further + part)
        else:
            lines[-1] = beside
    return [piece for line in lines for piece in wrapped(line, limit, further)]


def counted(number: int, thing: str) -> str:
    """So many of a `thing`, whose plural ends with s."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    seconds = max(0, round(seconds))
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def clock(seconds: float) -> str:
    """Seconds since a beginning as h:mm:ss."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _fitting(rows: Sequence[Sequence[str]], limit: int | None) -> list[int]:
    """Widths of the columns: the widest cells', the widest column narrowed until the table fits or words forbid it."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    longest = [max(len(word) for cell in column for word in cell.split(" ")) for column in zip(*rows, strict=True)]
    least = [wide if wide <= LONGEST_WORD else BROKEN for wide in longest]
    while limit is not None and sum(widths) + 2 * (len(widths) - 1) > limit:
        narrowable = [(wide, at) for at, wide in enumerate(widths) if wide > least[at]]
        if not narrowable:
            break
        widths[max(narrowable)[1]] -= 1
    return widths
