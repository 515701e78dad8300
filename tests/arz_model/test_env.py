"""The environment: official checkers, signals, demand, rewards, exact continuation."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.scenarios import ScenarioError

ENV = "arz_model:TrafficSignal-v0"


def make(**kwargs):
    return gymnasium.make(ENV, **{"scenario": "quick", "device": "cpu", **kwargs})


def with_signal(**times):
    """`quick` with other signal times."""
    quick = scenarios.load("quick")
    return replace(quick, intersections=(replace(quick.intersections[0], **times),))


def run(env, policy, seed, n=10**9):
    """Return, summed info and observations of one episode (or its first n steps)."""
    obs, _ = env.reset(seed=seed)
    total, sums, seen = 0.0, {}, [obs]
    for k in range(n):
        obs, reward, _, truncated, info = env.step(policy(k, obs))
        total += reward
        seen.append(obs)
        sums = {name: sums.get(name, 0.0) + value for name, value in info.items()}
        if truncated:
            break
    return total, sums, np.array(seen), info


def test_gymnasium_checker_passes_without_a_warning():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(make(render_mode="ansi", duration_s=60).unwrapped)
    assert said == []


def test_stable_baselines3_checker_passes_without_a_warning():
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_for_sb3(make(duration_s=60))
    assert said == []


def test_importing_the_package_loads_no_compiler():
    code = "import sys, arz_model; print([m for m in ('numba', 'torch', 'arz_model.control.env') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_same_seed_same_episode_and_another_seed_another():
    env = make(duration_s=300)
    first, second, other = (run(env, lambda k, obs: k // 5 % 2, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[2], second[2])
    assert first[0] == second[0]
    assert first[0] != other[0]


def test_demand_depends_on_the_seed_alone():
    """Not on the actions, not on the decision interval."""
    totals = [
        run(make(duration_s=600, decision_interval_s=dt), policy, 7)[1]["arrivals"]
        for dt, policy in [
            (5, lambda k, obs: 0),
            (5, lambda k, obs: k % 2),
            (10, lambda k, obs: 0),
            (2, lambda k, obs: 1),
        ]
    ]
    assert len(set(np.round(totals, 9))) == 1
    assert totals[0] > 100


def test_arrivals_have_the_mean_and_variance_of_a_poisson_process():
    env = make(duration_s=3600)
    counts = [run(env, lambda k, obs: k // 8 % 2, seed)[1]["arrivals"] for seed in range(6)]
    assert np.mean(counts) == pytest.approx(env.unwrapped.scenario.expected_arrivals, rel=0.06)
    assert len(set(counts)) == 6


def test_red_holds_the_approach_and_a_queue_forms():
    env = make(duration_s=300)
    env.reset(seed=0)
    for _ in range(40):
        _, _, _, _, info = env.step(1)
    assert info["phase"] == 1
    main, side = env.unwrapped.solver.density(0)[0].sum(axis=0), env.unwrapped.solver.density(1)[0].sum(axis=0)
    assert main[-1] > 0.7 * 0.25
    assert side[-1] < 0.3 * 0.25


def test_main_queue_discharges_at_the_saturation_flow_when_it_turns_green():
    env = make(duration_s=600)
    env.reset(seed=0)
    for _ in range(24):
        env.step(1)
    out = []
    for _ in range(7):
        env.step(0)
        out.append(env.unwrapped.solver.measured.outflow[0, 0].sum())
    assert out[0] == 0.0
    assert out[1:] == pytest.approx([2.5] * 6, rel=1e-6)


def test_changes_cost_yellow_and_all_red_and_nothing_passes_meanwhile():
    env = make(duration_s=600)
    env.reset(seed=0)
    for _ in range(17):
        env.step(0)
    _, _, _, _, info = env.step(1)
    assert info["changed"]
    assert info["throughput"] == 0.0
    _, _, _, _, info = env.step(1)
    assert info["throughput"] > 0.0


def test_actions_within_the_minimum_green_are_held():
    env = make(scenario=with_signal(min_green=15))
    env.reset(seed=0)
    phases = [env.step(1)[4]["phase"] for _ in range(5)]
    assert phases == [0, 0, 0, 1, 1]


def test_a_green_longer_than_the_maximum_is_changed():
    env = make()
    env.reset(seed=0)
    phases = [env.step(0)[4]["phase"] for _ in range(20)]
    assert phases[:18] == [0] * 18
    assert phases[18] == 1


def test_flipping_changes_no_more_often_than_the_minimum_green_allows():
    """A change, the minimum green, and the interval in which the alternating action happens to name the green phase."""
    env = make(duration_s=3600)
    _, sums, _, _ = run(env, lambda k, obs: k % 2, 0, n=100)
    assert sums["changed"] == pytest.approx(33, abs=1)


def test_policies_differ_and_a_sensible_one_wins():
    env = make()
    returns = {
        "all main": run(env, lambda k, obs: 0, 0)[0],
        "flip": run(env, lambda k, obs: k % 2, 0)[0],
        "fixed": run(env, lambda k, obs: 0 if k % 15 < 9 else 1, 0)[0],
        "gap-out": run(env, lambda k, obs: (g := int(obs[25] > 0.5), g if obs[12 * g] ** 2 > 0.1 else 1 - g)[1], 0)[0],
    }
    assert returns["gap-out"] > returns["fixed"] > max(returns["all main"], returns["flip"])
    assert -20.0 < returns["fixed"] < -0.5


def test_return_is_minus_the_mean_delay_per_expected_vehicle():
    env = make()
    total, sums, _, _ = run(env, lambda k, obs: k // 8 % 2, 5)
    scenario = env.unwrapped.scenario
    assert total == pytest.approx(-sums["delay"] / scenario.expected_arrivals / scenario.delay_scale, rel=1e-12)


def test_entrance_queue_counts_in_reward_and_observation():
    env = make(scenario=with_signal(max_green=3600))
    _, _, seen, info = run(env, lambda k, obs: 1, 0, n=240)
    assert info["entrance_queue"] > 10.0
    assert seen[-1][11] > 0.3
    measured = env.unwrapped.solver.measured
    assert info["delay"] == pytest.approx(measured.delay.sum() + measured.entrance.sum())
    assert measured.entrance.sum() > 0.2 * info["delay"]


def test_observation_sees_the_queue_at_the_stop_line_first():
    env = make(duration_s=600)
    env.reset(seed=0)
    for _ in range(16):
        obs, *_ = env.step(1)
    assert obs[0] > 0.4
    assert obs[0] > obs[1] > obs[5]
    assert obs[24:26].tolist() == [0.0, 1.0]


def test_copy_continues_bit_for_bit(rng):
    """Through plain values only: numbers, strings and arrays; after a random number of further steps; over a reset."""
    env, copy = make(duration_s=900), make(duration_s=900)
    env.reset(seed=11)
    copy.reset(seed=99)
    actions = rng.integers(0, 2, 1000)
    for k in range(int(rng.integers(20, 120))):
        env.step(actions[k])
    saved = env.unwrapped.state_dict()
    assert all(isinstance(v, (np.ndarray, int, float, str, bool)) for v in saved.values())
    plain = json.loads(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in saved.items()}))
    arrays = {k: np.array(plain[k], v.dtype) if isinstance(v, np.ndarray) else plain[k] for k, v in saved.items()}
    copy.unwrapped.load_state_dict(arrays)
    for k in range(int(rng.integers(80, 400))):
        ours, theirs = env.step(actions[k]), copy.step(actions[k])
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        if ours[3]:
            np.testing.assert_array_equal(env.reset()[0], copy.reset()[0])
    np.testing.assert_array_equal(env.unwrapped.solver.state_dict()["q"], copy.unwrapped.solver.state_dict()["q"])


def test_no_vehicle_vanishes_in_an_episode():
    env = make()
    _, sums, _, info = run(env, lambda k, obs: k // 3 % 2, 2)
    held = env.unwrapped.solver.vehicles().sum() + info["entrance_queue"]
    assert sums["throughput"] + held == pytest.approx(sums["arrivals"], rel=1e-12)


def edited(old, new):
    text = (scenarios.FOLDER / "quick.toml").read_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "demand_veh_per_h = 900.0",
            "demand = 900.0",
            r"unknown key demand; valid keys are cell_length_m, demand_factor, demand_veh_per_h",
        ),
        ("yellow_s = 3\n", "", "missing key yellow_s"),
        ('green = ["main"]', 'green = ["north"]', r"green must name roads \(main, side\); got north"),
        ('green = ["side"]', 'green = ["main", "side"]', "road 'side' has signals|gives green to every road at once"),
        ("max_green_s = 90", "max_green_s = 2", "max_green_s must be at least"),
        ("motorcycle_share = 0.5", "motorcycle_share = 1.5", "motorcycle_share must be in"),
        ("length_m = 400.0", "length_m = 403.0", "whole number of cell_length_m"),
        ("[traffic]", "[traffic", "not valid TOML"),
    ],
)
def test_scenario_mistakes_are_named(old, new, message):
    with pytest.raises(ScenarioError, match=message):
        scenarios.parse(edited(old, new), "edited")


def test_unknown_scenario_lists_those_there_are():
    with pytest.raises(ScenarioError, match="no scenario 'quik'; there are corridor, crossing"):
        make(scenario="quik")


def test_scenario_file_of_the_user_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(edited("duration_s = 3600", "duration_s = 60"))
    env = make(scenario=str(path))
    assert env.unwrapped.scenario.name == "mine"
    assert run(env, lambda k, obs: 0, 0)[2].shape == (13, 28)


def test_cuda_without_a_device_is_a_clear_error_when_asked_for():
    with pytest.raises(ValueError, match="device 'cuda' is not available here"):
        make(device="cuda")
