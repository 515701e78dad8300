"""The loops over cells are vector code: what LLVM made of them, read from their assembly."""

import platform
import re

import numpy as np
import pytest

from arz_model.cells import N_ROWS, Kind, stride_for
from arz_model.physics import ClosureKey
from arz_model.step_cpu import make_loops

NAMES = ("refresh", "faces", "fluxes", "update", "relax", "clamp", "renew")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize("closure", [ClosureKey("garz", 1.0, 1.0), ClosureKey("arz", 1.5, 2.0)], ids=["garz", "arz"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hot_loops_use_packed_arithmetic(dtype, closure):
    """Each of the two loops of a first-order sub-step multiplies, divides and stores several cells at once."""
    kind = Kind(closure, dtype, "hll", False, True, False, stride_for(200))
    loops = dict(zip(NAMES, make_loops(kind), strict=True))
    number = np.dtype(dtype).type
    u = np.zeros(N_ROWS["hll"] * kind.stride, number)
    par = tuple(number(x) for x in (4.0, 1.6, 4.0, 4.0, 20.0, 20.0, 25.0))
    calls = {
        "fluxes": (u, 208),
        "renew": (u, 208, number(0.9), number(0.8), number(1.0), number(1.0), par),
    }
    letter = "d" if dtype == "float64" else "s"
    for name, arguments in calls.items():
        loops[name](*arguments)
        (assembly,) = loops[name].inspect_asm().values()
        for operation in ("mul", "div"):
            assert re.search(rf"\bv?{operation}p{letter}\b", assembly), f"{name}: no packed {operation}"
