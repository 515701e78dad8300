"""Documents as commands print them: with the schema's number, in plain ASCII."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kernel.contract import typed

SCHEMA = 1


def text(value: Any) -> str:
    """A document, or several, over as many lines as a person reads easily."""
    many = isinstance(value, Sequence)
    return json.dumps([_marked(one) for one in value] if many else _marked(value), indent=2)


def line(value: Any) -> str:
    """A document as one line of a command that prints one object a line."""
    return json.dumps(_marked(value))


def _marked(value: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, **typed.plain(value)}
