"""Roads used by several tests."""

import numpy as np
import pytest

from arz_model.network import Network, Segment
from arz_model.solver import Solver


@pytest.fixture
def make_road():
    """A function that makes a solver for one road; keyword arguments of Segment and of Solver may be mixed."""

    def make(length=500.0, n_cells=50, v_free_m=13.9, v_free_c=12.5, saturation_flow=np.inf, ends="joined", **solver):
        segment = Segment("road", length, n_cells, v_free_m, v_free_c, saturation_flow, ends)
        return Solver(Network((segment,)), **{"device": "cpu", **solver})

    return make


@pytest.fixture
def red():
    """Signals that keep every stop line of a single road closed."""
    return np.zeros((1, 1, 2), np.int64)


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(20240817)
