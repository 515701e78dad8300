"""Many environments as one: gymnasium's vector interface over the batched solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from arz_model.control.batch import TrafficBatch, pack_generator, set_generator
from arz_model.control.env import make_spaces


class TrafficSignalVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """`num_envs` copies of TrafficSignalEnv in one process, stepped by one kernel call.

    Each copy does what a single environment of the same seed does, bit for bit. Takes that environment's arguments, and
    `n_threads`. A copy whose episode ends is reset in the same step: its last observation is in `info["final_obs"]`.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **kwargs: Any) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1; got {num_envs}.")
        if render_mode is not None:
            raise ValueError(f"a batch has no rendering; render_mode must be None, got {render_mode!r}.")
        self.render_mode = None
        self.num_envs = num_envs
        self.batch = TrafficBatch(n=num_envs, **kwargs)
        # Batching a space seeds it from the system's entropy: the single ones are kept apart.
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in make_spaces(self.batch))
        self.single_observation_space, self.single_action_space = make_spaces(self.batch)
        self.generators = [np.random.Generator(np.random.PCG64()) for _ in range(num_envs)]
        """One for each copy; what its episodes are drawn from."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if isinstance(seed, int):
            seed = [seed + place for place in range(self.num_envs)]
        seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be a number or {self.num_envs} of them; got {len(seeds)}.")
        for place, value in enumerate(seeds):
            if value is not None:
                self.generators[place] = np.random.Generator(np.random.PCG64(value))
        mask = (options or {}).get("reset_mask")
        places = np.arange(self.num_envs) if mask is None else np.nonzero(mask)[0]
        self.batch.reset(places, [self.generators[place] for place in places])
        return self.batch.observe(), {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        done = self.batch.step(self.batch.requests(actions))
        info: dict[str, Any] = {"queue": self.batch.queued(done.measured)}
        info["_queue"] = np.ones(self.num_envs, bool)
        obs = done.obs
        if done.over.any():
            places = np.nonzero(done.over)[0]
            final = np.full(self.num_envs, None, object)
            for place in places:
                final[place] = done.obs[place]
            info |= {"final_obs": final, "_final_obs": done.over.copy(), "final_info": {}, "_final_info": done.over}
            self.batch.reset(places, [self.generators[place] for place in places])
            obs = self.batch.observe()
        return obs, done.rewards, np.zeros(self.num_envs, bool), done.over, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(B, n) which actions would not be held."""
        return self.batch.action_masks()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on: arrays and plain values."""
        words = np.stack([pack_generator(generator) for generator in self.generators])
        return {**self.batch.state_dict(), "generators": words}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of as many environments of the same scenario, bit for bit."""
        self.batch.load_state_dict(state)
        for generator, words in zip(self.generators, np.asarray(state["generators"], np.uint64), strict=True):
            set_generator(generator, words)
