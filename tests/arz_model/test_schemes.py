"""Orders of accuracy, limits of the model, and the slow solver in plain NumPy."""

import numpy as np
import pytest

from arz_model.network import Network, Segment
from arz_model.parameters import Parameters
from arz_model.reconstruction import make_slopes, make_weno5
from arz_model.reference import dispersion, naive_steps
from arz_model.solver import Solver
from arz_model.target import PLAIN
from arz_model.validation import (
    FOREVER,
    JAMITON_DENSITY,
    JAMITON_H_SLOPE,
    JAMITON_LENGTH,
    JAMITON_SPEED,
    JAMITON_U_SLOPE,
    growth_rate,
    observed_rates,
    road,
    translation_error,
)


@pytest.mark.parametrize(
    ("scheme", "closure", "cells", "order"),
    [
        ("hll", "arz", (100, 200, 400), 0.95),
        ("hll", "garz", (100, 200, 400), 0.95),
        ("van_leer", "garz", (100, 200, 400), 1.9),
        ("minmod", "garz", (200, 400, 800), 1.9),
        ("weno5", "garz", (25, 50, 100), 4.8),
        ("weno5", "arz", (25, 50, 100), 4.8),
    ],
)
def test_observed_order_is_at_least(scheme, closure, cells, order):
    """Exact translation of smooth densities at a common constant speed; mean order over the refinements."""
    errors = [translation_error(scheme, n, closure) for n in cells]
    assert np.mean(observed_rates(errors)) >= order


def test_weno5_is_exact_for_quadratics():
    weno = make_weno5(np.float64, PLAIN)
    edges = np.arange(6.0) - 2.5
    for power in range(3):
        averages = np.diff(edges ** (power + 1)) / (power + 1)
        assert weno(*averages) == pytest.approx(0.5**power, abs=1e-12)
        assert weno(*averages[::-1]) == pytest.approx((-0.5) ** power, abs=1e-12)


@pytest.mark.parametrize("limiter", ["minmod", "van_leer"])
def test_limiters_keep_a_straight_line_and_flatten_an_extremum(limiter):
    slopes = make_slopes(limiter, np.float64, PLAIN)
    assert slopes(0.3, 0.3, -0.5, -0.5) == pytest.approx((0.3, -0.5))
    assert slopes(0.3, -0.2, -0.1, 0.0) == (0.0, 0.0)
    steep, flat = slopes(0.1, 0.4, 0.0, 0.0)
    assert 0.0 < steep <= 0.2
    assert flat == 0.0


