"""The solver on one road: signals, conservation, invariant region, determinism."""

import numpy as np
import pytest

from arz_model import step_cpu
from arz_model.network import BEGIN, Network, Segment
from arz_model.parameters import ParameterError, Parameters
from arz_model.physics import closure_key, make_closure, parameter_vector
from arz_model.reference import dispersion
from arz_model.solver import Solver
from arz_model.target import PLAIN


def fill_randomly(solver, rng, most=0.9):
    """Random densities with empty cells and jammed cells; w anywhere between standing still and w_max."""
    for s, segment in enumerate(solver.network.segments):
        n = segment.n_cells
        rho = rng.uniform(0.0, 1.0, (2, n)) * solver.parameters.rho_jam * most / 2
        rho[:, rng.random(n) < 0.2] = 0.0
        rho[0, rng.random(n) < 0.2] = 0.0
        solver.set_density(s, rho[0], rho[1], rng.uniform(0.2, 1.0, (2, n)) * solver.w_max)


def flows(solver, m, c):
    return np.tile(np.array([m, c], solver.dtype), (solver.n_roads, 1, 1, 1))


def test_red_stops_the_outflow_exactly(make_road, red):
    road = make_road()
    road.set_density(0, 0.08, 0.04)
    before = road.vehicles()
    measured = road.advance(road.n_steps(60), signals=red)
    assert measured.outflow.max() == 0.0
    np.testing.assert_allclose(road.vehicles(), before, rtol=1e-14)
    assert measured.queue.sum() > 0.0


