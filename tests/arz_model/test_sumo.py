"""A town drawn in SUMO becomes a scenario: the same flows, turns and greens, and a list of what is left behind."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.batch import TrafficBatch
from arz_model.control.controllers import FixedTime
from arz_model.control.health import check_environment
from arz_model.sumo.convert import import_sumo
from arz_model.sumo.files import SumoError, read_network, read_trips

FOLDER = Path(__file__).parent / "sumo"
NETWORK, DEMAND = FOLDER / "town.net.xml", FOLDER / "town.rou.xml"
HOURLY = {"west-a": 770.0, "north-a": 150.0, "east-b": 450.0, "hill-b": 120.0, "a-b start": 40.0}
"""Vehicles that begin a trip, as the demand file says, by edge."""
LEAVING = {"b-east": 810.0, "a-south": 120.0, "a-west": 510.0, "b-hill": 40.0, "a-b end": 50.0}
"""Vehicles that end one."""


@pytest.fixture(scope="module")
def town():
    return import_sumo(NETWORK, [DEMAND])


@pytest.fixture(scope="module")
def scenario(town):
    return scenarios.parse(town.text, "town")


def edge_of(road):
    return road.rpartition("_")[0] or road


def test_what_arrives_is_what_the_demand_file_says(scenario):
    rates = scenario.demand.expected_rates() * 3600.0
    arriving = dict.fromkeys(HOURLY, 0.0)
    fed = {outlet for node in scenario.network.nodes for outlet in node.outlets}
    entrances = [segment.name for segment in scenario.network.segments if segment.name not in fed]
    for name, rate in zip(entrances, rates, strict=True):
        arriving[edge_of(name)] += rate
    wanted = HOURLY | {"hill-b": 120.0}
    assert arriving == pytest.approx(wanted, rel=1e-4)
    assert scenario.motorcycle_share[0] == pytest.approx(450.0 / sum(HOURLY.values()), rel=1e-3)


def test_what_leaves_by_each_edge_is_what_the_routes_say(scenario):
    batch = TrafficBatch(scenario, 24, device="cpu")
    batch.reset(range(24), [np.random.Generator(np.random.PCG64(seed)) for seed in range(24)])
    controller = FixedTime([30, 20])
    controller.begin(batch)
    left = np.zeros(len(scenario.network.segments))
    obs, over = batch.observe(), False
    while not over:
        done = batch.step(controller.act(batch, obs))
        left += done.measured.outflow.sum(axis=(0, 2))
        obs, over = done.obs, bool(done.over.all())
    by_edge = dict.fromkeys(LEAVING, 0.0)
    inlets = {inlet for node in scenario.network.nodes for inlet in node.inlets}
    for segment, vehicles in zip(scenario.network.segments, left / 24.0, strict=True):
        if segment.name not in inlets:
            by_edge[edge_of(segment.name)] += vehicles
    # An hour that begins with empty roads: about a minute's vehicles are still on their way; Poisson arrivals.
    for edge, wanted in LEAVING.items():
        assert by_edge[edge] == pytest.approx(wanted * 59.0 / 60.0, rel=0.06), edge


def test_greens_are_those_of_the_traffic_lights(scenario):
    phases = {plan.name: [set(green) for _, green in plan.phases] for plan in scenario.intersections}
    assert phases == {
        "a": [{"b-a_0", "west-a_0", "west-a_1"}, {"north-a_0"}],
        "b": [{"a-b_0", "a-b_1", "east-b_0"}, {"hill-b_0"}],
    }
    assert {(plan.yellow, plan.all_red, plan.min_green, plan.max_green) for plan in scenario.intersections} == {
        (3, 0, 5, 120)
    }


def test_the_imported_town_is_worth_training_on(scenario):
    env = gymnasium.make("arz_model:TrafficSignal-v0", scenario=scenario, device="cpu", duration_s=900)
    assert [finding for finding in check_environment(env) if not finding.passed] == []


def test_what_is_not_carried_over_is_listed_in_the_file_too(town):
    listed = "\n".join(town.not_carried_over)
    for what in (
        "lanes that cars may not use (footpaths, cycle and bus lanes): 1.",
        "edges on which trips begin or end between others: a road of two cells was added; roads: 2.",
        "vehicles of class bus: they count as cars; elements: 1.",
        "<personFlow> elements of the demand: 1.",
        "stops of vehicles: 1.",
        "departures outside the window, wholly or in part; elements: 5.",
        "permissive greens (g): they count as green; states: 1.",
        "nobody yields",
    ):
        assert what in listed
    assert all(f"# - {note}" in town.text for note in town.not_carried_over)


def test_another_window_takes_other_departures():
    network = read_network(NETWORK)
    second_hour = read_trips([DEMAND], network, 3600.0, 7200.0)
    assert sum(second_hour.flows.values()) * 3600.0 == pytest.approx(600 + 120 + 450 + 45 + 1)


def test_a_compressed_network_reads_the_same(town, tmp_path):
    with NETWORK.open("rb") as plain, gzip.open(tmp_path / "town.net.xml.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    again = import_sumo(tmp_path / "town.net.xml.gz", [DEMAND])
    assert again.text.replace("town.net.xml.gz", "town.net.xml") == town.text


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        ("<routes/>", "no flow, vehicle or trip"),
        ("<net/>", "should hold <routes>; its root is <net>"),
        ("<routes", "is not XML"),
        ('<routes><flow id="f" from="west-a" to="nowhere" vehsPerHour="9"/></routes>', "names edge 'nowhere'"),
        ('<routes><flow id="f" from="west-a" to="b-east"/></routes>', "flow 'f' has no rate"),
        ('<routes><flow id="f" route="r" vehsPerHour="9"/></routes>', "names route 'r'"),
        ('<routes><trip id="t" depart="soon" from="west-a" to="b-east"/></routes>', "needs a number depart"),
        ('<routes><trip id="t" depart="0" from="a-south" to="b-east"/></routes>', "no way leads from edge 'a-south'"),
        (
            '<routes><flow id="f" vehsPerHour="9"><route edges="west-a b-east"/></flow></routes>',
            "no lane that cars may",
        ),
        (
            '<routes><flow id="f" from="west-a" to="a-south" vehsPerHour="9"/></routes>',
            "no traffic light with at least",
        ),
    ],
)
def test_what_cannot_be_imported_is_refused_by_its_cause(tmp_path, demand, said):
    path = tmp_path / "bad.rou.xml"
    path.write_text(demand)
    with pytest.raises(SumoError, match=said):
        import_sumo(NETWORK, [path])


def test_the_command_writes_a_scenario_and_never_over_another(tmp_path):
    command = [sys.executable, "-m", "arz_model.sumo", NETWORK, DEMAND, "--output", tmp_path / "town.toml"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 signals, 1530 vehicles/h" in first.stdout
    assert "Not carried over:" in first.stdout
    assert scenarios.load(tmp_path / "town.toml").name == "town"
    second = subprocess.run(command, capture_output=True, text=True)
    assert (second.returncode, "exists; name another file" in second.stderr) == (1, True)
    missing = subprocess.run([*command[:3], "none.net.xml", *command[4:]], capture_output=True, text=True)
    assert (missing.returncode, "none.net.xml cannot be read" in missing.stderr) == (1, True)
    assert "Traceback" not in missing.stderr
