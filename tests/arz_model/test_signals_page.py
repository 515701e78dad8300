"""docs/signals.md says what there is."""

from pathlib import Path

from arz_model.control import scenarios
from arz_model.control.controllers import CONTROLLERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "signals.md").read_text(encoding="utf-8")


def test_every_scenario_stands_there_with_its_description():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name in scenarios.available():
        assert f"| `{name}` | {scenarios.load(name).description} |" in rows


def test_every_controller_stands_there_and_no_other():
    table = PAGE.partition("| controller | what |")[2].partition("\n\n")[0]
    listed = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert listed == list(CONTROLLERS)
