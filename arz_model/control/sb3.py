"""Many environments as one: stable-baselines3's VecEnv over the batched solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from arz_model.control.vector import TrafficSignalVectorEnv


class TrafficSignalVecEnv(VecEnv):
    """`n_envs` copies of TrafficSignalEnv in one process, stepped by one kernel call; no subprocesses.

    Takes the arguments of TrafficSignalEnv, and `n_threads`. Each copy does what a single environment of the same seed
    does, bit for bit; an ended episode's return and length stand in its last info as `episode`.
    """

    def __init__(self, n_envs: int, **kwargs: Any) -> None:
        self.vector = TrafficSignalVectorEnv(n_envs, **kwargs)
        """The same as gymnasium sees it."""
        self.render_mode = None
        self._actions = np.zeros(0)
        self._returns, self._lengths = np.zeros(n_envs), np.zeros(n_envs, np.int64)
        super().__init__(n_envs, self.vector.single_observation_space, self.vector.single_action_space)

    def reset(self) -> VecEnvObs:
        if any(seed is not None for seed in self._seeds):
            obs, _ = self.vector.reset(seed=self._seeds)
        else:
            obs, _ = self.vector.reset()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._returns[...], self._lengths[...] = 0.0, 0
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, _, over, info = self.vector.step(self._actions)
        infos: list[dict[str, Any]] = [{"queue": queue} for queue in info["queue"].tolist()]
        self._returns += rewards
        self._lengths += 1
        for place in np.nonzero(over)[0]:
            infos[place] |= {
                "terminal_observation": info["final_obs"][place],
                "TimeLimit.truncated": True,
                "episode": {"r": float(self._returns[place]), "l": int(self._lengths[place])},
            }
            self._returns[place], self._lengths[place] = 0.0, 0
        return obs, rewards.astype(np.float32), over.copy(), infos

    def close(self) -> None:
        """Nothing is open."""

    def reward_specification(self) -> str:
        """What the reward is, for the record of a run."""
        return self.vector.batch.reward_specification()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on: arrays and plain values."""
        return {**self.vector.state_dict(), "returns": self._returns.copy(), "lengths": self._lengths.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of as many environments of the same scenario, bit for bit."""
        self.vector.load_state_dict(state)
        self._returns[...], self._lengths[...] = state["returns"], state["lengths"]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self.vector, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise AttributeError(
            f"the environments of a batch share their attributes; {attr_name!r} cannot be set on some."
        )

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        if method_name != "action_masks":
            raise AttributeError(f"the environments of a batch have no method {method_name!r} of their own.")
        masks = self.vector.action_masks()
        return [masks[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        # SB3 asks for its Monitor: the returns that it would report are reported here.
        return [wrapper_class.__name__ == "Monitor" for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        return super().seed(seed)
