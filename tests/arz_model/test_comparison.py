"""Controllers, their comparison, and its statistics."""

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from arz_model.control import scenarios
from arz_model.control.batch import TrafficBatch
from arz_model.control.chart import bars
from arz_model.control.comparison import FIGURES, difference, drive, means, relative, to_json, to_markdown
from arz_model.control.controllers import (
    CONTROLLERS,
    Actuated,
    FixedTime,
    LongestQueue,
    RandomPhase,
    Webster,
    by_name,
    near_matrix,
    road_flows,
)
from arz_model.control.statistics import estimate, t_quantile
from arz_model.control.tuning import Family, families, tune
from arz_model.parameters import ParameterError

SEEDS = range(5)


def begun(scenario="crossing", n=3, **kwargs):
    batch = TrafficBatch(scenario, n, device="cpu", **kwargs)
    batch.reset(range(n), [np.random.Generator(np.random.PCG64(seed)) for seed in range(n)])
    return batch


@pytest.mark.parametrize(
    ("degrees", "table"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (19, 2.093), (49, 2.010), (99, 1.984)]
)
def test_t_quantiles_are_those_of_the_tables(degrees, table):
    assert t_quantile(0.975, degrees) == pytest.approx(table, abs=1.5e-3)


def test_interval_covers_the_mean_in_95_of_100_samples(rng):
    covered = [estimate(rng.normal(3.0, 2.0, 8)) for _ in range(2000)]
    assert np.mean([e.low < 3.0 < e.high for e in covered]) == pytest.approx(0.95, abs=0.015)
    assert estimate([1.0]).half_width == math.inf


def test_fixed_time_gives_its_greens_second_by_second():
    batch = begun("crossing", decision_interval_s=1, duration_s=400)
    controller = FixedTime((30, 20))
    controller.begin(batch)
    open_s = np.zeros((3, 4))
    for second in range(400):
        batch.step(controller.act(batch, batch.observe()))
        if second >= 40:  # from the start of the second phase on: 6 cycles of 60 s
            open_s += (batch.signals.windows[:, :, 1] - batch.signals.windows[:, :, 0]) / batch.signals.steps_per_second
    assert open_s[0] == pytest.approx([6 * 30, 6 * 30, 6 * 20, 6 * 20], abs=30)
    assert (open_s == open_s[0]).all()


def test_webster_is_the_formula():
    """Against the formula with flows counted from the arrivals."""
    batch = begun("crossing", demand="moderate")
    webster = Webster()
    webster.begin(batch)
    per_road = batch.arrivals.sum(axis=(1, 3)) / 3600 / 0.55
    y = np.stack([per_road[:, :2].max(axis=1), per_road[:, 2:].max(axis=1)], axis=1)
    cycle = (1.5 * 10 + 5) / (1 - y.sum(axis=1))
    expected = y / y.sum(axis=1, keepdims=True) * (cycle - 10)[:, None]
    np.testing.assert_allclose(webster.greens[:, 0, 0], np.maximum(expected, 5.0), atol=0.51)


def test_flows_are_carried_through_junctions_by_turning_ratios():
    batch = begun("crossing_four_phases")
    index = batch.scenario.network.index
    flows = road_flows(batch)[:, 0]
    np.testing.assert_allclose(flows[:, index["north_left"]], 0.25 * flows[:, index["north"]])
    np.testing.assert_allclose(flows[:, index["east_through"]], 0.75 * flows[:, index["east"]])


def test_detector_counts_the_vehicles_within_its_reach():
    batch = begun("quick", n=1)
    batch.solver.set_density("main", 0.05, 0.02)
    near = batch.solver.total_density() @ near_matrix(batch, 25.0)
    assert near[0, 0] == pytest.approx(25.0 * 0.07)
    assert near[0, 1] == 0.0


def test_actuated_keeps_a_green_with_traffic_and_ends_it_at_a_gap():
    batch = begun("quick", n=1, decision_interval_s=1)
    controller = Actuated(detector_m=20.0, gap_veh=0.5)
    controller.begin(batch)
    batch.solver.set_density("side", 0.05, 0.05)
    batch.solver.set_density("main", 0.05, 0.05)
    assert controller.act(batch, batch.observe()).tolist() == [[0]]
    batch.solver.set_density("main", 0.0, 0.0)
    assert controller.act(batch, batch.observe()).tolist() == [[1]]
    batch.solver.set_density("side", 0.0, 0.0)
    assert controller.act(batch, batch.observe()).tolist() == [[0]]


def test_actuated_skips_phases_for_which_nobody_waits():
    batch = begun("crossing_four_phases", n=1)
    controller = Actuated()
    controller.begin(batch)
    batch.solver.set_density("east_left", 0.1, 0.1)
    assert controller.act(batch, batch.observe()).tolist() == [[3]]