@pytest.mark.parametrize(
    ("closure", "ends"), [("garz", "periodic"), ("garz", "transmissive"), ("arz", "periodic"), ("arz", "transmissive")]
)
def test_cpu_kernel_equals_plain_numpy(closure, ends, rng):
    n = 60
    parameters = Parameters(closure, a_mc=0.6)
    solver = road(n, 300.0, 13.0, ends, parameters)
    rho = rng.uniform(0.0, 0.12, (2, n)) * (rng.random((2, n)) > 0.2)
    solver.set_density(0, *rho, rng.uniform(2.0, 13.0, (2, n)))
    q = np.stack([solver.density()[0, 0], solver.momentum()[0, 0], solver.density()[0, 1], solver.momentum()[0, 1]])
    solver.advance(50)
    a = np.array([[1.0, 0.6], [1.0, 1.0]]) / parameters.rho_jam
    steep = (np.array([22.0, 20.0]), np.array([1.5, 2.0])) if closure == "arz" else ()
    expected = naive_steps(q, 50, solver.dt, 5.0, a, np.array([13.0, 13.0]), np.array([5.0, 10.0]), ends, *steep)
    np.testing.assert_allclose(solver.density()[0], expected[0::2], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(solver.momentum()[0], expected[1::2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", [1, 12])
def test_perturbations_grow_as_linear_theory_says(mode):
    """The published set-up: rho0 = 0.6, tau = 5 s, 500 m."""
    k = 2 * np.pi * mode / JAMITON_LENGTH
    expected = dispersion(k, JAMITON_SPEED, 5.0, JAMITON_DENSITY, JAMITON_H_SLOPE, JAMITON_U_SLOPE)
    assert expected.real == pytest.approx({1: 0.034591, 12: 0.146152}[mode], rel=1e-4)
    assert -expected.imag / k == pytest.approx({1: -6.2418, 12: -2.4464}[mode], rel=1e-3)
    measured = growth_rate(mode, t_end=50.0)
    assert measured.real == pytest.approx(expected.real, rel=0.01)
    assert measured.imag == pytest.approx(expected.imag, rel=0.01)


def test_identical_classes_are_one_class_with_a_passive_composition(rng):
    """Total density as one class alone has it; the composition moves with the traffic: it stays within its bounds."""
    n = 80
    one_kind = Parameters(a_mc=1.0, tau_m=8.0, tau_c=8.0)
    two, one = road(n, 400.0, 12.0, "periodic", one_kind), road(n, 400.0, 12.0, "periodic", one_kind)
    total = rng.uniform(0.02, 0.2, n)
    share = rng.uniform(0.1, 0.9, n)
    two.set_density(0, total * share, total * (1 - share))
    one.set_density(0, 0.0, total)
    both = two.density()[0]
    two.advance(60)
    one.advance(60)
    np.testing.assert_allclose(both.sum(axis=0), one.density()[0, 1], rtol=1e-12)
    after = both[0] / both.sum(axis=0)
    assert after.min() >= share.min() - 1e-12
    assert after.max() <= share.max() + 1e-12


def test_one_class_absent_stays_absent(rng):
    solver = road(50, 300.0, 12.0, "periodic", Parameters())
    solver.set_density(0, 0.0, rng.uniform(0.0, 0.2, 50))
    solver.advance(200)
    assert solver.density()[0, 0].max() == 0.0
    assert solver.momentum()[0, 0].max() == 0.0


def test_fast_relaxation_leads_to_lighthill_whitham_richards():
    """tau -> 0 in closure arz: rho_t + (rho V (1 - rho))_x = 0, whose fan is rho = (1 - x/(t V)) / 2."""
    errors = []
    for n in (200, 400):
        parameters = Parameters("arz", 1.0, k_m=1.0, k_c=1.0, tau_m=1e-9, tau_c=1e-9)
        solver = road(n, 1.0, 1.0, "transmissive", parameters, w_max=3.0, wave_max=2.5, dt=0.25 / n)
        x = (np.arange(n) + 0.5) / n - 0.5
        solver.set_density(0, 0.0, np.where(x < 0, 0.9, 0.1))
        solver.advance(round(0.4 / solver.dt))
        exact = np.clip(0.5 * (1 - x / 0.4), 0.1, 0.9)
        errors.append(np.abs(solver.density()[0, 1] - exact).mean())
    assert errors[1] < 0.01
    assert observed_rates(errors)[0] > 0.65


@pytest.mark.parametrize("scheme", ["van_leer", "weno5"])
def test_high_order_keeps_densities_non_negative_through_red_and_green(scheme, rng):
    segment = Segment("road", 300.0, 60, saturation_flow=0.5)
    solver = Solver(Network((segment,)), device="cpu", scheme=scheme)
    n = solver.n_steps(5.0)
    arrived = left = 0.0
    for k in range(24):
        signals = np.array([[[0, n if k // 6 % 2 else 0]]])
        measured = solver.advance(n, rng.poisson(0.2, (1, 5, 1, 2)).astype(float), signals)
        arrived, left = arrived + measured.arrivals.sum(), left + measured.outflow.sum()
        assert solver.density().min() >= -1e-15
        assert np.isfinite(solver.momentum()).all()
        rho_m, rho_c = solver.density()[0]
        assert (rho_m + 0.4 * rho_c).max() < 1.05 * solver.parameters.rho_jam
    assert solver.vehicles().sum() + solver.waiting.sum() + left == pytest.approx(arrived, rel=1e-12)
    assert left > 10.0


@pytest.mark.parametrize("scheme", ["hll", "van_leer", "weno5"])
def test_either_class_alone_moves_as_the_other_would(scheme, rng):
    """With the same parameters both classes are the single-class model; the absent one stays absent."""
    n = 60
    same = Parameters(a_mc=1.0, tau_m=7.0, tau_c=7.0)
    rho, w = rng.uniform(0.0, 0.2, n), rng.uniform(4.0, 12.0, n)
    roads = []
    for c in range(2):
        solver = road(n, 300.0, 12.0, "periodic", same, scheme=scheme)
        densities = [0.0, 0.0]
        densities[c] = rho
        solver.set_density(0, *densities, [w, w])
        solver.advance(60)
        assert solver.density()[0, 1 - c].max() == 0.0
        roads.append(solver)
    np.testing.assert_allclose(roads[0].density()[0, 0], roads[1].density()[0, 1], rtol=1e-13)
    np.testing.assert_allclose(roads[0].momentum()[0, 0], roads[1].momentum()[0, 1], rtol=1e-13)


def test_single_precision_agrees_with_double_and_conserves_mass(rng):
    """Over 10 000 sub-steps on a closed road: mass to 1e-4; over 100, densities to single precision."""
    network = Network((Segment("road", 200.0, 40),))
    rho = rng.uniform(0.0, 0.1, (2, 40))
    solvers = [Solver(network, device="cpu", dtype=dtype) for dtype in ("float64", "float32")]
    closed = np.zeros((1, 1, 2), np.int64)
    for solver in solvers:
        solver.set_density(0, *rho)
        solver.advance(100, signals=closed)
    np.testing.assert_allclose(solvers[1].density(), solvers[0].density(), atol=1e-6)
    before = solvers[1].vehicles()
    solvers[1].advance(10_000, signals=closed)
    np.testing.assert_allclose(solvers[1].vehicles(), before, rtol=1e-4)


def test_relaxation_is_exact_in_uniform_flow():
    """w(t) = V + (w0 - V) exp(-t / tau) in any number of sub-steps."""
    solver = road(20, 200.0, 12.0, "periodic", Parameters(tau_m=FOREVER, tau_c=7.0))
    solver.set_density(0, 0.0, 0.05, [12.0, 6.0])
    solver.advance(solver.n_steps(9.0))
    np.testing.assert_allclose(solver.driver_property()[0, 1], 12.0 - 6.0 * np.exp(-9.0 / 7.0), rtol=1e-12)
