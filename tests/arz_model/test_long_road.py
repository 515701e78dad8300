"""A road that no cache holds, several sub-steps in each pass over its cells."""

import numpy as np
import pytest

from arz_model import solver
from arz_model.long_road import LONG, SUB_STEPS


@pytest.fixture
def both(make_road, monkeypatch):
    """A function that makes the same roads twice: each sub-step a pass, and several sub-steps in one."""

    def make(**options):
        usual = make_road(**options)
        monkeypatch.setattr(solver, "LONG", 0)
        in_passes = make_road(**options)
        assert (usual.kind.sub_steps, in_passes.kind.sub_steps) == (1, SUB_STEPS)
        return usual, in_passes

    return make


@pytest.mark.parametrize(("closure", "dtype"), [("garz", "float64"), ("arz", "float32")])
@pytest.mark.parametrize("n_cells", [300, 700])
def test_passes_do_not_change_a_bit(both, closure, dtype, n_cells):
    """Of cells, entrance queue and observables: a road of one strip and of more, intervals in parts of a pass.

    The stop line opens and closes inside a pass, and demand changes there; the entrance takes less than arrives.
    """
    parameters = solver.Parameters(closure=closure)
    roads = both(n_cells=n_cells, length=10.0 * n_cells, dtype=dtype, parameters=parameters, n_roads=2)
    rng = np.random.default_rng(5)
    rho = rng.uniform(0.0, 0.1, (2, n_cells))
    rho[:, : n_cells // 8] = 0.0
    arrivals = rng.uniform(0.0, 1.5, (2, 3, 1, 2)).astype(dtype)
    for road in roads:
        road.set_density(0, *rho)
    for n_steps, window in ((1, (0, 1)), (5, (2, 4)), (SUB_STEPS, (0, 0)), (61, (7, 44))):
        signals = np.array([[window], [(0, n_steps)]])
        usual, in_passes = (road.advance(n_steps, arrivals, signals) for road in roads)
        np.testing.assert_array_equal(in_passes.totals, usual.totals)
        for name, of_usual in roads[0].state_dict().items():
            np.testing.assert_array_equal(roads[1].state_dict()[name], of_usual)
    assert roads[0].waiting.min() > 0.0
    assert usual.outflow[0].sum() < usual.outflow[1].sum()


def test_only_a_long_road_that_nothing_couples_is_advanced_in_passes(make_road):
    assert make_road(n_cells=LONG, length=10.0 * LONG).kind.sub_steps == SUB_STEPS
    assert make_road(n_cells=LONG // 2, length=5.0 * LONG).kind.sub_steps == 1
    for options in ({"ends": "periodic"}, {"ends": "transmissive"}, {"clamp": True}, {"scheme": "minmod"}):
        assert make_road(n_cells=LONG, length=10.0 * LONG, **options).kind.sub_steps == 1