def test_max_pressure_leaves_out_a_phase_whose_exit_is_full():
    batch = begun("corridor", n=1)
    for road in ("east_0", "north_0"):
        batch.solver.set_density(road, 0.1, 0.05)
    batch.solver.set_density("east_1", 0.2, 0.15)
    batch.solver.set_density("west_1", 0.0, 0.0)
    wanted = {}
    for pressure in (True, False):
        controller = LongestQueue(slot_s=5, hysteresis_veh=1.0, pressure=pressure)
        controller.begin(batch)
        wanted[pressure] = int(controller.act(batch, batch.observe())[0, 0])
    assert wanted == {True: 1, False: 0}


@pytest.mark.parametrize("scenario", ["crossing", "crossing_four_phases", "corridor"])
def test_figures_obey_conservation(scenario):
    """What arrived has left, is on the roads or waits; delay is less than the time in the network."""
    held = {}

    class Watched(RandomPhase):
        def act(self, batch, obs):
            held["batch"] = batch
            return super().act(batch, obs)

    result = drive(Watched(), scenario, SEEDS, duration_s=600)
    batch = held["batch"]
    arrived = batch.arrivals[:, :600].sum(axis=(1, 2, 3))
    left = result.figures["throughput_veh_per_h"] * 600 / 3600
    inside = batch.solver.vehicles().sum(axis=1)
    np.testing.assert_allclose(arrived, left + inside + result.figures["unserved_veh"], rtol=1e-9)
    assert (result.figures["delay_s"] < result.figures["travel_time_s"]).all()
    assert (result.figures["stops"] >= 0).all()


def test_looking_each_second_changes_no_figure():
    one, other = begun(n=4), begun(n=4)
    seen = []
    for k in range(60):
        actions = np.full((4, 1), k // 5 % 2)
        a, b = one.step(actions), other.step(actions, seen.append)
        np.testing.assert_allclose(a.rewards, b.rewards, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a.obs, b.obs, rtol=1e-5, atol=1e-6)
    assert len(seen) == 300


def test_controllers_meet_the_same_demand_at_any_interval():
    arrived = {}
    for controller in (FixedTime((30, 30)), Actuated(interval=5), RandomPhase()):
        result = drive(controller, "crossing", SEEDS, duration_s=900, demand="surge")
        arrived[controller.name] = result.figures["travel_time_s"] * 0 + _arrived(900)
        assert len(result.figures["delay_s"]) == len(SEEDS)
    assert len({tuple(values) for values in arrived.values()}) == 1


def _arrived(seconds):
    batch = TrafficBatch("crossing", len(SEEDS), demand="surge", duration_s=seconds, device="cpu")
    batch.reset(SEEDS, [np.random.Generator(np.random.PCG64(seed)) for seed in SEEDS])
    return batch.arrivals.sum(axis=(1, 2, 3))


def test_sensible_order_of_the_controllers():
    """Actuated beats Webster, Webster beats a long fixed cycle, a random policy is last."""
    controllers = [Actuated(20, 0.7, 120), Webster(), FixedTime((60, 60)), RandomPhase()]
    delays = [drive(c, "crossing", SEEDS, demand="moderate").figures["delay_s"].mean() for c in controllers]
    assert delays == sorted(delays)
    assert len(set(np.round(delays, 3))) == 4


def test_tuning_finds_the_best_point_of_the_grid():
    def fixed(green):
        return FixedTime(np.stack([green, green], axis=-1)[..., None, None, :])

    family = Family("fixed", fixed, {"green": (5, 20, 90)})
    tuned = tune(family, scenarios.choose(scenarios.load("crossing"), "moderate"), SEEDS, duration_s=900)
    assert tuned.parameters == {"green": 20}
    means = {point: np.mean(delays) for point, delays in tuned.delays.items()}
    assert len(means) == 3
    assert means[(20,)] == min(means.values())


def test_tuning_drives_every_point_on_some_episodes_and_the_best_on_all():
    """The member that is found is the best of the whole grid, driven on all episodes."""
    scenario = scenarios.choose(scenarios.load("crossing"), "moderate", duration=900)
    (family,) = (family for family in families(scenario) if family.name == "longest queue")
    seeds = range(8)
    tuned = tune(family, scenario, seeds)
    points = list(product(*family.grid.values()))
    assert sorted(tuned.delays) == sorted(points)
    assert sorted(map(len, tuned.delays.values())) == [2] * 20 + [8] * 10
    whole = {p: drive(family.make(**dict(zip(family.grid, p, strict=True))), scenario, seeds) for p in points}
    delays = {point: result.figures["delay_s"].mean() for point, result in whole.items()}
    assert delays[tuple(tuned.parameters.values())] == min(delays.values())


@pytest.mark.parametrize("scenario", ["crossing", "corridor"])
def test_points_of_a_grid_driven_side_by_side_have_the_delays_that_they_have_alone(scenario):
    loaded = scenarios.choose(scenarios.load(scenario), duration=600)
    for family in families(loaded):
        corners = {key: (values[0], values[-1]) for key, values in family.grid.items()}
        tuned = tune(replace(family, grid=corners), loaded, (1, 2))
        assert len({round(delays[0], 6) for delays in tuned.delays.values()}) > 1
        for point, delays in tuned.delays.items():
            seeds = (1, 2)[: len(delays)]
            alone = drive(family.make(**dict(zip(family.grid, point, strict=True))), loaded, seeds)
            assert alone.figures["delay_s"] == pytest.approx(delays, rel=1e-9), (family.name, point)


@pytest.mark.parametrize("scenario", scenarios.available())
def test_every_family_of_baselines_drives_every_scenario(scenario):
    loaded = scenarios.choose(scenarios.load(scenario), duration=60)
    for family in families(loaded):
        first = {key: values[0] for key, values in family.grid.items()}
        assert np.isfinite(drive(family.make(**first), loaded, range(2)).figures["delay_s"]).all()


@pytest.mark.parametrize("name", CONTROLLERS)
def test_named_controllers_drive_any_number_of_phases(name):
    for scenario in ("quick", "crossing_four_phases"):
        assert np.isfinite(drive(by_name(name), scenario, range(2), duration_s=60).figures["delay_s"]).all()


def test_parameters_are_taken_from_the_name():
    actuated = by_name("actuated:detector_m=20,gap_veh=0.7,interval=5")
    assert (actuated.name, actuated.interval) == ("actuated:detector_m=20,gap_veh=0.7,interval=5", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aktuated", "no controller 'aktuated'; there are fixed, webster"),
        ("actuated:gap", "written key=number; got 'gap'"),
        ("actuated:gapp=1", r"has no parameter 'gapp'; it takes detector_m, gap_veh"),
    ],
)
def test_mistaken_names_say_what_there_is(text, message):
    with pytest.raises(ParameterError, match=message):
        by_name(text)


