"""What the scalar functions of the model are compiled for: the CPU, the GPU, or plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import extending, njit, types

from arz_model.kernel_cache import keep_on_disk


class Target(NamedTuple):
    """How a scalar function becomes code, and what it may call there beyond arithmetic."""

    jit: Callable[..., Any]
    """Compiles a function."""
    fma: Callable[..., Any]
    """x y + z, rounded once: half the instructions where a product is added, and the same bits on every device."""


intrinsic: Callable[..., Any] = extending.intrinsic


@intrinsic
def multiply_add(context: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z of three numbers of one type, rounded once; for compiled CPU code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return x(x, x, x), generate


@intrinsic
def prefer_widest_vectors(context: Any) -> Any:
    """Have LLVM use the widest vectors of the processor in the function that calls this, not those it prefers.

    It prefers half of the width where the first processors with 64 bytes slowed their clock for them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite checks the names that its own `add` is given against a list that lacks this one.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@keep_on_disk
@njit
def _multiply_add(x, y, z):
    return multiply_add(x, y, z)


def fma_of_scalars(x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once, of the type of x: for plain Python and for numba's simulator of the GPU."""
    return type(x)(_multiply_add(x, y, z))


PLAIN = Target(lambda function: function, fma_of_scalars)
"""Functions as they are, for numbers one by one."""
