"""Many environments in one kernel call: both official interfaces, and each copy as if it were alone."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import arz_model  # noqa: F401  (registers the environment)
from arz_model.control import scenarios
from arz_model.control.sb3 import TrafficSignalVecEnv

ENV = "arz_model:TrafficSignal-v0"
N = 5


def actions_of(env, rng, n):
    space = env.unwrapped.single_action_space if hasattr(env, "single_action_space") else env.action_space
    high = space.nvec if hasattr(space, "nvec") else [space.n]
    return rng.integers(0, high, (n, len(high)))


@pytest.mark.parametrize("scenario", scenarios.available())
def test_each_copy_does_what_one_environment_of_its_seed_does(scenario, rng):
    """Observations, rewards, ends and the next episodes, bit for bit."""
    vector = gymnasium.make_vec(ENV, num_envs=N, scenario=scenario, device="cpu", duration_s=40)
    singles = [gymnasium.make(ENV, scenario=scenario, device="cpu", duration_s=40) for _ in range(N)]
    obs, _ = vector.reset(seed=7)
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=7 + i)[0], obs[i])
    for _ in range(20):
        actions = actions_of(vector, rng, N)
        given = actions if actions.shape[1] > 1 else actions[:, 0]
        obs, rewards, terminated, truncated, info = vector.step(given)
        assert not terminated.any()
        for i, env in enumerate(singles):
            alone, reward, _, over, _ = env.step(given[i])
            assert (reward, over) == (rewards[i], truncated[i])
            if over:
                np.testing.assert_array_equal(alone, info["final_obs"][i])
                alone, _ = env.reset()
            np.testing.assert_array_equal(alone, obs[i])


def test_stable_baselines3_sees_the_same_as_from_its_own_vectorisation(rng):
    """Observations, rewards, terminal observations, episode returns: against DummyVecEnv with Monitor."""
    kwargs = {"scenario": "crossing", "device": "cpu", "duration_s": 30}
    ours = TrafficSignalVecEnv(N, **kwargs)
    theirs = DummyVecEnv([lambda: Monitor(gymnasium.make(ENV, **kwargs))] * N)
    for venv in (ours, theirs):
        venv.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ended = 0
    for _ in range(15):
        actions = rng.integers(0, 2, N)
        a, b = ours.step(actions), theirs.step(actions)
        for x, y in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype
        for x, y in zip(a[3], b[3], strict=True):
            assert x["queue"] == y["queue"]
            assert x.get("TimeLimit.truncated", False) == y["TimeLimit.truncated"]
            if "episode" in y:
                ended += 1
                np.testing.assert_array_equal(x["terminal_observation"], y["terminal_observation"])
                assert x["episode"]["r"] == pytest.approx(y["episode"]["r"], abs=1e-6)
                assert x["episode"]["l"] == y["episode"]["l"]
    assert ended == 2 * N


def test_batch_continues_from_its_saved_state_bit_for_bit(rng):
    ours, copy = (TrafficSignalVecEnv(N, scenario="crossing", device="cpu", random_start=True) for _ in range(2))
    ours.seed(1), copy.seed(2)
    ours.reset(), copy.reset()
    for _ in range(int(rng.integers(5, 50))):
        ours.step(rng.integers(0, 2, N))
    copy.load_state_dict(ours.state_dict())
    for _ in range(800):
        actions = rng.integers(0, 2, N)
        a, b = ours.step(actions), copy.step(actions)
        for x, y in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(x, y)


def test_random_start_spreads_the_ends_of_first_episodes():
    venv = TrafficSignalVecEnv(32, scenario="quick", device="cpu", duration_s=100, random_start=True)
    venv.seed(0)
    venv.reset()
    first_end = np.zeros(32, int)
    for k in range(1, 41):
        _, _, over, _ = venv.step(np.zeros(32, int))
        first_end[over & (first_end == 0)] = k
    assert len(set(first_end)) > 10
    assert first_end.max() <= 20


def test_gymnasium_makes_the_native_batch():
    vector = gymnasium.make_vec(ENV, num_envs=3, scenario="quick", device="cpu")
    assert type(vector.unwrapped).__name__ == "TrafficSignalVectorEnv"
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    obs, _ = vector.reset(seed=[5, 6, 5])
    np.testing.assert_array_equal(obs[0], obs[2])
    assert vector.observation_space.contains(obs)


def test_ppo_learns_on_the_batch_without_a_wrapper():
    venv = TrafficSignalVecEnv(8, scenario="quick", device="cpu", duration_s=100)
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(512)
    assert len(model.ep_info_buffer) == 24
    assert all(episode["l"] == 20 for episode in model.ep_info_buffer)


def test_masks_name_the_actions_that_would_be_held():
    venv = TrafficSignalVecEnv(1, scenario="crossing_four_phases", device="cpu")
    venv.reset()
    held = venv.env_method("action_masks")[0]
    assert held.tolist() == [True, False, False, False]
    venv.step(np.array([2]))
    assert venv.env_method("action_masks")[0].tolist() == [True] * 4
    venv.step(np.array([2]))
    assert venv.env_method("action_masks")[0].tolist() == [False, False, True, False]


def test_an_action_that_names_no_phase_is_refused():
    venv = TrafficSignalVecEnv(2, scenario="quick", device="cpu")
    venv.reset()
    with pytest.raises(ValueError, match="actions must be below \\[2\\]"):
        venv.step(np.array([0, 2]))
