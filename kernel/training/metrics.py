"""What a training measures of itself: a row of numbers at every multiple of `checkpoint_freq`.

Rows depend on the training alone, never on clocks or on which checkpoints were written, so a run that was killed and
resumed writes the same bytes as one that was not. Everything kept here is part of the exact state.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from kernel.checkpoints import digests
from kernel.contract.files import write_aside

Row = tuple[int, str]
"""A row's timestep and its line."""
RECENT_ROWS = 100
"""Rows that travel inside a checkpoint: those that the file on the disk may lack after a kill."""
WINDOW = 200
"""Vector steps that progress and health look back on."""


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
        return {key: _json_number(value) for key, value in row.items()}

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
            means["reward"] = _json_number(sum(self.rewards) / len(self.rewards))
        if self.queues:
            means["queue"] = _json_number(sum(self.queues) / len(self.queues))
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


def _json_number(value: Any) -> Any:
    """`value` as JSON holds it; what is no number becomes a word, because NaN must be seen, not lost."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def row_text(row: dict[str, Any]) -> str:
    """One line of the file."""
    return json.dumps(row, sort_keys=True, allow_nan=False) + "\n"


def read_rows(text: str) -> dict[int, str]:
    """Lines of a metrics file by timestep; a torn last line is left out."""
    rows: dict[int, str] = {}
    for line in text.splitlines():
        try:
            rows[int(json.loads(line)["num_timesteps"])] = line + "\n"
        except (ValueError, KeyError, TypeError):
            continue
    return rows


class MetricsFile:
    """`metrics.jsonl`: every row up to the newest checkpoint, re-created from checkpoints where it lacks some."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.newest = -1

    def begin(self, num_timesteps: int, sources: Iterable[str]) -> None:
        """Rows of all `sources` up to `num_timesteps`, later sources first choice; the file is replaced at once."""
        rows: dict[int, str] = {}
        for text in sources:
            rows.update(read_rows(text))
        kept = {t: line for t, line in sorted(rows.items()) if t <= num_timesteps}
        self.newest = max(kept, default=-1)
        write_aside(self.path, "".join(kept.values()).encode())

    def append(self, rows: Iterable[Row]) -> None:
        """Add the rows that are newer than what is there."""
        fresh = [row for row in rows if row[0] > self.newest]
        if fresh:
            digests.append_lines(self.path, "".join(text for _, text in fresh))
            self.newest = fresh[-1][0]
