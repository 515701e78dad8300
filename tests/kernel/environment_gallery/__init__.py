"""Awkward environments, one of each kind: where people keep state, and what a resume of it must come out as.

`EXPECTED` names each with what must be said of it: proved, or inexact with a word that the reason must hold. An
environment's observation and reward hang on its hidden state, so that a resume that loses it trains to other weights.
"""

from __future__ import annotations

from . import chance, containers, functions, identity, machine, modules, names, opaque, wrapped
from .exhibit import EXHIBITS, EXPECTED

__all__ = ["EXPECTED"]
globals().update(EXHIBITS)
