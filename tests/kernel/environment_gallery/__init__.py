"""Awkward environments, one of each kind: where people keep state, and what a resume of it must come out as.

`expected` names each with what must be said of it: proved, or inexact with a word that the reason must hold. An
environment's observation and reward hang on its hidden state, so that a resume that loses it trains to other weights.
"""

from __future__ import annotations

import importlib
import pkgutil


def expected() -> dict[str, str]:
    """`module:name` of each exhibit -> what must come out."""
    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(found.name)
    from .exhibit import EXPECTED

    return EXPECTED
