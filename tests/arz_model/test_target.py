"""What compiled functions may call beyond arithmetic: judged by exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from arz_model.target import PLAIN, multiply_add


@njit
def compiled(x, y, z):
    return multiply_add(x, y, z)


def numbers(width):
    return st.floats(-1e3, 1e3, width=width).filter(lambda x: x == 0.0 or abs(x) > 1e-6)


@pytest.mark.parametrize("function", [PLAIN.fma, compiled], ids=["plain", "compiled"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@settings(deadline=None)
@given(data=st.data())
def test_multiply_add_is_the_number_nearest_to_the_exact_result(dtype, function, data):
    x, y, z = (dtype(data.draw(numbers(np.finfo(dtype).bits))) for _ in range(3))
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    found = dtype(function(x, y, z))
    error = abs(Fraction(float(found)) - exact)
    for towards in (-np.inf, np.inf):
        assert error <= abs(Fraction(float(np.nextafter(found, dtype(towards)))) - exact)


def test_multiply_add_differs_from_a_product_and_a_sum():
    """(1 + e)(1 - e) - 1 = -e**2, which a rounded product loses."""
    e = 2.0**-30
    assert PLAIN.fma(1.0 + e, 1.0 - e, -1.0) == -(e**2)
    assert (1.0 + e) * (1.0 - e) - 1.0 == 0.0
