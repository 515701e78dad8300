"""Measured speed times the work: hours, sessions and quota, and what would fit where the whole does not.

The work is the training and its evaluations. The speed is measured, never assumed; without one there is no plan.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from kernel.contract.checks import Check, failed, passed, warned
from kernel.contract.config import RunConfig
from launcher.targets.base import Quota

NAME = "plan"
PLATFORM_HOURS = 12.0
"""Kaggle's longest session on a CPU or a GPU."""
LAST_SECONDS = 120.0
PAUSES = 3.0
"""The session's machine may take so many times the longest pause that was measured."""
LAST_SHARE = 0.25
"""A session stops training this long before its limit, for the last checkpoint; at most that part of a short one."""


@dataclass(frozen=True)
class Speed:
    """What a timestep and an evaluation cost, and where that was measured."""

    steps_per_s: float
    """Timesteps a second, updates included."""
    evaluation_s: float = 0.0
    """Seconds of one evaluation, all its episodes."""
    evaluation_over: bool = True
    """False: its episodes were cut short, and `evaluation_s` is a lower bound."""
    startup_s: float = 60.0
    """Seconds before a session's training is at speed."""
    where: str = "this machine"
    pause_s: float = 0.0
    """The longest time between two signs of life."""


@dataclass(frozen=True)
class Plan:
    """One training, in hours and sessions."""

    timesteps: int
    evaluations: int
    speed: Speed
    max_hours: float
    """Session limit."""
    accelerator: str | None
    waits: int = 0
    """Publishes that the training waits for; how long they take is not known beforehand."""
    requested: int | None = None
    """Timesteps that were asked for, where whole rollouts make more of them."""
    silence_s: float = 0.0
    """Silence after which the session takes its training for hung; 0 where that is not known."""

    @property
    def training_h(self) -> float:
        """Hours of collecting and updating."""
        return self.timesteps / self.speed.steps_per_s / 3600

    @property
    def evaluation_h(self) -> float:
        """Hours of evaluating."""
        return self.evaluations * self.speed.evaluation_s / 3600

    @property
    def hours(self) -> float:
        """Hours of the whole run, start-up left out."""
        return self.training_h + self.evaluation_h

    @property
    def usable_h(self) -> float:
        """Hours that one session has for it: its limit less start-up and the last checkpoint."""
        return max(0.0, self.max_hours - (self.last_s + self.speed.startup_s) / 3600)

    @property
    def last_s(self) -> float:
        """Seconds that a session keeps for its last checkpoint."""
        return min(LAST_SECONDS, LAST_SHARE * self.max_hours * 3600)

    @property
    def sessions(self) -> int | None:
        """Sessions of `max_hours` that it takes; None where such a session has no time to train at all."""
        return max(1, math.ceil(self.hours / self.usable_h)) if self.usable_h > 0 else None

    @property
    def fits(self) -> bool:
        """Whether one session is enough."""
        return self.sessions == 1

    @property
    def gpu_hours(self) -> float:
        """Quota that it debits: wall-clock of every session, start-up included."""
        if self.accelerator is None or self.sessions is None:
            return 0.0
        return self.hours + self.sessions * (self.max_hours - self.usable_h)

    @property
    def timesteps_that_fit(self) -> int:
        """The most, to two digits, that one session does with its share of the evaluations."""
        one_h = self.speed.evaluation_s / 3600 if self.evaluations else 0.0
        fit = int(self.timesteps * min(1.0, max(0.0, self.usable_h - one_h) / self.hours))
        digits = max(0, len(str(fit)) - 2)
        return fit // 10**digits * 10**digits

    @property
    def nearly_silent(self) -> bool:
        """Whether a slower machine may make the session take its training for hung."""
        return 0 < self.silence_s < PAUSES * self.speed.pause_s

    def assumptions(self) -> list[str]:
        """What the figures rest on."""
        said = [
            f"{self.speed.steps_per_s:,.4g} timesteps/s, updates included, as measured on {self.speed.where}; "
            f"the session's machine is taken to be as fast",
            f"{self.speed.startup_s:.0f} s of start-up a session, and {self.last_s:.0f} s for its last checkpoint",
        ]
        if self.evaluations:
            bound = "" if self.speed.evaluation_over else "at least "
            said.append(f"{self.evaluations:,} evaluations of {bound}{self.speed.evaluation_s:.3g} s each")
        if self.silence_s and self.speed.pause_s:
            pause = f"{self.speed.pause_s:.3g} s without a sign of life at the longest"
            said.append(f"{pause}; silence_s allows {self.silence_s:g} s")
        if self.waits:
            said.append(f"no time for the {self.waits:,} publishes that it waits for (max_timesteps_at_risk)")
        return said

    def sentence(self) -> str:
        """Hours, sessions and quota in one line."""
        parts = f"training {_hours(self.training_h)}"
        if self.evaluations:
            parts += f", {self.evaluations:,} evaluations {_hours(self.evaluation_h)}"
        sessions = f"{self.sessions} session{'s' * (self.sessions != 1)}" if self.sessions else "no session"
        quota = f", {_hours(self.gpu_hours)} of GPU quota" if self.accelerator else ""
        timesteps = f"{self.timesteps:,} timesteps"
        if self.requested is not None:
            timesteps = f"{self.requested:,} timesteps, {self.timesteps:,} with whole rollouts,"
        work = f"{timesteps} take {_hours(self.hours)} ({parts})"
        return f"{work}: {sessions} of {self.max_hours:g} h{quota}"

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        derived = ("training_h", "evaluation_h", "hours", "usable_h", "sessions", "fits", "gpu_hours")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}, "assumptions": self.assumptions()}


