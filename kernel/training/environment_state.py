"""The whole state of the environments of a training, taken and put back; several ways, the first that works.

contract
    `env.unwrapped.state_dict()` and `load_state_dict(d)`: the environment says itself what its state is. What lies
    around it, wrappers, generators, the globals of the run's own modules, is taken as a graph.
graph
    Everything that Python can see, with identity: `kernel.training.state_graph`.
actions
    For what Python cannot see: the graph at the beginning of the episode, and the actions since. The environment is
    brought to that beginning and stepped again, and then whatever can be seen is set right.

visible
    What Python can see and nothing else, where it was proved that this is enough.
none
    Nothing, where it was shown that none of the others leads to the same training again.

Where none works the state says why, and a resume from it begins new episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from kernel.contract.config import STATE_WAYS
from kernel.contract.manifest import CheckpointInvalid
from kernel.training import codec
from kernel.training.environments import base_of
from kernel.training.state_graph.graph import StateGraph
from kernel.training.state_graph.nodes import NotRestorable

MAX_REPEATED_ACTIONS = 100_000
_KEPT_BY_0_1 = {"envs", "batch", "normalize"}
Beat = Callable[[], None]


class ActionLog(gymnasium.Wrapper):
    """Remembers what leads from the beginning of the episode to here."""

    def __init__(self, env: gymnasium.Env, own_modules: list[str], place: str = "") -> None:
        super().__init__(env)
        self._graph = StateGraph(_named_layers(env, place), own_modules)
        self._begins: dict[str, Any] | None = None
        self._reset_arguments: dict[str, Any] | None = None
        self._actions: list[Any] = []
        self._obs: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        before = self._graph.take()
        self._obs, info = self.env.reset(**kwargs)
        after = self._graph.take()
        # A graph that seems to hold all of it and is not trusted may miss what nothing leads to: the reset makes it.
        is_from_reset = bool(after["left"]) or not before["left"]
        self._reset_arguments = dict(kwargs) if is_from_reset else None
        self._begins, self._actions = (before if is_from_reset else after), []
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if len(self._actions) <= MAX_REPEATED_ACTIONS:
            self._actions.append(np.array(action))
        self._obs, reward, terminated, truncated, info = self.env.step(action)
        return self._obs, reward, terminated, truncated, info

    def record(self) -> dict[str, Any]:
        """What `repeat` needs.

        Raises
        ------
        NotRestorable
            The episode is too long for it.
        """
        if self._begins is None:
            raise NotRestorable(f"{type(self.env.unwrapped).__qualname__} came to hold what Python cannot see.")
        if len(self._actions) > MAX_REPEATED_ACTIONS:
            raise NotRestorable(
                f"{type(self.env.unwrapped).__qualname__} holds what Python cannot see, and its episode has more than "
                f"{MAX_REPEATED_ACTIONS:,} steps. Give it state_dict() and load_state_dict()."
            )
        actions = np.stack(self._actions) if self._actions else np.zeros(0)
        return {"begins": self._begins, "reset": self._reset_arguments, "actions": actions, "obs": self._obs}

    @property
    def length(self) -> int:
        """Actions since the beginning of the episode."""
        return len(self._actions)

    def repeat(self, record: dict[str, Any], beat: Beat) -> None:
        """Bring the environment to the beginning of its episode and step it again; it must end where it did."""
        self._begins, self._reset_arguments, self._actions = record["begins"], record["reset"], list(record["actions"])
        put_after_reset(self._graph, self._begins, self.env.reset)
        if self._reset_arguments is not None:
            self.env.reset(**self._reset_arguments)
        obs = None
        for action in self._actions:
            obs, *_ = self.env.step(action if action.shape else action[()])
            beat()
        self._obs = record["obs"]
        if self._actions and codec.encode(obs) != codec.encode(record["obs"]):
            name, left = type(self.env.unwrapped).__qualname__, self._begins["left"]
            why = f": {_said_of(left)}" if left else "."
            raise NotRestorable(f"Repeating {len(self._actions):,} actions of an episode of {name} led elsewhere{why}")


class EnvironmentState:
    """The state of the environments of one training, which were just made.

    Parameters
    ----------
    way : str
        One of STATE_WAYS, or empty to find out. Environments that are stepped together tell their state or have none.
    because : str
        Why it is `none`.
    """

    def __init__(self, venv: VecEnv, own_modules: list[str], way: str = "", because: str = "") -> None:
        self._venv = venv
        self._base = base_of(venv)
        self._own_modules = [*own_modules, *(type(env.unwrapped).__module__ for env in getattr(self._base, "envs", ()))]
        self._envs: list[gymnasium.Env] = list(getattr(self._base, "envs", ()))
        self.because = (because or "the state of its environments is not kept") if way == "none" else ""
        """Why nothing is kept; empty where something is."""
        self.way = ""
        """How the state is taken: one of STATE_WAYS."""
        self._told: dict[str, Any] = {}
        self._arrange(way or ("contract" if self._batched or any(_that_tell(self._envs)) else "actions"))
        self._is_decided = bool(way or self._told)

    def take(self) -> dict[str, Any]:
        """The state of all environments, and of the reward normalisation; copies throughout.

        Where there is no way to the state of one, `lost` says why, and of all of them nothing is kept.
        """
        state: dict[str, Any] = {"way": self.way, "told": {}, "graph": None, "episodes": []}
        state["normalize"] = _normalisation(self._venv)
        try:
            if self.because:
                raise NotRestorable(self.because)
            state["told"] = {name: _told_by(owner) for name, owner in self._told.items()}
            state["graph"] = self._graph.take()
            self._decide(left := state["graph"]["left"])
            state["way"] = self.way
            if self.way == "graph" and left:
                self._go("actions")  # which holds from the next episodes on
                raise NotRestorable(_said_of(left))
            if self.way == "actions":
                state["episodes"] = [log.record() for log in self._logs()]
        except NotRestorable as error:
            state |= {"told": {}, "graph": None, "episodes": [], "lost": str(error)}
        return state

    def put(self, state: dict[str, Any], beat: Beat = lambda: None) -> None:
        """Put back what `take` took, in this process or another; `beat` is called while actions are repeated.

        Raises
        ------
        NotRestorable
            It was lost when it was taken, or the environments do not take it.
        """
        if lost := self.because or why_lost(state):
            raise NotRestorable(lost)
        try:
            self._is_decided = True
            self._arrange(state["way"])
            for log, record in zip(self._logs(), state["episodes"], strict=True):
                log.repeat(record, beat)
            for name, owner in self._told.items():
                owner.load_state_dict(state["told"][name]["state"])
                if (generator := state["told"][name]["np_random"]) is not None:
                    owner.np_random.bit_generator.state = generator
        except NotRestorable:
            raise
        except Exception as error:  # whatever the researcher's code raises of a state that it does not take
            name = type(error).__name__
            raise NotRestorable(f"The state of its environments could not be put back ({name}: {error}).") from error
        put_after_reset(self._graph, state["graph"], *(env.reset for env in self._envs))
        put_normalisation(self._venv, state)
        # Seeds and options count for the first reset of a run only.
        self._base._reset_seeds()
        self._base._reset_options()

    def require_whole(self, state: Any) -> None:
        """Look whether `state` has the form of what `take` gives.

        Raises
        ------
        CheckpointInvalid
            It has not.
        """
        if isinstance(state, dict) and set(state) - {"lost"} == _KEPT_BY_0_1:
            return
        sample = {"way": str, "told": dict, "graph": object, "episodes": list, "normalize": _normalisation(self._venv)}
        if isinstance(state, dict) and "lost" in state:
            sample["lost"] = str
        if not codec.is_like(state, sample) or state["way"] not in STATE_WAYS:
            raise CheckpointInvalid("the state of its environments is none")

    def repeated_actions(self) -> int:
        """How many actions a resume from here would repeat."""
        return sum(log.length for log in self._logs())

    @property
    def _batched(self) -> bool:
        return not isinstance(self._base, DummyVecEnv)

    def _arrange(self, way: str) -> None:
        """Take the state that way from now on; environments that are stepped together tell theirs, or have none."""
        way = "contract" if self._batched and way != "none" else way
        if way != self.way:
            self._envs = _without_logs(self._envs)
            self._told = (
                {} if way != "contract" else {"batch": self._base} if self._batched else dict(_that_tell(self._envs))
            )
            self._graph = StateGraph(self._roots(), self._own_modules, self._told)
            self._go(way)

    def _decide(self, left: list[list[str]]) -> None:
        """Once an environment was looked into in the middle of an episode: actions only where it must be."""
        if not self._is_decided and not left:
            self._go("graph")
        self._is_decided = True

    def _go(self, way: str) -> None:
        """Take the state that way from the next episode on."""
        if way == "actions" and not self._logs():
            places = [f"[{number}]" if len(self._envs) > 1 else "" for number in range(len(self._envs))]
            self._envs = [
                ActionLog(env, self._own_modules, place) for env, place in zip(self._envs, places, strict=True)
            ]
        elif way != "actions":
            self._envs = _without_logs(self._envs)
        if self._envs:
            self._base.envs = list(self._envs)  # type: ignore[attr-defined]
        self.way = way

    def _logs(self) -> list[ActionLog]:
        return [env for env in self._envs if isinstance(env, ActionLog)]

    def _roots(self) -> dict[str, Any]:
        """What the graph begins at, by the words in which a path begins; the innermost first."""
        if not self._envs:
            return {"env.action_space": self._base.action_space, "env.observation_space": self._base.observation_space}
        roots: dict[str, Any] = {}
        for number, env in enumerate(self._envs):
            place = f"[{number}]" if len(self._envs) > 1 else ""
            roots |= _named_layers(env, place)
            if _tells(env.unwrapped):
                roots[f"env{place}.action_space"] = env.unwrapped.action_space
                roots[f"env{place}.observation_space"] = env.unwrapped.observation_space
        return roots


def put_after_reset(graph: StateGraph, tree: Any, *resets: Callable[..., Any]) -> None:
    """Put `tree` back; where that fails, once more after resets: what they open and import is there then.

    Raises
    ------
    NotRestorable
        It cannot be put back.
    """
    try:
        graph.put(tree)
    except NotRestorable:
        for reset in resets:
            reset()
        graph.learn()
        graph.put(tree)


def _named_layers(env: gymnasium.Env, place: str) -> dict[str, gymnasium.Env]:
    """Its wrappers and itself, the innermost first, by the words in which a path begins."""
    found: dict[str, gymnasium.Env] = {}
    for layer in reversed(list(_layers(env))):
        name = type(layer).__name__ if isinstance(layer, gymnasium.Wrapper) else "env"
        found.setdefault(f"{name}{place}", layer)
    return found


def why_lost(state: dict[str, Any]) -> str:
    """Why a state that `take` gave holds no environments; empty where it does."""
    if "way" not in state:
        return "it was written by kaglaunch 0.1, which kept environments in another form"
    return str(state.get("lost", ""))


def put_normalisation(venv: VecEnv, state: dict[str, Any]) -> None:
    """Put back what rewards are divided by."""
    if isinstance(venv, VecNormalize):
        saved = state["normalize"]
        venv.ret_rms.mean, venv.ret_rms.var = saved["mean"].copy(), saved["var"].copy()
        venv.ret_rms.count = saved["count"]
        venv.returns = saved["returns"].copy()


def _normalisation(venv: VecEnv) -> dict[str, Any] | None:
    if not isinstance(venv, VecNormalize):
        return None
    rms = venv.ret_rms
    return {
        "mean": np.array(rms.mean),
        "var": np.array(rms.var),
        "count": float(rms.count),
        "returns": venv.returns.copy(),
    }


def _without_logs(envs: list[gymnasium.Env]) -> list[gymnasium.Env]:
    return [env.env if isinstance(env, ActionLog) else env for env in envs]


def _that_tell(envs: list[gymnasium.Env]) -> Iterator[tuple[str, Any]]:
    for number, env in enumerate(envs):
        if _tells(env.unwrapped):
            yield f"env[{number}]", env.unwrapped


def _tells(env: Any) -> bool:
    return hasattr(env, "state_dict") and hasattr(env, "load_state_dict")


def _told_by(owner: Any) -> dict[str, Any]:
    """What its `state_dict` gives, and its generator."""
    generator = getattr(owner, "_np_random", None)
    drawn = generator.bit_generator.state if isinstance(generator, np.random.Generator) else None
    try:
        return {"state": codec.copied(owner.state_dict()), "np_random": drawn}
    except Exception as error:  # whatever the researcher's code raises, and what no checkpoint can hold
        name = type(owner).__qualname__
        raise NotRestorable(f"{name} has a state_dict() that fails ({type(error).__name__}: {error}).") from error


def _said_of(left: list[list[str]]) -> str:
    path, why = left[0]
    return f"{path} {why}{f', and {len(left) - 1} more' if len(left) > 1 else ''}."


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    while True:
        yield env
        if not isinstance(env, gymnasium.Wrapper):
            return
        env = env.env
