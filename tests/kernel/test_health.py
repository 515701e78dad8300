"""A rule of health speaks for what it is for, once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kernel import health


def findings(**kwargs: Any) -> set[str]:
    good: dict[str, Any] = {
        "rewards": [float(i % 7) for i in range(200)],
        "actions": [(i * i) % 3 for i in range(200)],
        "episode_returns": [1.0, 2.0],
        "logged": {"train/loss": 0.1},
        "num_actions": 3,
    }
    return {finding.rule for finding in health.training_findings(**{**good, **kwargs})}


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        ({}, set()),
        ({"rewards": [0.01] * 200, "episode_returns": []}, {"constant_reward"}),
        ({"rewards": [1.0] * 200, "episode_returns": [12.0, 31.0]}, set()),
        ({"rewards": [0.01] * 199, "episode_returns": []}, set()),
        ({"actions": [1] * 200}, {"one_action"}),
        ({"actions": [0, 1] * 100}, {"alternating_actions"}),
        ({"actions": [0] * 200, "num_actions": 0}, set()),
        ({"logged": {"train/loss": math.nan}}, {"not_finite"}),
        ({"rewards": [1.0, 2.0, math.inf]}, {"not_finite"}),
    ],
)
def test_health_rule_speaks_for_what_it_is_for_and_nothing_else(changed: dict[str, Any], rules: set[str]) -> None:
    assert findings(**changed) == rules


def test_health_finding_is_told_once_until_it_goes_away() -> None:
    watch = health.Health()
    assert len(watch.fresh(health.speed_findings(1.0))) == 1
    assert watch.fresh(health.speed_findings(1.0)) == []
    assert watch.fresh(health.speed_findings(50.0)) == []
    assert len(watch.fresh(health.speed_findings(1.0))) == 1
    assert [f.rule for f in health.memory_findings(95, 100)] == ["memory"]
    assert list(health.memory_findings(80, 100)) == []
