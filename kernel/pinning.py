"""The settings that the numbers depend on and that must stand before torch and numpy are imported.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

PINNED = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # Both vendors' CPUs take the same code path; measured to cost nothing on networks of this size.
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "PYTHONHASHSEED": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
"""Sums run in one order only with one thread and one instruction set; another value gives other weights."""


def pin(environment: MutableMapping[str, str] | None = None) -> None:
    """Put PINNED into `environment`, this process's by default."""
    (os.environ if environment is None else environment).update(PINNED)
