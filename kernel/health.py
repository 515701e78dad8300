"""Signs that a training is worthless, as rules over what it measures of itself: pure, and told once each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

MIN_STEPS = 200
"""Steps to look at before a rule may speak."""
MIN_STEPS_PER_S = 5.0
SPEED_WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """One rule that a training broke: its figure, and the limit it was held to."""

    rule: str
    figure: float | int | str
    limit: float | int | str
    message: str


@dataclass
class Health:
    """Remembers which rules have spoken, so that each does so once until it is kept again."""

    told: set[str] = field(default_factory=set)

    def fresh(self, findings: Iterator[Finding]) -> list[Finding]:
        """Those of `findings` that were not told before; a rule that is kept again may speak again."""
        current = list(findings)
        new = [finding for finding in current if finding.rule not in self.told]
        self.told = {finding.rule for finding in current}
        return new


def training_findings(
    rewards: Sequence[float],
    actions: Sequence[int],
    episode_returns: Sequence[float],
    logged: dict[str, Any],
    num_actions: int,
) -> Iterator[Finding]:
    """What the last steps, episodes and logged losses say."""
    for key, value in sorted(logged.items()):
        if isinstance(value, float) and not math.isfinite(value):
            yield Finding("not_finite", repr(value), "finite", f"{key} is {value!r}: the training has diverged.")
            break
    if rewards and not math.isfinite(rewards[-1]):
        yield Finding("not_finite", repr(rewards[-1]), "finite", f"The reward is {rewards[-1]!r}.")
    if len(rewards) >= MIN_STEPS and len(set(rewards)) == 1 and len(set(episode_returns)) <= 1:
        yield Finding(
            "constant_reward",
            rewards[-1],
            f"varying within {len(rewards)} steps",
            f"The reward was {rewards[-1]:g} in each of the last {len(rewards)} steps: there is nothing to learn from.",
        )
    if num_actions > 1 and len(actions) >= MIN_STEPS:
        recent = list(actions)[-MIN_STEPS:]
        if len(set(recent)) == 1:
            yield Finding(
                "one_action",
                recent[-1],
                f"{num_actions} actions",
                f"The policy chose action {recent[-1]} in each of the last {len(recent)} steps.",
            )
        elif recent[2:] == recent[:-2]:
            yield Finding(
                "alternating_actions",
                f"{recent[-2]},{recent[-1]}",
                f"{num_actions} actions",
                f"The policy alternated {recent[-2]},{recent[-1]} over the last {len(recent)} steps.",
            )


def speed_findings(steps_per_s: float | None, floor: float = MIN_STEPS_PER_S) -> Iterator[Finding]:
    """Whether training is too slow to be worth its hours."""
    if steps_per_s is not None and steps_per_s < floor:
        yield Finding(
            "slow",
            round(steps_per_s, 3),
            floor,
            f"Training makes {steps_per_s:.3g} timesteps/s; the floor is {floor:g}.",
        )


def memory_findings(used_bytes: int, total_bytes: int, max_share: float = 0.9) -> Iterator[Finding]:
    """Whether the trainer is about to be killed for its memory."""
    if total_bytes > 0 and used_bytes > max_share * total_bytes:
        yield Finding(
            "memory",
            used_bytes,
            int(max_share * total_bytes),
            f"The trainer holds {used_bytes / 2**30:.1f} GiB of {total_bytes / 2**30:.1f} GiB.",
        )


def silence_findings(seconds: float, limit: float, phase: str, longest: float) -> Iterator[Finding]:
    """Whether the trainer gave no sign of life for too long, in a `phase` that took `longest` [s] before."""
    if seconds > limit:
        before = f", which took {longest:.3g} s at the most" if longest else ""
        message = (
            f"No sign of life for {seconds:.0f} s while {phase}{before}: it starts again. "
            "What may take so long is allowed by a larger silence_s in [session]."
        )
        yield Finding("silence", round(seconds, 1), round(limit, 1), message)
