"""Environments that start processes of their own, as those do that talk to a simulator."""

from __future__ import annotations

import time
from typing import Any

from servers import serve
from toy_environments import DyingQueue, Queue


class Serving(Queue):
    """Is served by processes of its own on fixed ports."""

    def __init__(self, ports: list[int], length: int = 23) -> None:
        super().__init__(length)
        serve(ports)

    def step(self, action: Any) -> Any:
        time.sleep(0.01)
        return super().step(action)


class ServedAndDying(Serving, DyingQueue):
    """Kills its process at one step, the first time, and leaves its servers behind."""
