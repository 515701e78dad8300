"""Environments that take their time, and such as never come back."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

from toy_environments import OpaqueQueue, Queue

from kernel.training.evaluation import SEED_OFFSET


def once(name: str) -> bool:
    """Whether this is the first time in the working folder."""
    try:
        Path(f"{name}.txt").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def stopped() -> None:
    """As by a debugger."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)  # still in here when it goes on, to be seen


def deadlocked() -> None:
    """Wait for who waits for us."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def lost_in_c() -> None:
    """A search that takes longer than the world lasts and holds the interpreter's lock."""
    re.search("(a+)+$", "a" * 60 + "b")


def broken_optimizer() -> None:
    """From here on an update never ends."""
    import torch

    torch.optim.Adam.step = lambda *_, **__: time.sleep(3600)  # type: ignore[method-assign]


class Hung(Queue):
    """Does `how` in one step, the first time, once a checkpoint is there; in an evaluation if that is wanted."""

    def __init__(self, how: str, evaluating: bool = False) -> None:
        super().__init__()
        self.how, self.wanted, self.evaluating = how, evaluating, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.evaluating = self.evaluating or (seed or 0) >= SEED_OFFSET
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self.t == 15 and self.evaluating == self.wanted and once("hung"):
            while not any(Path("checkpoints").glob("checkpoint_t*.zip")):
                time.sleep(0.005)
            globals()[self.how]()
        return super().step(action)


class LongEvaluation(Queue):
    """Takes `pause_s` for each step of an evaluation."""

    def __init__(self, pause_s: float, length: int) -> None:
        super().__init__(length)
        self.pause_s, self.evaluating = pause_s, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.evaluating = self.evaluating or (seed or 0) >= SEED_OFFSET
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self.evaluating:
            time.sleep(self.pause_s)
        return super().step(action)


class LongUpdate(Queue):
    """Each step of an optimizer takes `pause_s`."""

    def __init__(self, pause_s: float) -> None:
        import torch

        super().__init__()
        step = torch.optim.Adam.step

        def slowly(*args: Any, **kwargs: Any) -> Any:
            time.sleep(pause_s)
            return step(*args, **kwargs)

        torch.optim.Adam.step = slowly  # type: ignore[method-assign]


class LongToRepeat(OpaqueQueue):
    """Its actions are repeated at a restore, and each takes `pause_s`; it dies at one step, the first time."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(100)
        self.pause_s = pause_s

    def step(self, action: Any) -> Any:
        time.sleep(self.pause_s)
        if self.t == 35 and once("died"):
            os._exit(3)
        return super().step(action)


class OneLongStep(Queue):
    """One step takes `pause_s`, in each life."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(100)
        self.pause_s = pause_s

    def step(self, action: Any) -> Any:
        if self.t == 15:
            time.sleep(self.pause_s)
        return super().step(action)
