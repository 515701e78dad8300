"""Every wrapper of gymnasium.wrappers around an environment that shows what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch as th
from gymnasium import spaces, wrappers

PICTURE = {"render_mode": "rgb_array"}
POLE, CLIMB, SWING = "CartPole-v1", "MountainCarContinuous-v0", "Pendulum-v1"


class Pictures(gymnasium.Env):
    """A picture in which a light moves, and a picture of it for whoever renders."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 30}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.render_mode, self.place, self.steps = render_mode, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(30)), 0
        return self.render(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.place = (self.place + 1 + 2 * int(action) + int(self.np_random.integers(2))) % 36
        return self.render(), float(self.place % 7), False, self.steps >= 12, {}

    def render(self) -> Any:
        picture = np.zeros((36, 36, 3), np.uint8)
        picture[self.place, :, self.steps % 3] = 200
        return picture


class _Moody(gymnasium.Wrapper):
    """Rewards that hang on what came before."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.mood = 0.0

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        self.mood = 0.9 * self.mood + float(np.sum(action))
        return obs, float(reward) + 0.1 * self.mood, *rest


class _Dictionary(gymnasium.ObservationWrapper):
    """Observations by name."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"seen": env.observation_space, "sum": spaces.Box(-99, 99, (1,))})

    def observation(self, observation: Any) -> Any:
        return {"seen": observation, "sum": np.array([observation.sum()], np.float32)}


def _make(name: str, **options: Any) -> gymnasium.Env:
    return _Moody(gymnasium.make(name, **options))


def _counted() -> Callable[[Any], Any]:
    """A function that remembers how often it was called."""
    calls = [0]

    def counted(value: Any) -> Any:
        calls[0] += 1
        return value * (1.0 + 0.01 * (calls[0] % 5))

    return counted


def _transformed_observation() -> gymnasium.Env:
    env = _make(POLE)
    counted = _counted()
    return wrappers.TransformObservation(env, lambda obs: counted(obs).astype(np.float32), env.observation_space)


def _transformed_action() -> gymnasium.Env:
    env = _make(CLIMB)
    return wrappers.TransformAction(env, _counted(), env.action_space)


def _clipped() -> gymnasium.Env:
    """Actions from a finite space, which stable-baselines3 asks for, and beyond what the environment takes."""
    clipped = wrappers.ClipAction(_make(CLIMB))
    return wrappers.TransformAction(clipped, lambda action: 2 * action, spaces.Box(-1.0, 1.0, (1,), np.float32))


def _atari() -> gymnasium.Env:
    import ale_py

    gymnasium.register_envs(ale_py)
    return wrappers.AtariPreprocessing(gymnasium.make("ALE/Pong-v5", frameskip=1), screen_size=36)


class _Shown(gymnasium.Wrapper):
    """Renders itself at each step, as whoever watches would."""

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        frames = self.env.render()
        return obs, float(reward) + len(frames) % 5, *rest


class _OfTensors(gymnasium.Wrapper):
    """Arrays outside, tensors inside."""

    def reset(self, **options: Any) -> Any:
        obs, info = self.env.reset(**options)
        return obs.numpy(), info

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(th.as_tensor(action))
        return obs.numpy(), *rest


def _drawn(env: gymnasium.Env) -> gymnasium.Env:
    """What is rendered is what is seen."""
    return wrappers.AddRenderObservation(env, render_only=True)


def _framed(wrapper: Callable[..., gymnasium.Env], **options: Any) -> Callable[[], gymnasium.Env]:
    return lambda: wrapper(Pictures(), **options)


FACTORIES: dict[str, Callable[[], gymnasium.Env]] = {
    "AddRenderObservation": lambda: _drawn(Pictures()),
    "AddWhiteNoise": lambda: _drawn(wrappers.AddWhiteNoise(Pictures(), 0.2)),
    "ArrayConversion": lambda: wrappers.ArrayConversion(_make(POLE), np, np),
    "AtariPreprocessing": _atari,
    "Autoreset": lambda: wrappers.Autoreset(_make(POLE)),
    "ClipAction": _clipped,
    "ClipReward": lambda: wrappers.ClipReward(_make(SWING), -3.0, 0.5),
    "DelayObservation": lambda: wrappers.DelayObservation(_make(POLE), 3),
    "DiscretizeAction": lambda: wrappers.DiscretizeAction(_make(CLIMB), 5),
    "DiscretizeObservation": lambda: wrappers.DiscretizeObservation(_make(SWING), 4),
    "DtypeObservation": lambda: wrappers.DtypeObservation(_make(POLE), np.float64),
    "FilterObservation": lambda: wrappers.FilterObservation(_Dictionary(_make(POLE)), ["seen"]),
    "FlattenObservation": lambda: wrappers.FlattenObservation(_Dictionary(_make(POLE))),
    "FrameStackObservation": lambda: wrappers.FrameStackObservation(_make(POLE), 3),
    "GrayscaleObservation": _framed(wrappers.GrayscaleObservation),
    "HumanRendering": lambda: wrappers.HumanRendering(Pictures()),
    "MaxAndSkipObservation": lambda: wrappers.MaxAndSkipObservation(_make(POLE), 2),
    "NormalizeObservation": lambda: wrappers.NormalizeObservation(_make(POLE)),
    "NormalizeReward": lambda: wrappers.NormalizeReward(_make(SWING)),
    "NumpyToTorch": lambda: _OfTensors(wrappers.NumpyToTorch(_make(CLIMB))),
    "ObstructView": lambda: _drawn(wrappers.ObstructView(Pictures(), 0.2, 4)),
    "OrderEnforcing": lambda: wrappers.OrderEnforcing(_make(POLE)),
    "PassiveEnvChecker": lambda: wrappers.PassiveEnvChecker(_make(POLE)),
    "RecordEpisodeStatistics": lambda: wrappers.RecordEpisodeStatistics(_make(POLE)),
    "RecordVideo": lambda: wrappers.RecordVideo(Pictures(), "videos", episode_trigger=lambda number: number == 1),
    "RenderCollection": lambda: _Shown(wrappers.RenderCollection(Pictures(), pop_frames=False)),
    "RepeatAction": lambda: wrappers.RepeatAction(_make(POLE), 2),
    "RescaleAction": lambda: wrappers.RescaleAction(_make(SWING), -1.0, 1.0),
    "RescaleObservation": lambda: wrappers.RescaleObservation(_make(SWING), 0.0, 1.0),
    "ReshapeObservation": lambda: wrappers.ReshapeObservation(_make(POLE), (2, 2)),
    "ResizeObservation": _framed(wrappers.ResizeObservation, shape=(18, 18)),
    "StickyAction": lambda: wrappers.StickyAction(_make(POLE), 0.3),
    "TimeAwareObservation": lambda: wrappers.TimeAwareObservation(_make(POLE)),
    "TimeLimit": lambda: wrappers.TimeLimit(_make(SWING), 13),
    "TransformAction": _transformed_action,
    "TransformObservation": _transformed_observation,
    "TransformReward": lambda: wrappers.TransformReward(_make(SWING), _counted()),
    # Whose observation stable-baselines3 takes only when it is flat.
    "Blackjack": lambda: wrappers.FlattenObservation(gymnasium.make("Blackjack-v1")),
    # Several at once, as people stack them.
    "Stacked": lambda: wrappers.FrameStackObservation(
        wrappers.NormalizeObservation(wrappers.NormalizeReward(wrappers.StickyAction(_make(POLE), 0.2))), 4
    ),
}
"""Name of a wrapper -> a new environment with it."""
NEEDS: dict[str, tuple[str, ...]] = {
    "ArrayConversion": ("array_api_compat",),
    "AtariPreprocessing": ("ale_py", "cv2"),
    "HumanRendering": ("pygame",),
    "NumpyToTorch": ("array_api_compat",),
    "RecordVideo": ("moviepy",),
    "ResizeObservation": ("cv2",),
}
NOT_WRAPPED = {
    "JaxToNumpy": "its environment computes with jax",
    "JaxToTorch": "its environment computes with jax, and it gives tensors, which stable-baselines3 does not take",
    "vector": "its wrappers take gymnasium's VectorEnv, and stable-baselines3 steps a VecEnv of its own",
}
"""What else is in gymnasium.wrappers, and why it is not in FACTORIES."""


def __getattr__(name: str) -> Callable[[], gymnasium.Env]:
    try:
        return FACTORIES[name]
    except KeyError:
        raise AttributeError(name) from None
