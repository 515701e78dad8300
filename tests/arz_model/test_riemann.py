"""Riemann problems against exact solutions, and the eigenvalues of the two-class system."""

import numpy as np
import pytest

from arz_model.parameters import Parameters
from arz_model.physics import closure_key, make_closure, parameter_vector
from arz_model.reference import CASES, Riemann, exact_riemann, middle_density, shock_speed
from arz_model.riemann import make_riemann
from arz_model.target import PLAIN
from arz_model.validation import garz_riemann_error, observed_rates, riemann_error, run_riemann


def plain(function):
    """Scalar functions uncompiled."""
    return function


@pytest.mark.parametrize(
    ("name", "gamma", "density"),
    [
        ("shock+contact", 1.0, 0.7),
        ("shock+contact", 2.0, 0.7),
        ("rarefaction+contact", 1.0, 0.4),
        ("rarefaction+contact", 2.0, 0.489897949),
        ("contact", 1.0, 0.8),
        ("contact", 2.0, 0.8),
        ("red light", 1.0, 0.9),
        ("red light", 2.0, 0.812403840),
        ("vacuum", 1.0, 0.0),
        ("vacuum", 2.0, 0.0),
    ],
)
def test_exact_solution_has_the_published_middle_state(name, gamma, density):
    assert middle_density(CASES[name], gamma) == pytest.approx(density, abs=1e-9)


def test_exact_solution_has_the_published_wave_speeds():
    assert shock_speed(CASES["shock+contact"], 2.0) == pytest.approx(-0.1)
    assert shock_speed(CASES["red light"], 1.0) == pytest.approx(-0.4)
    assert shock_speed(CASES["red light"], 2.0) == pytest.approx(-0.484961536, abs=1e-9)
    rho, _ = exact_riemann(CASES["rarefaction+contact"], 2.0, np.array([-1.19, -1.17, 0.01, 0.03]))
    assert rho[0] == 0.8
    assert 0.79 < rho[1] < 0.8
    assert rho[2] > rho[3] == pytest.approx(0.489897949, abs=1e-9)
    rho, _ = exact_riemann(CASES["vacuum"], 1.0, np.array([-0.11, 0.49, 0.51, 0.89, 0.91]))
    assert rho.tolist() == [0.3, pytest.approx(0.005), 0.0, 0.0, 0.4]


HLL_ERROR_AT_800 = {
    "shock+contact": 3.09e-3,
    "rarefaction+contact": 1.64e-3,
    "contact": 3.11e-2,
    "red light": 6.53e-4,
    "vacuum": 2.96e-3,
}
"""Published errors of first-order HLL, exponent 1."""


@pytest.mark.parametrize(
    ("name", "gamma", "rate"),
    [
        ("shock+contact", 1.0, 0.45),
        ("shock+contact", 2.0, 0.45),
        ("rarefaction+contact", 1.0, 0.65),
        ("rarefaction+contact", 2.0, 0.45),
        ("contact", 1.0, 0.45),
        ("contact", 2.0, 0.45),
        ("red light", 1.0, 0.9),
        ("red light", 2.0, 0.9),
        ("vacuum", 1.0, 0.65),
        ("vacuum", 2.0, 0.65),
    ],
)
def test_hll_converges_to_the_exact_solution(name, gamma, rate):
    """The rate of the slowest wave: shocks 0.9, fans 0.65, contacts 0.45 (with exponent 1 the fan's has no jump)."""
    errors = [riemann_error(name, gamma, n) for n in (400, 800)]
    assert errors[1] <= 1.2 * HLL_ERROR_AT_800[name]
    assert observed_rates(errors)[0] >= rate


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_hll_converges_slowly_onto_thin_traffic_and_not_at_all_onto_standing(gamma):
    """Published: rate 0.3; L1 error 0.16 at 100, 400 and 1600 cells. Why red is a flux of zero and no ghost vehicle."""
    errors = [riemann_error("onto thin traffic", gamma, n) for n in (400, 800, 1600)]
    assert errors[2] < errors[1] < errors[0] < 0.11
    assert observed_rates(errors)[1] >= 0.3
    errors = [riemann_error("onto thin standing traffic", gamma, n) for n in (100, 400, 1600)]
    np.testing.assert_allclose(errors, 0.16, rtol=0.05)


def test_clamp_keeps_the_speed_across_a_contact():
    """Averaging does not: the speed overshoots by a quarter. With the clamp it is kept to round-off."""
    _, _, v, _, exact = run_riemann("contact", 1.0, 200)
    assert np.abs(v - exact).max() > 0.08
    _, rho, v, exact_rho, exact = run_riemann("contact", 1.0, 200, clamp=True)
    assert np.abs(v - exact).max() <= 1e-12
    assert np.abs(rho - exact_rho).mean() < 1.2 * 1.6e-2


