"""The loops over cells are vector code: what LLVM made of them, read from their assembly."""

import platform
import re

import numpy as np
import pytest
from numba.core.codegen import get_host_cpu_features

from arz_model.cells import N_ROWS, N_STRIP_ROWS, Kind, stride_for, strip_stride_for
from arz_model.ends import N_END_ROWS
from arz_model.network import Network, Node, Segment
from arz_model.physics import ClosureKey
from arz_model.solver import Solver
from arz_model.step_cpu import build_advance, make_end_loops, make_loops

NAMES = ("refresh", "faces", "fluxes", "update", "relax", "clamp", "renew", "renew_stage", "carry", "remember")


GARZ, ARZ = ClosureKey("garz", 1.0, 1.0), ClosureKey("arz", 1.5, 2.0)
WHOLE = {"hll": ("fluxes", "renew"), "van_leer": ("faces", "fluxes", "renew_stage", "renew")}
"""The loops of a sub-step of each scheme."""
X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")


@X86
@pytest.mark.parametrize(
    ("closure", "scheme"), [(GARZ, "hll"), (ARZ, "hll"), (GARZ, "van_leer")], ids=["garz", "arz", "garz-van_leer"]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hot_loops_use_packed_arithmetic(dtype, closure, scheme):
    """Each loop of a sub-step multiplies, adds and divides several cells at once, as many as the processor can."""
    kind = Kind(closure, dtype, scheme, False, True, False, stride_for(200), strip_stride_for(scheme, dtype), 8)
    loops = dict(zip(NAMES, make_loops(kind), strict=True))
    number = np.dtype(dtype).type
    u, strip = (
        np.zeros(N_ROWS[scheme] * kind.stride, number),
        np.zeros(N_STRIP_ROWS[scheme] * kind.strip_stride, number),
    )
    par = tuple(number(x) for x in (4.0, 1.6, 4.0, 4.0, 20.0, 20.0, 25.0))
    calls = {
        "faces": (u, strip, 80, 144, 64, par),
        "fluxes": (u, strip, 80, 144, 64),
        "renew": (u, strip, 64, 128, 64, number(0.5), number(0.9), number(0.8), number(1.0), par),
        "renew_stage": (u, strip, 64, 128, 64, number(0.5), par),
    }
    features = get_host_cpu_features().split(",")
    for name in WHOLE[scheme]:
        assembly = check_packed(loops[name], calls[name], dtype)
        if "+fma" in features:
            assert re.search(r"\bvfn?m(add|sub)\d+p[ds]\b", assembly), f"{name}: no packed fused multiply-add"
        if "+avx512f" in features:
            assert "zmm" in assembly, f"{name}: vectors of half the width that there is"


@X86
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_loops_over_road_ends_use_packed_arithmetic(dtype):
    """What a segment can send and take is worked out for several segments at once, closure garz."""
    kind = Kind(GARZ, dtype, "hll", False, True, True, stride_for(200), strip_stride_for("hll", dtype), 16)
    demands, admits, _ = make_end_loops(kind)
    number = np.dtype(dtype).type
    ends = np.full(N_END_ROWS * kind.width, 0.02, number)
    par = tuple(number(x) for x in (4.0, 1.6, 4.0, 4.0, 20.0, 20.0, 25.0))
    assert check_packed(demands, (ends, 16, number(0.1), par), dtype)
    assert check_packed(admits, (ends, 16, par), dtype)


def check_packed(loop, arguments, dtype):
    loop(*arguments)
    (assembly,) = loop.inspect_asm().values()
    for operation in ("mul", "div"):
        packed = re.search(rf"\bv?{operation}p{'d' if dtype == 'float64' else 's'}\b", assembly)
        assert packed, f"{loop.__name__}: no packed {operation}"
    return assembly


def test_time_loop_counts_no_references():
    """Reference counts are atomic additions; numba leaves them in wherever a function branches."""
    network = Network((Segment("a", 90.0, 9), Segment("b", 90.0, 9)), (Node(("a",), ("b",)),))
    solver = Solver(network, device="cpu")
    solver._advance = build_advance(solver.kind)
    solver.advance(1)
    (assembly,) = solver._advance.inspect_asm().values()
    assert not re.search(r"\bNRT_(incref|decref)\b", assembly)
