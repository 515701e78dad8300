"""The conformance kit tells apart what can be gone on from and what cannot, on a part of the gallery."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.conformance import certify, expected
from tests.limits import limit_s

from .support import environment

GALLERY = expected()
NAMES = {place.partition(":")[2]: place for place in GALLERY}
SAMPLE = ("Iterating", "InnerNew", "Worker", "Words", "FileCounter")


def test_the_gallery_has_many_kinds_of_both() -> None:
    proved = sum(wanted == "proved" for wanted in GALLERY.values())
    assert proved >= 120
    assert len(GALLERY) - proved >= 40
    assert set(SAMPLE) <= set(NAMES)
    assert len(NAMES) == len(GALLERY)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What differs where the graph of each exhibit is put back in another process."""
    folder = tmp_path_factory.mktemp("twice")
    for verb in ("take", "put"):
        command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "gallery_twice.py"), verb, str(folder)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(PYTHONHASHSEED="0"),
            capture_output=True,
            text=True,
            timeout=limit_s(250),
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_the_graph_holds_goes_on_in_another_process_as_it_would_have(twice: dict[str, str]) -> None:
    assert {place: said for place, said in twice.items() if said not in ("", "left")} == {}
    assert sum(said == "" for said in twice.values()) >= 95


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_an_exhibit_comes_out_as_it_must(name: str) -> None:
    came = certify(NAMES[name], GALLERY[NAMES[name]], kills=1)
    assert came.holds, came.said


@pytest.mark.slow
def test_what_cannot_be_gone_on_from_at_all_is_said_to_fail(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kernel.training.conformance", "toy_environments:BrokenQueue"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=limit_s(120), check=False
    )
    assert done.returncode == 1
    assert "the light is broken" in done.stderr


def test_an_environment_or_a_configuration_is_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kernel.training.conformance"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=limit_s(120), check=False
    )
    assert done.returncode == 2
    assert "name an environment, or give --config" in done.stderr
