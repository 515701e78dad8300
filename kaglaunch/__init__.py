"""Long RL training on Kaggle's free accelerators, with nothing ever lost: the public face of the package.

    from kaglaunch import Kaglaunch

`Kaglaunch` has the verbs of the command line; it is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher import __version__

if TYPE_CHECKING:
    from launcher import Kaglaunch

__all__ = ["Kaglaunch", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Kaglaunch":
        from launcher import Kaglaunch

        return Kaglaunch
    raise AttributeError(f"module 'kaglaunch' has no attribute {name!r}")
