"""Whether anything can be learnt from an environment: what the incident's training never asked.

The traffic environment has its own examination, with the causes that traffic knows; any other gets the generic one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from kernel.contract.config import RunConfig

STEPS = 200
SECONDS = 3.0
SEQUENCES = 4
"""Action sequences that are compared, each from the same seed."""


class Finding(Protocol):
    """One question, and how the environment answered."""

    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    @property
    def evidence(self) -> str: ...
    @property
    def cause(self) -> str: ...


@dataclass(frozen=True)
class Answer:
    """One question, and how the environment answered."""

    name: str
    passed: bool
    evidence: str
    cause: str = ""


@dataclass
class Played:
    """What one sequence of actions led to."""

    observations: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    """Of the episodes that ended."""


def check(env: gymnasium.Env, run: RunConfig) -> Sequence[Finding]:
    """Examine `env` of `run`; it is reset and stepped."""
    if run.env.startswith("arz_model:"):
        from arz_model.control import health  # compiles: only for who asks for traffic

        return health.check_environment(env, seed=run.seed)
    return examine(env, seed=run.seed)


def examine(env: gymnasium.Env, *, seed: int = 0) -> tuple[Answer, ...]:
    """Four sequences of actions from one seed: do observations, rewards and returns tell them apart?"""
    played = [_play(env, choose, seed) for choose in _choices(env.action_space, seed)]
    observations = [obs for one in played for obs in one.observations]
    rewards = [reward for one in played for reward in one.rewards]
    steps = f"{len(rewards)} steps"
    return (
        _finite(observations, rewards, steps),
        _within(env.observation_space, observations, steps),
        _observation_varies(observations, steps),
        _reward_varies(played, rewards, steps),
        _actions_matter(env.action_space, played),
    )


def _choices(space: spaces.Space, seed: int) -> list[Callable[[int], Any]]:
    """Always the first action, always the last, and two random sequences."""
    ends: list[Callable[[int], Any]] = []
    if isinstance(space, spaces.Discrete):
        first, last = space.start, space.start + space.n - 1
        ends = [lambda t: first, lambda t: last]
    elif isinstance(space, spaces.Box) and space.is_bounded():
        ends = [lambda t: space.low, lambda t: space.high]

    def random(number: int) -> Callable[[int], Any]:
        space.seed(seed + number)
        drawn = [space.sample() for _ in range(STEPS)]
        return lambda t: drawn[t]

    return ends + [random(number) for number in range(SEQUENCES - len(ends))]


def _play(env: gymnasium.Env, choose: Callable[[int], Any], seed: int) -> Played:
    played, total = Played(), 0.0
    obs, _ = env.reset(seed=seed)
    played.observations.append(_flat(obs, env))
    deadline = time.monotonic() + SECONDS / SEQUENCES
    for t in range(STEPS):
        obs, reward, terminated, truncated, _ = env.step(choose(t))
        played.observations.append(_flat(obs, env))
        played.rewards.append(float(reward))
        total += float(reward)
        if terminated or truncated:
            played.returns.append(total)
            total = 0.0
            obs, _ = env.reset()
            played.observations.append(_flat(obs, env))
        if time.monotonic() > deadline and t >= 10:
            break
    return played


def _flat(obs: Any, env: gymnasium.Env) -> tuple[bool, Any]:
    """Whether it lies in its space, and its numbers."""
    space = env.observation_space
    inside = space.contains(obs)
    numbers = spaces.flatten(space, obs) if inside else np.ravel(np.asarray(obs, dtype=object))
    return inside, np.array(numbers)


def _finite(observations: list[Any], rewards: list[float], steps: str) -> Answer:
    bad = sum(not np.all(np.isfinite(numbers.astype(float))) for inside, numbers in observations if inside)
    wrong = [reward for reward in rewards if not np.isfinite(reward)]
    if bad or wrong:
        evidence = f"in {steps}, {bad} observations and {len(wrong)} rewards are not finite"
        return Answer("finite", False, evidence, "a division by zero, an overflow, or a state that was never set")
    return Answer("finite", True, f"every number over {steps}")


def _within(space: spaces.Space, observations: list[Any], steps: str) -> Answer:
    outside = [numbers for inside, numbers in observations if not inside]
    if outside:
        shown = np.array2string(np.asarray(outside[0], dtype=object)[:8], threshold=8)
        evidence = f"{len(outside)} of {len(observations)} observations are not in {space}, such as {shown}"
        return Answer("within_space", False, evidence, "its shape, dtype or bounds are not what the environment gives")
    return Answer("within_space", True, f"all {len(observations)} observations")


def _observation_varies(observations: list[Any], steps: str) -> Answer:
    different = len({numbers.tobytes() for inside, numbers in observations if inside})
    if different <= 1 < len(observations) and all(inside for inside, _ in observations):
        return Answer(
            "observation_varies",
            False,
            f"it is the same in all of {steps}",
            "the state is not advanced, or is not what is observed",
        )
    return Answer("observation_varies", True, f"{different} different ones")


def _reward_varies(played: list[Played], rewards: list[float], steps: str) -> Answer:
    returns = {total for one in played for total in one.returns}
    if len(set(rewards)) == 1 and len(returns) <= 1:
        return Answer(
            "reward_varies",
            False,
            f"the reward is {rewards[0]:g} in each of {steps}, whatever is done",
            "there is nothing to learn from; where the reward comes only later, `--waive environment`",
        )
    if len(set(rewards)) == 1:
        return Answer("reward_varies", True, f"it is always {rewards[0]:g}, and episode returns differ")
    return Answer("reward_varies", True, f"between {min(rewards):.4g} and {max(rewards):.4g}")


def _actions_matter(space: spaces.Space, played: list[Played]) -> Answer:
    if getattr(space, "n", 2) == 1:
        return Answer("actions_matter", True, "there is one action only")
    different = len({(tuple(one.rewards), tuple(one.returns)) for one in played})
    if different == 1:
        return Answer(
            "actions_matter",
            False,
            f"{len(played)} different action sequences from one seed earned exactly the same",
            "the action never reaches what the reward is computed from",
        )
    return Answer("actions_matter", True, f"{different} of {len(played)} action sequences earn differently")
