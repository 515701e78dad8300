"""What a command says to a person: on a terminal broken between words, elsewhere as it is."""

from __future__ import annotations

import sys

import typer

from launcher import tables


def can_ask() -> bool:
    """Whether a person sees a question on standard error, and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say(text: str, *, err: bool = False) -> None:
    """Write `text` to standard output, or with `err` to standard error, without what would move a cursor."""
    text = "\n".join(map(tables.printable, text.split("\n")))
    typer.echo(tables.paragraphs(text, tables.width(sys.stderr if err else sys.stdout)), err=err)