def make(
    run: RunConfig,
    speed: Speed,
    max_hours: float,
    accelerator: str | None,
    max_timesteps_at_risk: int = 0,
    silence_s: float = 0.0,
) -> Plan:
    """The plan of a whole run."""
    total = run.whole_timesteps
    evaluations = math.ceil(total / run.eval_freq) if run.eval_freq else 0
    waits = total // max_timesteps_at_risk if max_timesteps_at_risk else 0
    requested = run.total_timesteps if run.total_timesteps != total else None
    return Plan(total, evaluations, speed, max_hours, accelerator, waits, requested, silence_s)


def judge(plan: Plan | None, quota: Quota | None = None, *, relay: bool = False) -> Check:
    """PASS where one session does it, or a relay's; what does not fit is refused with what would."""
    if plan is None:
        return warned(
            NAME,
            "The speed is not known here, so nothing says that the training fits.",
            "The session measures it in its first minutes and says whether it fits (`kaglaunch watch`).",
        )
    assumed = f" Assumed: {'; '.join(plan.assumptions())}."
    fits = plan.fits or (relay and plan.sessions is not None)
    if fits and plan.nearly_silent:
        enough = math.ceil(PAUSES * plan.speed.pause_s)
        return warned(
            NAME,
            f"{plan.sentence()}, but a slower machine may take the training for hung.{assumed}",
            f"Set silence_s = {enough} in section [session] of kaglaunch.toml.",
        )
    if fits:
        return passed(NAME, f"{plan.sentence()}.{assumed}")
    left = f" {quota.left_h:.1f} h of quota are left this week." if quota and plan.accelerator else ""
    return failed(NAME, f"{plan.sentence()}, and one is asked for.{left}{assumed}", "\n".join(_ways(plan)))


def _ways(plan: Plan) -> list[str]:
    """What would fit, as it is typed."""
    ways = ["What would fit:"]
    for max_hours in (1, 2, 3, 4, 6, 9, 11.5, PLATFORM_HOURS):
        if max_hours > plan.max_hours and replace(plan, max_hours=max_hours).fits:
            ways.append(f"  --max-hours {max_hours:g}")
            break
    if (fit := plan.timesteps_that_fit) > 0:
        ways.append(f"  --timesteps {fit}   in a session of {plan.max_hours:g} h")
    if plan.evaluations and plan.training_h <= plan.usable_h:
        ways.append(f"  a larger eval_freq: without any evaluation it takes {_hours(plan.training_h)}")
    longest = replace(plan, max_hours=PLATFORM_HOURS)
    if plan.sessions is not None:
        ways.append(f"  --relay   chains {plan.sessions} sessions of {plan.max_hours:g} h until all timesteps are done")
    elif longest.sessions is not None:
        ways.append(f"  --relay --max-hours {PLATFORM_HOURS:g}   chains {longest.sessions} sessions")
    return ways


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:,.1f} h"
