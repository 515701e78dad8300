"""kaglaunch, the part that runs on your machine: push, watch, fetch, resume.

`from launcher import Kaglaunch` has the same verbs for Python; it is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.api import Kaglaunch

__version__ = "0.1.0"
__all__ = ["Kaglaunch", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Kaglaunch":
        from launcher.api import Kaglaunch

        return Kaglaunch
    raise AttributeError(f"module 'launcher' has no attribute {name!r}")