@pytest.mark.parametrize("name", ["shock+contact", "rarefaction+contact", "red light"])
def test_clamp_does_no_harm_to_shocks_and_fans(name):
    assert riemann_error(name, 2.0, 400, clamp=True) <= 1.05 * riemann_error(name, 2.0, 400)


@pytest.mark.parametrize(
    ("case", "w_r", "rate"),
    [
        (Riemann(0.05, 10.0, 0.15, 4.0), 10.0, 0.6),
        (Riemann(0.2, 2.0, 0.05, 10.0), 12.5, 0.6),
        (Riemann(0.2, 4.0, 0.05, 4.0), 5.0, 0.33),
    ],
    ids=["shock", "rarefaction", "contact"],
)
def test_closure_g_converges_to_its_own_exact_solution(case, w_r, rate):
    errors = [garz_riemann_error(case, w_r, n, 20.0) for n in (400, 800)]
    assert errors[1] < 0.05
    assert observed_rates(errors)[0] >= rate


def random_states(rng, n, parameters):
    """Densities with every speed positive, away from the kinks of the closure."""
    a = np.array([[parameters.a_mm, parameters.a_mc], [parameters.a_cm, parameters.a_cc]]) / parameters.rho_jam
    rho = rng.uniform(0.01, 0.9, (n, 2)) * parameters.rho_jam / a.sum(axis=1).max() / parameters.rho_jam
    return rho, rng.uniform(22.0, 30.0, (n, 2))


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(),
        Parameters(a_mc=0.7, a_cm=1.3),
        Parameters(closure="arz"),
        Parameters("arz", gamma_m=2.0, gamma_c=3.0),
    ],
    ids=["garz", "garz-asymmetric", "arz", "arz-steeper"],
)
def test_wave_bounds_enclose_the_eigenvalues_of_the_flux(parameters, rng):
    """Eigenvalues of finite-difference Jacobians of the flux in conserved variables, 10 000 random states."""
    closure = make_closure(closure_key(parameters), np.float64, PLAIN)
    par = parameter_vector(parameters, 30.0)

    def flux(q):
        rho_m, y_m, rho_c, y_c = q
        w_m, w_c = y_m / rho_m, y_c / rho_c
        v_m, v_c = closure.speeds(rho_m, rho_c, w_m, w_c, par)
        return np.array([rho_m * v_m, y_m * v_m, rho_c * v_c, y_c * v_c])

    rho, w = random_states(rng, 10_000, parameters)
    jacobians, bounds, speeds = np.empty((10_000, 4, 4)), np.empty((10_000, 2)), np.empty((10_000, 2))
    for k in range(10_000):
        q = np.array([rho[k, 0], rho[k, 0] * w[k, 0], rho[k, 1], rho[k, 1] * w[k, 1]])
        for j in range(4):
            h = 1e-6 * q[j]
            shift = np.zeros(4)
            shift[j] = h
            jacobians[k, :, j] = (flux(q + shift) - flux(q - shift)) / (2 * h)
        speeds[k] = closure.speeds(*rho[k], *w[k], par)
        bounds[k] = closure.wave_bounds(*rho[k], *w[k], *speeds[k], par)
    eigenvalues = np.linalg.eigvals(jacobians)
    assert np.abs(eigenvalues.imag).max() <= 1e-3
    real = np.sort(eigenvalues.real, axis=1)
    assert (real[:, -1] <= speeds.max(axis=1) + 1e-3).all()
    assert (bounds[:, 0] <= real[:, 0] + 1e-3).all()
    np.testing.assert_allclose(bounds[:, 1], speeds.max(axis=1))
    gamma, k = np.array([parameters.gamma_m, parameters.gamma_c]), np.array([parameters.k_m, parameters.k_c])
    occupancies = rho @ np.array(par[:4]).reshape(2, 2).T
    slopes = w if parameters.closure == "garz" else gamma * k * occupancies ** (gamma - 1.0)
    a = speeds - slopes * rho * np.array([par[0], par[3]])
    product = slopes.prod(axis=1) * rho.prod(axis=1) * par[1] * par[2]
    root = np.sqrt((a[:, 0] - a[:, 1]) ** 2 / 4 + product)
    expected = np.sort(np.column_stack([speeds, a.mean(axis=1) + root, a.mean(axis=1) - root]), axis=1)
    np.testing.assert_allclose(real, expected, atol=1e-3)


def test_hll_flux_is_consistent(rng):
    """F(q, q) = f(q), also when all waves go one way."""
    riemann = make_riemann(np.float64, PLAIN)
    for _ in range(200):
        q, v = rng.uniform(0.01, 1.0), rng.uniform(0.0, 20.0)
        s_l = v - rng.uniform(0.0, 30.0)
        *waves, scale = riemann.hll_waves(s_l, v + 1e-9)
        assert q * sum(riemann.hll_rates(v, v, *waves)) * scale == pytest.approx(q * v, rel=1e-9)
