"""Compiled kernels are kept on disk: found again, never mistaken for another, never needed."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config, njit

from arz_model import kernel_cache
from arz_model.kernel_cache import FOLDER_VARIABLE, keep_on_disk, named_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["shared", "numba's"])
def folder(tmp_path, monkeypatch, request):
    if request.param == "shared":
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    else:
        monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def make(factor):
    """A kernel that numba's own cache would not know again: it calls another one of the same closure."""

    def part(x):
        return factor * x

    part = njit(named_for(part, factor))

    def kernel(x):
        return part(x) + 1

    return keep_on_disk(njit(named_for(kernel, factor)))


def data_files(folder):
    return sorted(folder.rglob("*.nbc"))


def test_a_kernel_is_compiled_once_for_each_thing_it_is_made_for(folder):
    first, other, again = make(2), make(3), make(2)
    assert (first(5), other(5), again(5)) == (11, 16, 11)
    assert [sum(kernel.stats.cache_hits.values()) for kernel in (first, other, again)] == [0, 0, 1]
    assert len(data_files(folder)) == 2


def test_a_changed_source_is_compiled_again(folder, monkeypatch):
    make(2)(5)
    monkeypatch.setattr(kernel_cache, "SOURCE_DIGEST", "another")
    changed = make(2)
    assert changed(5) == 11
    assert not changed.stats.cache_hits


def test_a_file_that_holds_another_kernel_is_not_taken(folder):
    """As when two processes compile at once and choose the same name; the last one's file stays."""
    make(2)(5)
    make(3)(5)
    first, second = data_files(folder)
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    found = make(2)
    assert found(5) == 11
    assert not found.stats.cache_hits


def advance_roads(folder, *n_cells, source=ROOT):
    """What a process finds on roads of so many cells: sums of densities, and whether each kernel came from disk."""
    script = """
import sys
import numpy as np
from arz_model.network import Network, Segment
from arz_model.solver import Solver
for n in map(int, sys.argv[1:]):
    solver = Solver(Network((Segment("a", 10.0 * n, n, saturation_flow=0.5),)), device="cpu")
    solver.advance(30, np.full((1, 1, 1, 2), 0.2))
    print(n, float(solver.density(0).sum()), sum(solver._advance.stats.cache_hits.values()))
"""
    command = [sys.executable, "-c", script, *map(str, n_cells)]
    environment = {**os.environ, FOLDER_VARIABLE: str(folder), "PYTHONPATH": str(source)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return {int(n): (float(total), int(hits)) for n, total, hits in map(str.split, done.stdout.splitlines())}


def test_kernels_that_two_processes_compiled_work_side_by_side_in_a_third(tmp_path):
    """Names are numbered anew in each process: the second kernel read must not call the loops of the first."""
    compiled = {**advance_roads(tmp_path, 100), **advance_roads(tmp_path, 400)}
    read = advance_roads(tmp_path, 400, 100)
    assert [hits for _, hits in compiled.values()] == [0, 0]
    assert [hits for _, hits in read.values()] == [1, 1]
    assert {n: total for n, (total, _) in read.items()} == {n: total for n, (total, _) in compiled.items()}
    assert compiled[100][0] > 0.1


def test_kernels_of_one_copy_serve_another_copy_of_the_same_source_alone(tmp_path):
    copy, changed = tmp_path / "copy", tmp_path / "changed"
    for place in (copy, changed):
        shutil.copytree(ROOT / "arz_model", place / "arz_model", ignore=shutil.ignore_patterns("__pycache__"))
    with (changed / "arz_model" / "physics.py").open("a") as file:
        file.write("# another source\n")
    first = advance_roads(tmp_path, 100)
    assert advance_roads(tmp_path, 100, source=copy) == {100: (first[100][0], 1)}
    assert advance_roads(tmp_path, 100, source=changed) == {100: (first[100][0], 0)}


@pytest.mark.parametrize("suffix", ["*.nbc", "*.nbi"])
def test_a_damaged_file_is_replaced(folder, suffix, caplog):
    make(2)(5)
    (file,) = folder.rglob(suffix)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert make(2)(5) == 11
    assert "damaged" in caplog.text
    found = make(2)
    assert found(5) == 11
    assert found.stats.cache_hits


def test_a_folder_that_cannot_be_used_only_costs_time(folder, caplog):
    kernel = make(2)
    place = Path(kernel._cache.cache_path)
    if place.exists():
        place.rmdir()
    place.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert kernel(5) == 11
    assert "cannot be read" in caplog.text
    assert "cannot be kept" in caplog.text
    assert place.read_text() == "not a folder"
