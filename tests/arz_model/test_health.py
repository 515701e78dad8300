"""The health gate, and each documented bug of the predecessor's environment, put in on purpose."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.batch import TrafficBatch
from arz_model.control.health import check_environment
from arz_model.control.observations import Observer
from arz_model.control.rewards import REWARDS
from arz_model.control.scenarios import PER_KM, ScenarioError
from arz_model.control.signals import Signals

ENV = "arz_model:TrafficSignal-v0"


def make(**kwargs):
    return gymnasium.make(ENV, **{"scenario": "crossing", "device": "cpu", **kwargs})


def failed(env):
    return {finding.name: finding for finding in check_environment(env) if not finding.passed}


@pytest.mark.parametrize("scenario", scenarios.available())
@pytest.mark.parametrize("decision_interval_s", [2, 15])
def test_every_scenario_passes(scenario, decision_interval_s):
    assert failed(make(scenario=scenario, decision_interval_s=decision_interval_s)) == {}


@pytest.mark.parametrize("view", ["absolute", "relative"])
def test_changes_at_any_second_pass(view):
    assert failed(make(view=view, change_step_s=1)) == {}


@pytest.mark.parametrize("scenario", scenarios.available())
@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_passes_on_every_scenario(scenario, reward):
    assert failed(make(scenario=scenario, reward=reward)) == {}


def test_another_environment_is_refused():
    with pytest.raises(TypeError, match="judges TrafficSignalEnv; got CartPoleEnv"):
        check_environment(gymnasium.make("CartPole-v1"))


@pytest.fixture
def spoil_windows(monkeypatch):
    """Let the solver see other stop-line windows than the signals give."""

    def spoil(change):
        request = Signals.request

        def spoiled(self, actions, n_steps):
            return change(request(self, actions, n_steps).copy(), n_steps)

        monkeypatch.setattr(Signals, "request", spoiled)

    return spoil


def test_red_that_does_not_block_is_found(spoil_windows):
    def half_open(windows, n_steps):
        shut = windows[:, :, 1] == 0
        windows[shut, 1] = n_steps // 2
        return windows

    spoil_windows(half_open)
    assert "red blocks" in failed(make())


def test_all_lights_green_at_once_is_found(spoil_windows):
    def all_open(windows, n_steps):
        windows[:, :, 0], windows[:, :, 1] = 0, n_steps
        return windows

    spoil_windows(all_open)
    assert {"red blocks", "queues form at red"} <= set(failed(make()))


def test_a_phase_that_opens_all_roads_is_refused():
    text = (scenarios.FOLDER / "crossing.toml").read_text()
    with pytest.raises(ScenarioError, match="gives green to every road at once"):
        scenarios.parse(text.replace('green = ["north", "south"]', 'green = ["north", "south", "east", "west"]'), "x")


def test_signal_that_never_reaches_the_fluxes_is_found(spoil_windows):
    kept = []

    def always_the_first(windows, n_steps):
        kept.append(windows.copy())
        return kept[0]

    spoil_windows(always_the_first)
    found = failed(make())
    assert "red blocks" in found
    assert "policies get different returns" in found
    assert "actions do not reach the traffic" in found["policies get different returns"].cause


def test_inverted_phase_mapping_is_found(monkeypatch):
    request = Signals.request

    def inverted(self, actions, n_steps):
        return request(self, self.n_phases - 1 - actions, n_steps)

    monkeypatch.setattr(Signals, "request", inverted)
    assert "red blocks" in failed(make())


def test_domain_that_drains_is_found(monkeypatch):
    reset = TrafficBatch.reset

    def without_demand(self, which, generators):
        reset(self, which, generators)
        self.arrivals[...] = 0

    monkeypatch.setattr(TrafficBatch, "reset", without_demand)
    assert {"vehicles arrive", "queues form at red", "reward varies"} <= set(failed(make()))


def test_speed_observed_as_w_is_found_by_the_queue(monkeypatch):
    """The predecessor took w / rho for the speed: every vehicle looks fast, and the queue is 0.00 for ever."""
    make_env = make()
    make_env.unwrapped.solver._rates[5] = 0.0
    assert "queues form at red" in failed(make_env)


def test_vehicles_per_km_read_as_per_metre_are_found():
    crossing = scenarios.load("crossing")
    sources = tuple(replace(source, flow=source.flow / PER_KM) for source in crossing.sources)
    assert "demand below jam density" in failed(make(scenario=replace(crossing, sources=sources)))


def test_density_not_divided_by_its_maximum_is_found(monkeypatch):
    observe = Observer.observe

    def unscaled(self, *args):
        return np.minimum(observe(self, *args) * 1e4, 1.0)

    monkeypatch.setattr(Observer, "observe", unscaled)
    assert "observation not saturated" in failed(make(duration_s=600))


def test_identical_returns_of_different_policies_are_found():
    found = failed(make(reward=lambda interval: -np.ones(len(interval.before))))
    assert {"reward varies", "policies get different returns"} <= set(found)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("decision_interval_s", [2, 5])
def test_pressure_between_directions_is_found_to_prefer_the_worse_policy(sign, decision_interval_s):
    """A balance |N_north-south - N_east-west| teaches to switch at once, whatever each switch costs."""

    def imbalance(interval):
        vehicles = interval.measured.vehicles.sum(axis=2)
        return sign * np.abs(vehicles[:, :2].sum(axis=1) - vehicles[:, 2:].sum(axis=1))

    found = failed(make(reward=imbalance, decision_interval_s=decision_interval_s))
    assert "prefers the policy that loses more time" in found["policies get different returns"].cause