def test_green_lets_traffic_out_from_the_sub_step_it_begins(make_road):
    road = make_road()
    road.set_density(0, 0.1, 0.05)
    n = road.n_steps(10)
    quarter = road.advance(n, signals=np.array([[[3 * n // 4, n]]])).outflow.sum()
    road.set_density(0, 0.1, 0.05)
    whole = road.advance(n).outflow.sum()
    assert 0.0 < quarter < 0.3 * whole


def test_queue_forms_at_red_from_the_stop_line_backwards(make_road, red):
    road = make_road()
    arrivals = flows(road, 0.12, 0.12)
    road.advance(road.n_steps(120), arrivals)
    free_flow = road.density()[0].sum(axis=0).copy()
    road.advance(road.n_steps(40), arrivals, red)
    total = road.density()[0].sum(axis=0)
    assert total[-1] > 0.75 * road.parameters.rho_jam
    assert total[-1] > 5 * free_flow[-1]
    assert road.speed()[0, :, -1].max() < 1.0
    np.testing.assert_allclose(total[:10], free_flow[:10], rtol=0.05)


@pytest.mark.parametrize("saturation_flow", [0.3, 0.5])
def test_queue_discharges_at_the_saturation_flow(make_road, red, saturation_flow):
    road = make_road(saturation_flow=saturation_flow)
    road.set_density(0, 0.1, 0.1)
    road.advance(road.n_steps(30), signals=red)
    measured = road.advance(road.n_steps(30))
    assert measured.outflow.sum() == pytest.approx(30 * saturation_flow, rel=1e-9)


def test_unlimited_queue_discharges_at_the_peak_of_the_flow_curve(make_road, red):
    road = make_road(v_free_m=12.0, v_free_c=12.0)
    road.set_density(0, 0.0, 0.25)
    measured = road.advance(road.n_steps(30))
    assert measured.outflow[0, 0, 1] == pytest.approx(30 * 12.0 * 0.25 / 4, rel=1e-3)
    assert measured.outflow[0, 0, 0] == 0.0


@pytest.mark.parametrize("closure", ["garz", "arz"])
def test_cars_and_motorcycles_are_conserved_on_a_closed_road(closure, make_road, red, rng):
    road = make_road(length=200.0, n_cells=40, parameters=Parameters(closure))
    fill_randomly(road, rng)
    before = road.vehicles()
    road.advance(10_000, signals=red)
    np.testing.assert_allclose(road.vehicles(), before, rtol=1e-12)


def test_vehicles_are_conserved_on_an_open_road_under_changing_signals(make_road, rng):
    road = make_road(length=300.0, n_cells=60, saturation_flow=0.5)
    n = road.n_steps(5)
    arrived = left = np.zeros(2)
    for k in range(10_000 // n):
        signals = np.array([[[0, n if k // 6 % 2 else 0]]])
        measured = road.advance(n, rng.poisson(0.2, (1, 5, 1, 2)).astype(float), signals)
        arrived = arrived + measured.arrivals[0, 0]
        left = left + measured.outflow[0, 0]
    held = road.vehicles()[0] + road.waiting[0, 0]
    np.testing.assert_allclose(held + left, arrived, rtol=1e-12)
    assert left.min() > 50.0


def test_no_vehicle_vanishes_when_demand_exceeds_supply(make_road, red):
    road = make_road(length=100.0, n_cells=20)
    arrivals = flows(road, 0.6, 0.6)
    measured = road.advance(road.n_steps(300), arrivals, red)
    held = road.vehicles()[0] + road.waiting[0, 0]
    np.testing.assert_allclose(held, measured.arrivals[0, 0], rtol=1e-12)
    assert road.waiting.sum() > 300.0
    rho_m, rho_c = road.density()[0]
    assert (rho_m + 0.4 * rho_c).max() <= road.parameters.rho_jam * (1 + 1e-9)
    assert measured.entrance.sum() > 0.0


def test_entrance_queue_empties_when_demand_falls(make_road):
    road = make_road()
    road.advance(road.n_steps(60), flows(road, 1.0, 1.0))
    assert road.waiting.sum() > 10.0
    measured = road.advance(road.n_steps(300))
    assert road.waiting.sum() == 0.0
    assert measured.inflow.sum() > 10.0


def test_invariant_region_is_kept(make_road, red, rng):
    """Non-negative densities, bounded occupancy, w between its least initial and greatest initial or free value."""
    for trial in range(100):
        road = make_road(length=200.0, n_cells=32)
        fill_randomly(road, rng)
        least = min(road.driver_property().min(), 12.5)
        for part in range(4):
            closed = red if (trial + part) % 2 else None
            road.advance(40, flows(road, *rng.uniform(0, 0.5, 2)), closed)
            rho_m, rho_c = road.density()[0]
            assert min(rho_m.min(), rho_c.min()) >= -1e-15
            assert (rho_m + 0.4 * rho_c).max() <= road.parameters.rho_jam * (1 + 1e-9)
            present = road.density() > 1e-9
            w = road.driver_property()[present]
            assert w.max() <= road.w_max * (1 + 1e-12)
            assert w.min() >= least * (1 - 1e-12)


@pytest.mark.parametrize("closure", ["garz", "arz"])
def test_red_for_an_hour_fills_the_road_to_jam_density_and_no_further(closure, make_road, red):
    road = make_road(length=200.0, n_cells=40, parameters=Parameters(closure))
    road.advance(road.n_steps(3600), flows(road, 0.0, 0.3), red)
    rho_c = road.density()[0, 1]
    np.testing.assert_allclose(rho_c, road.parameters.rho_jam, rtol=2e-2)
    assert rho_c.max() <= road.parameters.rho_jam * (1 + 1e-12)
    assert road.density().min() >= 0.0
    assert np.isfinite(road.momentum()).all()


def test_jam_discharges_into_an_empty_road(make_road, red):
    road = make_road(length=400.0, n_cells=80)
    rho = np.where(np.arange(80) < 40, road.parameters.rho_jam, 0.0)
    road.set_density(0, 0.0, rho)
    road.advance(road.n_steps(20), signals=red)
    moved = road.density()[0, 1]
    assert moved[60] > 0.01
    assert moved[30] < 0.9 * road.parameters.rho_jam


def test_motorcycles_pass_standing_cars(make_road, red):
    road = make_road()
    road.advance(road.n_steps(120), flows(road, 0.1, 0.15), red)
    rho_m, rho_c = road.density()[0]
    assert rho_m[-1] > rho_c[-1]
    assert rho_m[-1] + rho_c[-1] > road.parameters.rho_jam


def test_delay_is_travel_time_minus_free_flow_time(make_road):
    """Sum of rho (1 - v / v_free) over space and time = vehicle hours - vehicle kilometres / v_free."""
    road = make_road(length=400.0, n_cells=80)
    n_in = 0.0
    total_time = total_delay = 0.0
    for k in range(120):
        n = road.n_steps(10)
        closed = np.array([[[0, n if k % 6 > 2 or k > 24 else 0]]])
        measured = road.advance(n, flows(road, 0.0, 0.15 if k < 24 else 0.0), closed)
        n_in += measured.inflow[0, 0, 1]
        total_time += measured.vehicles[0, 0, 1]
        total_delay += measured.delay[0, 0, 1]
    assert road.vehicles().sum() < 1e-9
    assert total_delay == pytest.approx(total_time - n_in * 400.0 / 12.5, rel=1e-9)
    assert total_delay > 0.2 * total_time


def test_a_road_does_not_depend_on_its_batch_nor_on_threads(rng):
    network = Network((Segment("road", 300.0, 45),))
    single = Solver(network, device="cpu")
    batch = Solver(network, device="cpu", n_roads=11)
    threaded = Solver(network, device="cpu", n_roads=11, n_threads=3)
    rho = rng.uniform(0, 0.1, (11, 2, 45))
    arrivals = rng.uniform(0, 0.3, (11, 2, 1, 2))
    n = single.n_steps(20)
    signals = rng.integers(0, n, (11, 1, 2))
    for many in (batch, threaded):
        many.set_density(0, rho[:, 0], rho[:, 1])
        measured = many.advance(n, arrivals, signals)
        for b in range(11):
            single.clear()
            single.set_density(0, rho[b, 0], rho[b, 1])
            alone = single.advance(n, arrivals[b : b + 1], signals[b : b + 1])
            np.testing.assert_array_equal(single.density()[0], many.density()[b])
            np.testing.assert_array_equal(single.momentum()[0], many.momentum()[b])
            np.testing.assert_array_equal(single.waiting[0], many.waiting[b])
            np.testing.assert_array_equal(alone.totals[0], measured.totals[b])


def test_intervals_compose(make_road, rng):
    """Ten seconds at once are two times five seconds, bit for bit."""
    at_once, in_parts = make_road(), make_road()
    for road in (at_once, in_parts):
        road.set_density(0, np.linspace(0, 0.1, 50), np.linspace(0.1, 0, 50))
    n = at_once.n_steps(10)
    at_once.advance(n, flows(at_once, 0.2, 0.1))
    for _ in range(2):
        in_parts.advance(n // 2, flows(in_parts, 0.2, 0.1))
    np.testing.assert_array_equal(at_once.density(), in_parts.density())
    np.testing.assert_array_equal(at_once.waiting, in_parts.waiting)


def test_state_dict_continues_bit_for_bit(make_road, rng):
    road, other = make_road(), make_road()
    fill_randomly(road, rng)
    road.advance(77, flows(road, 0.3, 0.3))
    other.load_state_dict(road.state_dict())
    for solver in (road, other):
        solver.advance(133, flows(solver, 0.3, 0.3))
    np.testing.assert_array_equal(road.density(), other.density())
    np.testing.assert_array_equal(road.momentum(), other.momentum())
    assert road.time == other.time


def test_state_of_another_shape_is_refused(make_road):
    with pytest.raises(ValueError, match=r"saved 'q' is float64\[1, 4, 80\], this solver needs float64\[1, 4, 128\]"):
        make_road(n_cells=100).load_state_dict(make_road(n_cells=50).state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a_mc": 1.5}, "anisotropy"),
        ({"rho_jam": -1.0}, "rho_jam must be positive; got -1.0"),
        ({"closure": "greenshields"}, "closure must be one of garz, arz"),
        ({"gamma_m": 1.7}, "gamma_m must be 1, 1.5, 2 or 3; got 1.7"),
    ],
)
def test_impossible_parameters_are_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        Parameters(**change)


@pytest.mark.parametrize("closure", ["garz", "arz"])
def test_drivers_stand_at_the_jam_density_of_their_class_and_move_below_it(closure):
    parameters = Parameters(closure, a_mm=0.8, a_mc=0.3)
    speeds = make_closure(closure_key(parameters), np.float64, PLAIN).speeds
    par = parameter_vector(parameters, 20.0)
    for w in (5.0, 12.0, 20.0):
        m, c = parameters.jam_densities(w, w)
        assert speeds(m, 0.0, w, w, par)[0] == pytest.approx(0.0, abs=1e-12 * w)
        assert speeds(0.0, c, w, w, par)[1] == pytest.approx(0.0, abs=1e-12 * w)
        assert speeds(0.99 * m, 0.0, w, w, par)[0] > 0.0
        assert speeds(0.0, 0.99 * c, w, w, par)[1] > 0.0
        assert m <= parameters.rho_jam / 0.8 * (1 + 1e-12)
        assert c <= parameters.rho_jam * (1 + 1e-12)


@pytest.mark.parametrize("gamma", [1.5, 2.0, 3.0])
def test_perturbations_grow_below_the_reported_occupancy_and_decay_above_it(gamma):
    """Against the roots of the linearised equations, over wave lengths from 20 m to 20 km."""
    parameters = Parameters("arz", gamma_c=gamma)
    v_free = 15.0
    threshold = parameters.stable_from(v_free, v_free)[1]
    assert 0.0 < threshold < 1.0

    def fastest_growth(o):
        rho, h = o * parameters.rho_jam, parameters.k_c / parameters.rho_jam
        slope = gamma * h * o ** (gamma - 1.0)
        wave_numbers = 2 * np.pi / np.geomspace(20.0, 20e3, 30)
        return max(
            dispersion(k, v_free * (1 - o), 10.0, rho, slope, -v_free / parameters.rho_jam).real for k in wave_numbers
        )

    assert fastest_growth(0.95 * threshold) > 1e-9
    assert fastest_growth(min(1.0, 1.05 * threshold)) < 1e-12
    assert Parameters("arz", gamma_c=1.0).stable_from(v_free, v_free)[1] == 0.0
    assert Parameters("arz", gamma_c=1.0, k_c=10.0).stable_from(v_free, v_free)[1] == np.inf
    assert Parameters().stable_from(v_free, v_free) == (0.0, 0.0)


def test_jams_that_would_overfill_the_road_are_reported(make_road, caplog):
    """The published coefficients: motorcycles at 50 km/h would stand far above 250 veh/km."""
    with caplog.at_level("INFO", "arz_model.solver"):
        make_road(parameters=Parameters("arz", k_m=2.778))
    texts = [record.getMessage() for record in caplog.records]
    assert any("unstable below occupancies" in text for text in texts)
    assert any("class m stands at 0.731 veh/m, above its jam density of 0.25" in text for text in texts)
    assert not any("class c stands" in text for text in texts)


def test_a_step_that_breaks_the_bound_is_refused(make_road):
    with pytest.raises(ParameterError, match=r"waves of 13\.9 m/s cross more of a cell of 10 m"):
        make_road(dt=1.0)


@pytest.mark.parametrize("scheme", ["hll", "van_leer"])
def test_strips_do_not_change_a_bit(make_road, scheme):
    """A road in one strip and the same in five, the last of them ragged."""
    whole, parted = make_road(n_cells=300, scheme=scheme), make_road(n_cells=300, scheme=scheme)
    for solver, cells in ((whole, 320), (parted, 64)):
        solver.kind = solver.kind._replace(strip_stride=cells + 2 * BEGIN)
        solver._work = [solver._work_space()]
        solver._advance = step_cpu.build_advance(solver.kind)
    rho = np.random.default_rng(3).uniform(0.0, 0.1, (2, 300))
    for solver in (whole, parted):
        solver.set_density(0, *rho)
        solver.advance(50, flows(solver, 0.2, 0.3))
    assert np.abs(whole.density() - rho).max() > 0.01
    np.testing.assert_array_equal(parted.state_dict()["q"], whole.state_dict()["q"])
    np.testing.assert_array_equal(parted.measured.totals, whole.measured.totals)
