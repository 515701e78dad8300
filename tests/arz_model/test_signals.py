"""Signals within an interval: a change at a later moment is what deciding at that moment would have brought."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.batch import TrafficBatch
from arz_model.control.comparison import drive
from arz_model.control.controllers import Policy
from arz_model.control.scenarios import ScenarioError
from arz_model.control.signals import Signals

STEPS = 2
"""Sub-steps of a second."""
INTERVAL = 5
CROSSING = scenarios.load("crossing_four_phases")
TIMES = st.fixed_dictionaries(
    {
        "yellow": st.integers(0, 4),
        "all_red": st.integers(0, 4),
        "min_green": st.integers(0, 12),
        "start_up_loss": st.sampled_from([0.0, 0.5, 2.0, 3.5]),
        "yellow_use": st.sampled_from([0.0, 1.0, 2.5]),
    }
)


def signals(moments, **times):
    plan = replace(CROSSING.intersections[0], **times)
    return Signals((plan,), CROSSING.network, 1, STEPS, moments)


def open_steps(windows, n_steps):
    """(S, n_steps) which stop lines are open in which sub-steps."""
    k = np.arange(n_steps)
    return (windows[0, :, :1] <= k) & (k < windows[0, :, 1:])


@settings(deadline=None, max_examples=200)
@given(times=TIMES, actions=st.lists(st.integers(0, 4 * INTERVAL - 1), min_size=1, max_size=40))
def test_a_change_at_a_later_second_is_what_deciding_at_that_second_brings(times, actions):
    times |= {"max_green": 10**6, "yellow_use": min(times["yellow_use"], times["yellow"] + times["all_red"])}
    times |= {"start_up_loss": min(times["start_up_loss"], times["min_green"])}
    late, prompt = signals([STEPS * k for k in range(INTERVAL)], **times), signals([0], **times)
    for action in actions:
        wanted, second = action % 4, action // 4
        free = not prompt.changing[0, 0]
        expected = []
        for k in range(INTERVAL):
            asked = wanted if free and k == second else prompt.phase[0, 0]
            expected.append(open_steps(prompt.request(np.array([[asked]]), STEPS), STEPS))
        masked = late.may_change()[0, 0, second] or wanted == late.phase[0, 0]
        before = late.phase[0, 0]
        found = open_steps(late.request(np.array([[action]]), INTERVAL * STEPS), INTERVAL * STEPS)
        np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
        assert (late.phase, late.clock) == (prompt.phase, prompt.clock)
        assert late.changed[0, 0] == (masked and wanted != before)


def test_a_green_ends_at_its_maximum_however_late_its_end_was_asked_for():
    times = {"yellow": 3, "all_red": 2, "min_green": 5, "max_green": 12}
    found = signals([STEPS * k for k in range(INTERVAL)], **times)
    for _ in range(2):
        found.request(np.array([[0]]), INTERVAL * STEPS)
    assert found.time_in_phase[0, 0] == 10
    windows = found.request(np.array([[1 + 4 * 4]]), INTERVAL * STEPS)
    main = CROSSING.network.index[CROSSING.intersections[0].phases[0][1][0]]
    assert windows[0, main, 1] == (2 + CROSSING.intersections[0].yellow_use) * STEPS
    assert found.clock[0, 0] == -2 * STEPS


def test_the_environment_takes_and_masks_a_phase_and_a_second():
    env = gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing", view="relative", change_step_s=1)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    assert env.action_space.n == 1 + 5
    plan = env.unwrapped.scenario.intersections[0]
    assert plan.min_green == 5
    assert env.unwrapped.action_masks().tolist() == [True] + [False] * 5
    env.step(0)
    assert env.unwrapped.action_masks().all()
    _, _, _, _, info = env.step(1 + 3)
    assert (info["phase"], info["changed"]) == (1, 1)
    remaining = plan.intergreen - (5 - 3)
    assert env.unwrapped.signals.clock[0, 0] == -remaining * env.unwrapped.signals.steps_per_second
    obs = dict(zip(env.unwrapped.observation_names, env.unwrapped.batch.observe()[0], strict=True))
    (changing,) = [value for name, value in obs.items() if name.endswith("changing")]
    assert changing == pytest.approx(remaining / plan.intergreen)
    assert env.unwrapped.action_masks().tolist() == [True] + [False] * 5
    env.step(0)
    assert env.unwrapped.action_masks().tolist() == [True] + [False] * 3 + [True] * 2
    with pytest.raises(ValueError, match="actions must be below"):
        env.unwrapped.step(6)


@pytest.mark.parametrize("step", [0, -1, 2, 2.5, 10])
def test_a_change_step_that_does_not_divide_the_interval_is_refused(step):
    with pytest.raises(ScenarioError, match="whole part of the decision interval of 5 s"):
        gymnasium.make("arz_model:TrafficSignal-v0", scenario="crossing", change_step_s=step)


def test_asking_for_a_later_second_plays_what_deciding_at_that_second_plays():
    class AfterSeconds:
        """Asks for a change 23, 43, 63, ... seconds after the beginning, in intervals of so many seconds."""

        def __init__(self, interval):
            self.interval, self.second = interval, 0

        def predict(self, obs, state, episode_start, deterministic):
            later = (3 - self.second) % 20
            asked = self.second >= 20 and later < self.interval
            self.second += self.interval
            return np.full((len(obs), 1), 1 + later if asked else 0), None

    plays = [
        Policy(AfterSeconds(interval), "agent", interval, {"view": "relative", "change_step_s": step})
        for interval, step in ((2, 1), (5, 1))
    ]
    prompt, late = (drive(policy, "crossing", range(2)).figures["delay_s"] for policy in plays)
    np.testing.assert_allclose(late, prompt, rtol=1e-12)
    assert prompt.min() > 1.0


@pytest.mark.parametrize("view", ["absolute", "relative"])
def test_every_action_asks_for_another_phase_and_moment(view):
    batch = TrafficBatch("crossing_four_phases", 1, device="cpu", view=view, change_step_s=1)
    batch.reset([0], [np.random.default_rng(0)])
    for present in range(4):
        batch.signals.phase[...] = present
        found = [batch.requests([action])[0, 0] for action in range(batch.n_actions[0])]
        at_once = range(4) if view == "absolute" else [(present + on) % 4 for on in range(4)]
        later = [(present + on) % 4 + 4 * moment for moment in range(1, INTERVAL) for on in range(1, 4)]
        assert found == [*at_once, *later]
        assert batch.action_masks().shape == (1, len(found))


def test_each_intersection_of_a_corridor_chooses_its_own_second():
    env = gymnasium.make("arz_model:TrafficSignal-v0", scenario="corridor", change_step_s=1).unwrapped
    n = len(env.scenario.intersections)
    assert env.action_space.nvec.tolist() == [2 + 4] * n
    env.reset(seed=0)
    env.step([0] * n)
    env.step([0, 1, 2, 3, 5][:n])
    intergreen = env.scenario.intersections[0].intergreen
    begun = [None, 0, 1, 2, 4][:n]
    clocks = env.signals.clock[0] / env.signals.steps_per_second
    assert clocks.tolist() == [10.0 if second is None else INTERVAL - intergreen - second for second in begun]
    assert env.signals.phase[0].tolist() == [0 if second is None else 1 for second in begun]
    assert env.action_masks().shape == (6 * n,)
