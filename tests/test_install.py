"""A set-up tells what it downloads and installs, is never silent for long, and ends as pip ends."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.limits import limit_s

RUN = runpy.run_path(str(Path(__file__).parents[1] / "requirements" / "install.py"))["run"]
QUIET = """
import pathlib, time
print("Requirement already satisfied: six in ./.venv", flush=True)
print("Downloading torch (191.4 MB)", flush=True)
until = time.monotonic() + LIMIT_S
while not pathlib.Path(GO).exists():
    assert time.monotonic() < until
    time.sleep(0.01)
"""


def test_what_is_there_needs_no_line_and_a_long_silence_has_one(tmp_path: Path) -> None:
    go, told = tmp_path / "go", list[str]()

    def say(text: str) -> None:
        told.append(text)
        if "…" in text:
            go.touch()

    assert RUN([sys.executable, "-c", f"GO, LIMIT_S = {str(go)!r}, {limit_s(10)}\n{QUIET}"], say, every_s=0.05) == 0
    told = [line for line in told if "…" not in line]
    assert told == ["Downloading torch (191.4 MB)"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_set_up_fails_where_pip_does(code: int) -> None:
    assert RUN([sys.executable, "-c", f"raise SystemExit({code})"], lambda text: None) == code
