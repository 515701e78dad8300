"""Mutants are made as they should be, and a fixed sample of those of the safety rules is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import mutation

RULES = '''
LIMIT = 2.5

def rule(x: int = 3) -> bool:
    """Words and 3."""
    if x < 4 and not late:
        raise ValueError(f"{x + 1} is too many")
    return x + y

class Held:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        logger.info(7)
        return True
'''


def test_each_rule_limit_and_verdict_is_changed_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(RULES)
    made = mutation.mutants(str(tmp_path / "rules.py"))
    assert [(one.line, one.change) for one in made] == [
        (2, ": LIMIT = 2.5 -> LIMIT = 5.0"),
        (6, "rule: x < 4 and (not late) -> not (x < 4 and (not late))"),
        (6, "rule: x < 4 and (not late) -> x < 4 or not late"),
        (6, "rule: x < 4 -> x <= 4"),
        (6, "rule: x < 4 -> x < 5"),
        (6, "rule: x < 4 -> x < 3"),
        (7, "rule: raise ValueError(f'{x + 1} is too many') -> pass"),
        (8, "rule: return x + y -> return None"),
        (8, "rule: x + y -> x - y"),
        (15, "Held.add: self.n += 1 -> pass"),
        (15, "Held.add: self.n += 1 -> self.n -= 1"),
        (15, "Held.add: self.n += 1 -> self.n += 2"),
        (15, "Held.add: self.n += 1 -> self.n += 0"),
        (16, "Held.add: logger.info(7) -> logger.info(8)"),
        (16, "Held.add: logger.info(7) -> logger.info(6)"),
        (17, "Held.add: return True -> return False"),
    ]
    assert "return x - y" in made[8].source
    assert "return x - y" not in made[9].source


@pytest.mark.slow
def test_a_sample_of_the_mutants_of_the_safety_rules_is_noticed() -> None:
    sample = {}
    for module, known in mutation.TABLE.items():
        made = [one for one in mutation.mutants(module) if one.change not in known.get("survivors", {})]
        sample[module] = made[7 :: len(made) // 2]
    assert sum(map(len, sample.values())) >= 2 * len(sample)
    assert mutation.survivors(sample) == []


@pytest.mark.slow
def test_a_mutant_that_works_or_sleeps_without_end_is_noticed_and_one_that_is_late_is_not() -> None:
    module = "kernel/training/cadence.py"
    whole = (mutation.ROOT / module).read_text("utf-8")
    changes = ("while True: pass", "import time; time.sleep(1e6)", "import time; time.sleep(3)")
    works, sleeps, late = (mutation.Mutant(module, 1, change, f"{whole}\n{change}\n") for change in changes)
    assert mutation.survivors({module: [works, sleeps, late]}) == [late]


@pytest.mark.parametrize("module", mutation.TABLE)
def test_what_is_excused_is_a_mutant_that_there_is_and_its_tests_exist(module: str) -> None:
    known = mutation.TABLE[module]
    assert set(known.get("survivors", {})) <= {one.change for one in mutation.mutants(module)}
    assert all((mutation.ROOT / path).is_file() for path in known["tests"])
