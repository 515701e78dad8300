"""What a training measures of itself, heard from stable-baselines3's callbacks and logger; all of it is exact state."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from kernel.training.metrics import RECENT_ROWS, WINDOW, Row, json_number, row_text


class LastLogged(KVWriter):
    """Keeps what the algorithm logged last; clocks are left out."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        for key, value in key_values.items():
            if not key.startswith("time/") and isinstance(value, (int, float, np.generic)):
                self.values[key] = float(value)

    def close(self) -> None:
        """Nothing is open."""


class StepStatistics(BaseCallback):
    """Sums since the last row, and the last WINDOW steps."""

    def __init__(self) -> None:
        super().__init__()
        self.logged = LastLogged()
        self.rewards: deque[float] = deque(maxlen=WINDOW)
        self.queues: deque[float] = deque(maxlen=WINDOW)
        self.actions: deque[int] = deque(maxlen=WINDOW)
        self.last_evaluation: dict[str, Any] = {}
        self.best_evaluation: float | None = None
        self.recent_rows: list[Row] = []
        self._reset_sums()

    def _reset_sums(self) -> None:
        self.steps, self.episodes, self.reward_sum, self.queue_sum, self.queue_count = 0, 0, 0.0, 0.0, 0

    @property
    def last_logged(self) -> dict[str, float]:
        """What the algorithm logged last."""
        return self.logged.values

    def make_logger(self) -> Logger:
        """A logger that writes here only."""
        return Logger(folder=None, output_formats=[self.logged])

    def _on_step(self) -> bool:
        rewards = self.locals["rewards"]
        infos = self.locals["infos"]
        # What the environment paid, not what VecNormalize made of it.
        original = getattr(self.training_env, "get_original_reward", None)
        reward = float(np.mean(original() if original else rewards))
        self.steps += 1
        self.reward_sum += reward
        self.rewards.append(reward)
        for info in infos:
            self.episodes += "episode" in info
        queues = [float(info["queue"]) for info in infos if "queue" in info]
        if queues:
            queue = sum(queues) / len(queues)
            self.queue_sum += queue
            self.queue_count += 1
            self.queues.append(queue)
        if isinstance(self.model.action_space, spaces.Discrete):
            self.actions.append(int(np.asarray(self.locals["actions"]).reshape(-1)[0]))
        return True

    def row(self) -> dict[str, Any]:
        """The row at this timestep."""
        model: Any = self.model
        row: dict[str, Any] = {
            "num_timesteps": model.num_timesteps,
            "reward": self.reward_sum / self.steps if self.steps else None,
            "episodes": self.episodes,
            "n_updates": model._n_updates,
            "progress_remaining": model._current_progress_remaining,
        }
        if self.queue_count:
            row["queue"] = self.queue_sum / self.queue_count
        if model.ep_info_buffer:
            row["ep_rew_mean"] = float(np.mean([e["r"] for e in model.ep_info_buffer]))
            row["ep_len_mean"] = float(np.mean([e["l"] for e in model.ep_info_buffer]))
        row.update(self.logged.values)
        row.update(self.last_evaluation)
        return {key: json_number(value) for key, value in row.items()}

    def close_row(self) -> dict[str, Any]:
        """The row at this timestep; the sums begin again."""
        row = self.row()
        self.recent_rows = [*self.recent_rows, (row["num_timesteps"], row_text(row))][-RECENT_ROWS:]
        self._reset_sums()
        return row

    def recent(self) -> dict[str, Any]:
        """Means over the last WINDOW steps, for progress."""
        means: dict[str, Any] = {}
        if self.rewards:
            means["reward"] = json_number(sum(self.rewards) / len(self.rewards))
        if self.queues:
            means["queue"] = json_number(sum(self.queues) / len(self.queues))
        return means

    def state(self) -> dict[str, Any]:
        """Everything above, as `load_state` wants it."""
        return {
            "n_calls": self.n_calls,
            "sums": [self.steps, self.episodes, self.reward_sum, self.queue_sum, self.queue_count],
            "rewards": np.array(self.rewards, np.float64),
            "queues": np.array(self.queues, np.float64),
            "actions": np.array(self.actions, np.int64),
            "logged": dict(self.logged.values),
            "pending": {k: float(v) for k, v in self.model.logger.name_to_value.items() if _is_kept(k, v)},
            "last_evaluation": dict(self.last_evaluation),
            "best_evaluation": self.best_evaluation,
            "recent_rows": [text for _, text in self.recent_rows],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.n_calls = state["n_calls"]
        self.steps, self.episodes, self.reward_sum, self.queue_sum, self.queue_count = state["sums"]
        self.rewards = deque(state["rewards"].tolist(), WINDOW)
        self.queues = deque(state["queues"].tolist(), WINDOW)
        self.actions = deque(state["actions"].tolist(), WINDOW)
        self.logged.values = dict(state["logged"])
        # train() records; the next dump, one rollout later, is what writes it.
        self.model.logger.name_to_value.clear()
        self.model.logger.name_to_value.update(state["pending"])
        self.last_evaluation = dict(state["last_evaluation"])
        self.best_evaluation = state["best_evaluation"]
        self.recent_rows = [(json.loads(text)["num_timesteps"], text) for text in state["recent_rows"]]


def _is_kept(key: str, value: Any) -> bool:
    return not key.startswith("time/") and isinstance(value, (int, float, np.generic))