def test_too_few_greens_are_refused():
    with pytest.raises(ParameterError, match="gives 2 greens; scenario 'crossing_four_phases' has 4 phases"):
        drive(FixedTime((30, 30)), "crossing_four_phases", range(2), duration_s=60)


def test_table_json_and_plot_hold_what_was_measured():
    results = [drive(c, "quick", range(3), duration_s=300) for c in (FixedTime((30, 30)), RandomPhase())]
    plain = json.loads(json.dumps(to_json(results, results[0], range(3))))
    assert [c["name"] for c in plain["controllers"]] == ["fixed time", "random"]
    assert set(plain["controllers"][1]["episodes"]) == set(FIGURES)
    by, share = difference(results[1], results[0]), relative(results[1], results[0])
    assert plain["controllers"][1]["difference"]["delay_s"]["mean"] == by.mean
    assert share.mean == pytest.approx(by.mean / results[0].figures["delay_s"].mean())
    assert f"{by.mean:+.2f} ± {by.half_width:.2f} s" in to_markdown(results, results[0])
    picture = bars("t", "s", {r.name: means(r)["delay_s"] for r in results})
    assert picture.count("<rect") == 3
    assert f"{means(results[1])['delay_s'].mean:.4g}" in picture


def test_pairing_narrows_the_interval():
    results = [drive(c, "crossing", range(8)) for c in (Actuated(), Actuated(detector_m=30))]
    a, b = (r.figures["delay_s"] for r in results)
    unpaired = math.hypot(estimate(a).half_width, estimate(b).half_width)
    assert difference(*results).half_width < 0.5 * unpaired


def test_lost_time_of_a_change_is_what_traffic_loses():
    """A standing queue passes (green - start-up loss + yellow used) x saturation flow, to a sub-step."""
    lagos = scenarios.load("lagos")
    plan = lagos.intersections[0]
    batch = begun(replace(lagos, intersections=(replace(plan, min_green=20),)), n=1, decision_interval_s=1)
    batch.solver.set_density("arterial_in", 0.2, 0.1)
    s, passed = batch.scenario.network.index["street_north"], 0.0
    batch.solver.set_density(s, 0.2, 0.1)
    batch.solver.set_density("street_south", 0.2, 0.1)
    for second in range(100):
        done = batch.step(np.array([[0 if second < 20 or second >= 60 else 1]]))
        passed += float(done.measured.outflow[0, s].sum())
    green_s = 60 - 20 - plan.intergreen
    assert passed == pytest.approx((green_s - plan.start_up_loss + plan.yellow_use) * 0.4, abs=0.4 / 3)
