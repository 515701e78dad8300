"""stable-baselines3 as a `kernel.training.learner.Learner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from kernel.contract.config import RunConfig
from kernel.training import environments, evaluation
from kernel.training.environment_state import Beat, EnvironmentState
from kernel.training.learner import Measured, Rows
from kernel.training.sb3 import algorithms, exact_state, members, replay, speed, unkept
from kernel.training.sb3.statistics import StepStatistics


class StableBaselines3Learner:
    """An algorithm of stable-baselines3 or sb3-contrib with a consistent point."""

    def __init__(self, run: RunConfig, venv: VecEnv, device: str, way: str = "", because: str = "") -> None:
        self.model = algorithms.make_model(run, venv, device)
        self.statistics = StepStatistics()
        self.model.set_logger(self.statistics.make_logger())
        self.statistics.init_callback(self.model)
        self.total_timesteps = algorithms.rounded_total(run, self.model)
        self.update_timesteps = int(getattr(self.model, "n_steps", 1)) * int(self.model.n_envs)
        self.buffer_size = int(self.model.replay_buffer.buffer_size) if replay.has_replay(self.model) else 0
        self._run, self._venv, self._device = run, venv, device
        self._environment_state = EnvironmentState(venv, environments.source_modules(run), way, because)
        self._constant_data = members.constant_data(self.model)
        self._restored: dict[str, Any] | None = None

    @classmethod
    def make(cls, run: RunConfig, device: str, way: str = "", because: str = "") -> StableBaselines3Learner:
        """A fresh one, at timestep 0."""
        return cls(run, environments.make_environments(run, device), device, way, because)

    @classmethod
    def measure(cls, run: RunConfig, device: str) -> Measured:
        """How fast it goes on this machine."""
        return speed.measure(run, device)

    @property
    def num_timesteps(self) -> int:
        """Done so far."""
        return int(self.model.num_timesteps)

    @property
    def n_actions(self) -> int:
        """How many actions there are to choose from; 0 where they are no choice."""
        return int(getattr(self.model.action_space, "n", 0))

    def returns(self) -> list[float]:
        """Of the last episodes."""
        return [episode["r"] for episode in self.model.ep_info_buffer]

    def details(self) -> dict[str, str]:
        """Spaces and reward of the environments."""
        return {
            "observation_space": str(self._venv.observation_space),
            "action_space": str(self._venv.action_space),
            "reward": environments.reward_source(self._venv),
        }

    def members(self, state: Mapping[str, Any]) -> dict[str, bytes]:
        """What `stable_baselines3.PPO.load` reads."""
        return members.members(self._constant_data, state)

    def capture(self, training: Any) -> dict[str, Any]:
        """The whole state at this instant."""
        return exact_state.capture(self.model, self._environment_state, training)

    def unkept(self) -> dict[str, str]:
        """Attributes of networks and optimizers of the user's own classes."""
        return unkept.unkept(self.model)

    def what_was_lost(self, state: Mapping[str, Any]) -> str:
        """Why the environments of a captured state cannot be put back; empty where they can."""
        return exact_state.what_was_lost(state)

    def require_whole(self, state: Any, training: Any) -> None:
        """Raise CheckpointInvalid unless `state` has the form of what `capture` gives of a fresh training."""
        exact_state.require_whole(self.model, self._environment_state, state, training)

    def restore(self, state: dict[str, Any], beat: Beat, new_episodes: str = "") -> str:
        """Put `state` back; why its episodes are new ones, empty where they go on."""
        if lost := exact_state.what_was_lost(state) or new_episodes or self._environment_state.because:
            state = exact_state.with_new_episodes(self.model, state)
        exact_state.restore(self.model, self._environment_state, state, beat)
        self.statistics.load_state(state["training"]["statistics"])
        self.model.resumes_inside_rollout = True
        self._restored = state
        return lost

    def restore_again(self) -> dict[str, Any] | None:
        """Undo what `learn` changed on the way to its first step; what must be there, if its episodes go on."""
        state, self._restored = self._restored, None
        if state is None:
            return None
        # Nothing since they were put back steps the environments.
        exact_state.restore(self.model, self._environment_state, {**state, "environments": None})
        self.statistics.load_state(state["training"]["statistics"])
        return None if state["environments"] is None else state

    @property
    def rows_done(self) -> int:
        """Rows that the replay buffer took in since the run began, one a step of all environments."""
        return replay.rows_done(self.model)

    def copy_rows(self, first: int, last: int) -> Rows:
        """Copies of rows [first, last) of the replay buffer, which must all be in it still."""
        return replay.copy_rows(self.model, first, last)

    def put_rows(self, first: int, rows: Rows, num_rows: int) -> None:
        """Put `rows`, which begin at `first`, where they were when the buffer had taken in `num_rows`."""
        replay.put_rows(self.model, first, rows, num_rows)

    def evaluate(self, beat: Beat) -> dict[str, float]:
        """Scores on environments of its own, leaving no trace in the training; `beat` is called at each step."""
        return evaluation.evaluate(self.model, self._run, self._device, beat)

    def learn(self, at_point: Callable[[], None], updating: Callable[[], None]) -> None:
        """Learn to the end; `at_point` is called at the consistent point of each step, `updating` in each update."""
        model, total = self.model, self.total_timesteps
        model.at_consistent_point = at_point
        model.call_while_updating(updating)
        if self._restored is None:
            model.learn(total, self.statistics, log_interval=1)
        else:
            # Inside a rollout that ends after the total the loop must be entered all the same.
            model.num_timesteps = min(model.num_timesteps, total - 1)
            left = total - model.num_timesteps
            model.learn(left, self.statistics, log_interval=1, reset_num_timesteps=False)
        model.collected_steps = model.collected_episodes = 0

    def close(self) -> None:
        """Close the environments."""
        self._venv.close()
