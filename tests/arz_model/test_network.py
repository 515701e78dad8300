"""Nodes: conservation, priorities, turning ratios, spill-back; and a whole network in one call."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arz_model.network import Network, Node, Segment
from arz_model.parameters import ParameterError, Parameters
from arz_model.physics import closure_key, make_closure, parameter_vector
from arz_model.solver import Solver
from arz_model.target import PLAIN

FOREVER = math.inf


def segment(name, **kwargs):
    return Segment(name, **{"length": 200.0, "n_cells": 20, "v_free_m": 12.0, "v_free_c": 12.0, **kwargs})


def solve(segments, nodes, **kwargs):
    return Solver(Network(tuple(segments), tuple(nodes)), device="cpu", **kwargs)


def arrivals(solver, *flows):
    """(m, c) for each entrance [veh/s]."""
    return np.array([[list(flows)]], solver.dtype)


def held(solver):
    return solver.vehicles()[0] + solver.waiting[0].sum(axis=0)


def test_one_to_one_node_is_an_uninterrupted_road(rng):
    whole = solve([segment("whole", length=400.0, n_cells=40)], [])
    halves = solve([segment("a"), segment("b")], [Node(("a",), ("b",))])
    for k in range(30):
        n = whole.n_steps(5.0)
        flow = (0.25, 0.2) if k < 20 or k > 27 else (0.0, 0.05)
        whole.advance(n, arrivals(whole, flow))
        measured = halves.advance(n, arrivals(halves, flow))
        assert measured.outflow[0, 0] == pytest.approx(measured.inflow[0, 1], rel=1e-12)
    joined = np.concatenate([halves.density("a")[0], halves.density("b")[0]], axis=1)
    np.testing.assert_allclose(joined, whole.density()[0], atol=2e-3)
    assert joined.max() > 0.02


def test_merge_shares_a_short_supply_by_priority():
    segments = [segment("a"), segment("b"), segment("out", saturation_flow=0.3)]
    solver = solve(segments, [Node(("a", "b"), ("out",), priorities=(2.0, 1.0))])
    for _ in range(40):
        measured = solver.advance(solver.n_steps(30.0), arrivals(solver, (0.0, 0.4), (0.0, 0.4)))
    a, b, out = measured.outflow[0, :, 1]
    assert out == pytest.approx(9.0, rel=1e-6)
    assert a / b == pytest.approx(2.0, rel=1e-3)


def test_priority_that_is_not_used_goes_to_the_others():
    segments = [segment("a"), segment("b"), segment("out", saturation_flow=0.3)]
    solver = solve(segments, [Node(("a", "b"), ("out",), priorities=(2.0, 1.0))])
    for _ in range(40):
        measured = solver.advance(solver.n_steps(30.0), arrivals(solver, (0.0, 0.05), (0.0, 0.4)))
    a, b, _ = measured.outflow[0, :, 1]
    assert a == pytest.approx(1.5, rel=1e-3)
    assert b == pytest.approx(7.5, rel=1e-3)


def test_diverge_splits_by_the_turning_ratios():
    solver = solve(
        [segment("in"), segment("left"), segment("right")], [Node(("in",), ("left", "right"), ((0.3, 0.7),))]
    )
    measured = solver.advance(solver.n_steps(100.0), arrivals(solver, (0.1, 0.2)))
    np.testing.assert_allclose(measured.inflow[0, 1], 0.3 * measured.outflow[0, 0], rtol=1e-12)
    np.testing.assert_allclose(measured.inflow[0, 2], 0.7 * measured.outflow[0, 0], rtol=1e-12)
    assert measured.outflow[0, 0].min() > 1.0


def test_a_blocked_outlet_holds_the_inlet_and_spills_back():
    """First in, first out: behind those who cannot turn left nobody turns right either."""
    solver = solve(
        [segment("in"), segment("left"), segment("right")], [Node(("in",), ("left", "right"), ((0.5, 0.5),))]
    )
    closed = np.zeros((1, 3, 2), np.int64)
    n = solver.n_steps(600.0)
    closed[0, [0, 2], 1] = n
    measured = solver.advance(n, arrivals(solver, (0.0, 0.3)), closed)
    assert measured.outflow[0, 1, 1] == 0.0
    assert solver.density("left")[0, 1].min() > 0.9 * solver.parameters.rho_jam
    assert solver.waiting.sum() > 25.0
    late = solver.advance(solver.n_steps(60.0), arrivals(solver, (0.0, 0.3)), np.minimum(closed, solver.n_steps(60.0)))
    assert late.outflow[0, 2, 1] < 0.5
    assert held(solver)[1] + measured.outflow[0, 2, 1] + late.outflow[0, 2, 1] == pytest.approx(198.0, rel=1e-12)


def test_general_node_conserves_vehicles_and_what_drivers_are_like(rng):
    """3 -> 2 with signals: every vehicle that leaves an inlet enters an outlet, and brings its w along."""
    names_in, names_out = ("a", "b", "c"), ("d", "e")
    segments = [segment(n) for n in names_in + names_out]
    node = Node(names_in, names_out, ((0.2, 0.8), (0.5, 0.5), (1.0, 0.0)), (1.0, 2.0, 3.0))
    solver = solve(segments, [node], parameters=Parameters(tau_m=FOREVER, tau_c=FOREVER))
    for name in names_in:
        solver.set_density(name, *rng.uniform(0.0, 0.1, (2, 20)), rng.uniform(4.0, 12.0, (2, 20)))
    closed = np.zeros((1, 5, 2), np.int64)
    n = solver.n_steps(20.0)
    closed[0, :3, 1] = n

    def momentum():
        return sum(solver.momentum(s)[0].sum(axis=1) for s in range(5)) * 10.0

    vehicles, before = solver.vehicles()[0], momentum()
    measured = solver.advance(n, signals=closed)
    assert measured.outflow[0, :3].sum() > 5.0
    np.testing.assert_allclose(solver.vehicles()[0], vehicles, rtol=1e-12)
    np.testing.assert_allclose(momentum(), before, rtol=1e-12)
    np.testing.assert_allclose(measured.inflow[0, 3:].sum(axis=0), measured.outflow[0, :3].sum(axis=0), rtol=1e-12)


def test_flows_never_exceed_what_inlets_send_nor_what_outlets_take(rng):
    """Over random states of a 3 -> 3 node: 0 <= out <= demand, in <= supply, ratios kept, nothing lost."""
    from arz_model.cells import Kind
    from arz_model.ends import CAPACITY, DEMAND, FREE, IN, LAST, N_END_ROWS, OUT, ROOM, SPEED, make_ends
    from arz_model.junction import make_junction
    from arz_model.physics import ClosureKey

    kind = Kind(ClosureKey("garz", 1.0, 1.0), "float64", "hll", False, True, True, 272, 272, 8)
    of_road = make_ends(kind, PLAIN, np.int64)
    junction = make_junction(kind.width, np.float64, PLAIN)
    par = (4.0, 1.6, 4.0, 4.0, 0.0, 0.0, 12.0)
    nodes = np.array([[0, 0, 3, 0]])
    inlets, outlets = np.array([0, 1, 2, -1]), np.array([3, 4, 5, -1])
    bound = 0
    for _ in range(300):
        rows = np.zeros((N_END_ROWS, kind.width))
        rows[FREE : FREE + 2] = [[12.0], [10.0]]
        rows[CAPACITY, :3] = rng.choice([0.0, 0.3, np.inf], 3)
        rho = rng.uniform(0.0, 0.12, (2, 3)) * (rng.random((2, 3)) > 0.2)
        rows[LAST : LAST + 4 : 2, :3], rows[LAST + 1 : LAST + 4 : 2, :3] = rho, rho * rows[FREE : FREE + 2, :3]
        rows[SPEED : SPEED + 2, 3:6] = rng.uniform(0.0, 4.0, (2, 3)) * (rng.random(3) > 0.2)
        ratios = rng.dirichlet(np.ones(3), 3)
        priorities = rng.uniform(0.5, 2.0, 3)
        ends = rows.reshape(-1)
        for s in range(6):
            of_road.demand(ends, s, 0.5, par)
        for c in range(2):
            junction.mix(0, c, ends, nodes, inlets, outlets, ratios.ravel())
        for s in range(6):
            of_road.admit(ends, s, par)
        for c in range(2):
            junction.join(0, c, ends, nodes, inlets, outlets, ratios.ravel(), priorities)
        out, demand = rows[OUT : OUT + 2, :3].T, rows[DEMAND : DEMAND + 2, :3].T
        entered, room = rows[IN : IN + 2, 3:6].T, rows[ROOM : ROOM + 2, 3:6].T
        assert (out >= 0.0).all()
        assert (out <= demand * (1 + 1e-12)).all()
        np.testing.assert_allclose(entered, ratios.T @ out, atol=1e-15)
        assert (entered <= room * (1 + 1e-12) + 1e-15).all()
        bound += bool((out < demand * (1 - 1e-9)).any())
        # No inlet is held back without an outlet that is full: flows could not all grow.
        full = (entered >= room * (1 - 1e-9) - 1e-15).T
        for c in range(2):
            for i in range(3):
                if out[i, c] < demand[i, c] * (1 - 1e-9):
                    assert full[c][ratios[i] > 0].any()
    assert bound > 50


def grid_of_signals():
    """8 signals on an arterial with side streets: 70 segments."""
    segments, nodes = [], []

    def add(name, **kwargs):
        segments.append(segment(name, length=150.0, n_cells=15, saturation_flow=0.5, **kwargs))
        return name

    east = [add(f"east{k}") for k in range(9)]
    west = [add(f"west{k}") for k in range(9)]
    for k in range(8):
        north_in, south_in, north_out, south_out = (add(f"{d}{k}") for d in ("n-in", "s-in", "n-out", "s-out"))
        turning = ((0.8, 0.0, 0.1, 0.1), (0.0, 0.8, 0.1, 0.1), (0.2, 0.2, 0.0, 0.6), (0.2, 0.2, 0.6, 0.0))
        nodes.append(
            Node((east[k], west[k + 1], north_in, south_in), (east[k + 1], west[k], north_out, south_out), turning)
        )
    for k in range(8):
        for d in ("n", "s"):
            nodes.append(Node((f"{d}-out{k}",), (add(f"{d}-far{k}"),)))
    while len(segments) < 70:
        add(f"lone{len(segments)}")
    return segments, nodes


def test_network_of_70_segments_and_8_signals_conserves_vehicles(rng):
    segments, nodes = grid_of_signals()
    solver = solve(segments, nodes)
    assert len(segments) == 70
    n = solver.n_steps(5.0)
    arrived = left = np.zeros(2)
    exits = [s for s in range(70) if solver.layout.segments[s, 4]]
    for k in range(10_000 // n):
        signals = np.zeros((1, 70, 2), np.int64)
        signals[0, :, 1] = n
        main_green = (k // 5) % 2
        for s, road in enumerate(segments):
            is_main = road.name.startswith(("east", "west"))
            is_side = "-in" in road.name
            if (is_main and not main_green) or (is_side and main_green):
                signals[0, s, 1] = 0
        flow = rng.poisson(0.06, (1, 5, solver.waiting.shape[1], 2)).astype(float)
        measured = solver.advance(n, flow, signals)
        arrived = arrived + measured.arrivals[0].sum(axis=0)
        left = left + measured.outflow[0, exits].sum(axis=0)
    np.testing.assert_allclose(held(solver) + left, arrived, rtol=1e-12)
    assert left.min() > 500.0
    assert max(solver.density(s).max() for s in range(70)) > 0.1


@pytest.mark.parametrize("scheme", ["hll", "van_leer"])
def test_pressure_is_time_upstream_less_time_downstream_by_turning_ratio(scheme, rng):
    """By approach and class, from the states after every sub-step; it turns negative where the outlets are fuller."""
    segments = [segment(name, n_cells=6, length=60.0) for name in "abcde"]
    turning = ((0.2, 0.3, 0.5), (0.6, 0.4, 0.0))
    solver = solve(segments, [Node(("a", "b"), ("c", "d", "e"), turning)], scheme=scheme)
    for name, least, most in (
        ("a", 0.0, 0.02),
        ("b", 0.08, 0.1),
        ("c", 0.04, 0.06),
        ("d", 0.04, 0.06),
        ("e", 0.04, 0.06),
    ):
        solver.set_density(name, *rng.uniform(least, most, (2, 6)))
    start = solver.state_dict()
    flow = arrivals(solver, (0.2, 0.1), (0.0, 0.3))
    n = 40
    measured = solver.advance(n, flow)
    solver.load_state_dict(start)
    time_on = np.zeros((5, 2))
    for _ in range(n):
        time_on += np.stack([solver.density(s)[0].sum(axis=1) for s in range(5)]) * 10.0 * solver.dt
        solver.advance(1, flow)
    expected = time_on.copy()
    expected[:2] -= np.array(turning) @ time_on[2:]
    np.testing.assert_allclose(measured.pressure[0], expected, rtol=1e-9)
    np.testing.assert_array_equal(measured.pressure[0, 2:], measured.vehicles[0, 2:])
    assert measured.pressure[0, :2].min() < 0.0 < measured.pressure[0, :2].max()


def test_ring_of_nodes_conserves_vehicles(rng):
    segments = [segment("a"), segment("b"), segment("c")]
    nodes = [Node(("a",), ("b",)), Node(("b",), ("c",)), Node(("c",), ("a",))]
    solver = solve(segments, nodes)
    for name in "abc":
        solver.set_density(name, *rng.uniform(0.0, 0.1, (2, 20)))
    before = solver.vehicles()[0]
    solver.advance(10_000)
    np.testing.assert_allclose(solver.vehicles()[0], before, rtol=1e-12)


@settings(deadline=None, max_examples=300)
@given(
    closure=st.sampled_from([Parameters("garz"), Parameters("arz"), Parameters("arz", gamma_m=3.0, gamma_c=1.0)]),
    share=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-3, 0.999)),
    w=st.tuples(st.floats(2.0, 20.0), st.floats(2.0, 20.0)),
    part=st.floats(0.0, 1.5),
)
def test_demand_and_supply_stand_at_the_largest_flow_or_at_the_speed_beyond(closure, share, w, part):
    """What a stream sends is no denser than at its largest flow; what it can take is no thinner.

    Flows are compared with those of densities on both sides, speeds with that asked for.
    """
    scalars = make_closure(closure_key(closure), np.float64, PLAIN)
    par, shares = parameter_vector(closure, 30.0), (share, 1.0 - share)
    mean_w = share * w[0] + shares[1] * w[1]

    def speed(r):
        """Mean speed of the stream, negative where it would be [m/s]."""
        o = np.array([par[0] * share + par[1] * shares[1], par[2] * share + par[3] * shares[1]]) * r
        if closure.closure == "garz":
            return float(np.dot(shares, np.array(w) * (1.0 - o)))
        gamma = np.array([closure.gamma_m, closure.gamma_c])
        return float(np.dot(shares, np.array(w) - np.array(par[4:6]) * o**gamma))

    peak = scalars.sending_density(*shares, *w, 10.0, par)
    assert 0.0 < peak < 10.0
    assert peak * speed(peak) >= max(r * speed(r) for r in (0.999 * peak, 1.001 * peak)) > 0.0
    assert scalars.sending_density(*shares, *w, 0.9 * peak, par) == 0.9 * peak
    taken, slow = scalars.taking_density(*shares, *w, part * mean_w, par)
    if part * mean_w < speed(peak) * (1.0 - 1e-9):
        assert slow
        assert taken > peak
        assert speed(taken) == pytest.approx(part * mean_w, rel=1e-9, abs=1e-12)
    elif part * mean_w > speed(peak) * (1.0 + 1e-9):
        assert not slow
        assert taken == pytest.approx(peak, rel=1e-12)


def test_additive_closure_runs_a_signalised_merge_and_conserves_vehicles():
    segments = [segment("a", saturation_flow=0.5), segment("b", saturation_flow=0.5), segment("out")]
    solver = solve(segments, [Node(("a", "b"), ("out",))], parameters=Parameters(closure="arz"))
    n = solver.n_steps(5.0)
    arrived = left = 0.0
    for k in range(60):
        green = np.zeros((1, 3, 2), np.int64)
        green[0, [k // 4 % 2, 2], 1] = n
        measured = solver.advance(n, arrivals(solver, (0.1, 0.1), (0.1, 0.1)), green)
        arrived, left = arrived + measured.arrivals.sum(), left + measured.outflow[0, 2].sum()
        rho_m, rho_c = solver.density("a")[0]
        assert (rho_m + 0.4 * rho_c).max() < 1.2 * solver.parameters.rho_jam
    assert held(solver).sum() + left == pytest.approx(arrived, rel=1e-12)
    assert left > 60.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Node(("a",), ("b", "c"), ((0.5, 0.6),)), "each row of turning must be 2 shares of sum 1"),
        (lambda: Node(("a", "b"), ("c",), priorities=(1.0, -1.0)), "priorities must be 2 positive numbers"),
        (lambda: Network((segment("a"),), (Node(("a",), ("b",)),)), "a node names segment 'b'; there are a"),
        (
            lambda: Network((segment("a"), segment("b")), (Node(("a",), ("b",)), Node(("a",), ("b",)))),
            "segment 'a' is among the inlets of two nodes",
        ),
        (lambda: Network((segment("a"), segment("a"))), "segment names must differ"),
        (lambda: segment("a", n_cells=1), "at least 2 cells"),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
